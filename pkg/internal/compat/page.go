// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Marker ends what a person has written of the page.
const Marker = "<!-- what follows is written by ./build.sh compat table -->\n"

// varying is what another run has otherwise, and what stands for it.
var varying = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\s+`), " "},
	{regexp.MustCompile(`/(?:tmp|var/tmp|dev/shm)/(?:[^\s"'/:;]+/)*`), "…/"},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}=?`), "SHA256:…"},
	{regexp.MustCompile(`(:|\bport )[1-9]\d{4}\b`), "${1}PORT"}, // those of five digits are the test machines'
	{regexp.MustCompile(`"(SSH-2\.0-[^" ]+) [^"]*"`), `"$1"`},   // TinySSH draws by lot what it says after its version
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "…"},               // crypto/rand.Text
	{regexp.MustCompile(` \((?:gave up )?after [^)]*\)`), ""},
	{regexp.MustCompile(`\b(after|within) \d+(?:\.\d+)? ?(?:ms|s)\b`), "$1 … s"},
	{regexp.MustCompile(`\b(pid|process) \d+\b`), "$1 N"},
}

// cell is a text as a cell of a table.
var cell = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`)

// Page is the page with the tables of the rows that were noted, sorted. before is the page as it is, of which stays
// what is above Marker. Two rows of the same name that do not say the same are an error.
func Page(before string, noted io.Reader) (string, error) {
	tables := map[string]map[string]string{}
	for in := json.NewDecoder(noted); ; {
		var r row
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", err
		}
		for _, v := range varying {
			r.Tried, r.Outcome = v.is.ReplaceAllString(r.Tried, v.as), v.is.ReplaceAllString(r.Outcome, v.as)
		}
		if tables[r.Group] == nil {
			tables[r.Group] = map[string]string{}
		}
		if old, twice := tables[r.Group][r.Tried]; twice && old != r.Outcome {
			return "", fmt.Errorf("%s, %q is both %q and %q", r.Group, r.Tried, old, r.Outcome)
		}
		tables[r.Group][r.Tried] = r.Outcome
	}
	head, _, marked := strings.Cut(before, Marker)
	if !marked {
		return "", fmt.Errorf("the page has no line %q", Marker)
	}
	page := strings.Builder{}
	page.WriteString(head + Marker)
	for _, group := range Groups {
		if len(tables[group]) == 0 {
			continue
		}
		fmt.Fprintf(&page, "\n## %s%s\n\n| tried | outcome |\n|---|---|\n", strings.ToUpper(group[:1]), group[1:])
		for _, r := range sorted(tables[group]) {
			fmt.Fprintf(&page, "| %s | %s |\n", cell.Replace(r.Tried), cell.Replace(r.Outcome))
		}
	}
	return page.String(), nil
}

// sorted are the rows of a table, what is taken first.
func sorted(table map[string]string) (all []row) {
	for tried, outcome := range table {
		all = append(all, row{"", tried, outcome})
	}
	order := func(r row) string { // "taken" would come last
		return strconv.FormatBool(!strings.HasPrefix(r.Outcome, Taken)) + strings.ToLower(r.Tried) + r.Tried
	}
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(order(a), order(b)) })
	return all
}
