// SPDX-License-Identifier: Apache-2.0

package command

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each command line of the documents is one.
func TestDocumentedCommandLines(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	shown, tried := regexp.MustCompile("(?m)^ {4,}(taipy-tunnel .*)$|`(taipy-tunnel [^`]+)`"), 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shown.FindAllStringSubmatch(string(text), -1) {
			line, _, _ := strings.Cut(m[1]+m[2], " | ")
			words := strings.Fields(line)[1:]
			if len(words) < 3 || words[len(words)-1] == "…" { // named, not to be run
				continue
			}
			tried++
			c, args, err := (&run{}).root().Find(words)
			if err == nil {
				err = c.ParseFlags(args)
			}
			if err == nil {
				err = c.ValidateArgs(c.Flags().Args())
			}
			if err != nil || c.HasSubCommands() {
				t.Errorf("%s: %q: %v", filepath.Base(page), m[0], err)
			}
		}
	}
	if tried < 5 {
		t.Errorf("%d command lines", tried)
	}
}
