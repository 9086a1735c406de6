// SPDX-License-Identifier: Apache-2.0

// Package compat is for tests: what they have tried becomes docs/compatibility.md.
//
//	for _, c := range cases {
//		t.Run(c.name, func(t *testing.T) {
//			_, err := open(c)
//			… // the test's own judgement, which does not depend on this
//			compat.Row(t, "keys", c.name, compat.Outcome(err))
//
// `./build.sh compat table` runs every test whose file calls Row, and Python's that use the fixture `compat`, which
// is the same; then Page makes the tables of what they noted.
package compat

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// Groups are the tables of the page, in its order.
var Groups = []string{"keys", "host keys", "accounts", "shells", "servers", "apps", "platforms"}

// rows is the file that rows are appended to; "" if nobody wants them. Read before a test clears its environment.
var rows = os.Getenv("TAIPY_TUNNEL_COMPAT")

// Taken is the outcome of what simply works.
const Taken = "taken"

// Outcome is what becomes of a set-up: Taken, or the refusal with its message.
func Outcome(err error) string {
	if err == nil {
		return Taken
	}
	return "refused: " + err.Error()
}

// Row notes what became of a set-up that people have. group is one of Groups. tried reads like documentation, and
// no other row of the group has it: "PKCS#8 with a passphrase (ssh-keygen -m PKCS8)". outcome begins with "taken" or
// "refused", as Outcome's does: "taken: the file's other lines are passed over". A row of a test that has failed, or
// of one that nobody asked for rows, is not written.
func Row(t testing.TB, group, tried, outcome string) {
	t.Helper()
	if !slices.Contains(Groups, group) {
		t.Errorf("no group %q, but %q", group, Groups)
	}
	if verb, _, _ := strings.Cut(outcome, ":"); verb != Taken && verb != "refused" {
		t.Errorf("outcome %q does not begin with %q or %q", outcome, Taken, "refused: ")
	}
	if rows == "" || t.Failed() {
		return
	}
	line, err := json.Marshal(row{group, tried, outcome})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(rows, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil { // one call: other processes append too
		t.Fatal(err)
	}
}

// row is a line of the file.
type row struct {
	Group   string `json:"group"`
	Tried   string `json:"tried"`
	Outcome string `json:"outcome"`
}
