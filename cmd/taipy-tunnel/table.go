// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
)

const width = 80 // columns, of a screen or a mail

// drawn is a row, with what does not fit into the width below it.
func drawn(r command.Row) string {
	start := fmt.Sprintf("%-5s%-12s ", r.State(), r.Step)
	below := strings.Repeat(" ", utf8.RuneCountInString(start))
	text := command.Wrap(r.Seen, width, start, below)
	if r.Hint != "" {
		text += "\n" + command.Wrap(r.Hint, width, below+"-> ", below+"   ")
	}
	return text
}
