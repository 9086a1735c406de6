// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"
	"unicode/utf8"
)

// Event is what a command tells, to be shown to a person.
type Event struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text,omitempty"`
	// Hint of a Failure: what to do. "": nothing can be advised.
	Hint string `json:"hint,omitempty"`
	// Rows of a Table.
	Rows []Row `json:"rows,omitempty"`
}

// Kind is what an event is.
type Kind string

// The kinds of events.
const (
	Text    Kind = "text"     // a part of the answer, of one or more lines, for standard output
	Table   Kind = "table"    // a part of the answer, as rows
	Notice  Kind = "notice"   // a line of what goes on meanwhile, for standard error
	View    Kind = "view"     // what is now, in lines that take the place of those of the View before; at a terminal only
	Failure Kind = "failure"  // why the command ends, for standard error
	GivenUp Kind = "given up" // what is to be said if the person ends the command after this, and not otherwise; "": nothing any more
)

// Row is one step that was looked at.
type Row struct {
	// OK: nothing is wrong. Warn: but somebody should look at it. Skipped: it was not looked at, because of a row before, and is not OK.
	OK      bool `json:"ok"`
	Warn    bool `json:"warn,omitempty"`
	Skipped bool `json:"skipped,omitempty"`
	// Step is what was looked at, Seen what was seen, Hint what to do, "" if nothing.
	Step string `json:"step"`
	Seen string `json:"seen"`
	Hint string `json:"hint,omitempty"`
}

// State is "ok", "warn", "skip" or "FAIL".
func (r Row) State() string {
	switch {
	case r.Skipped:
		return "skip"
	case !r.OK:
		return "FAIL"
	case r.Warn:
		return "warn"
	}
	return "ok"
}

// Wrap is a text in lines of at most so many characters, the first of which begins with first, the others with then. A word that is
// longer stays whole.
func Wrap(text string, width int, first, then string) string {
	var lines []string
	line, begun := first, false
	for _, word := range strings.Fields(text) {
		switch {
		case !begun:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines, line = append(lines, line), then+word
		default:
			line += " " + word
		}
		begun = true
	}
	return strings.Join(append(lines, line), "\n")
}
