// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var write = flag.String("write", "", "a file of rows, of which docs/compatibility.md is made, in place of tests")

func TestMain(m *testing.M) {
	flag.Parse()
	if *write == "" {
		os.Exit(m.Run())
	}
	if err := writePage(*write); err != nil {
		panic(err)
	}
}

// writePage is how ./build.sh writes the page.
func writePage(noted string) error {
	rows, err := os.Open(noted)
	if err != nil {
		return err
	}
	defer rows.Close()
	page := filepath.FromSlash("../../../docs/compatibility.md")
	before, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	after, err := Page(string(before), rows)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(after), 0o644)
}

func TestRowsBecomeThePage(t *testing.T) {
	rows = filepath.Join(t.TempDir(), "rows")
	t.Cleanup(func() { rows = "" })
	Row(t, "servers", "zeta", Taken)
	Row(t, "keys", "b", Outcome(errors.New("key \"/tmp/x12/001/id_rsa\" fits <nothing>\nat 127.0.0.1:40123, SHA256:uNiVztksCsDhcc0u9e8BrrM5wm71mB4U7dFc4NYnHAg (gave up after 12s)")))
	Row(t, "keys", `c|d\n`, Taken+": in the end")
	Row(t, "keys", `c|d\n`, Taken+": in the end") // the test ran twice
	Row(t, "keys", "a", Outcome(errors.New("port 5000 is free")))
	noted, err := os.ReadFile(rows)
	if err != nil {
		t.Fatal(err)
	}
	const want = "By hand.\n\n" + Marker + `
## Keys

| tried | outcome |
|---|---|
| c\|d\\n | taken: in the end |
| a | refused: port 5000 is free |
| b | refused: key "…/id_rsa" fits &lt;nothing> at 127.0.0.1:PORT, SHA256:… |

## Servers

| tried | outcome |
|---|---|
| zeta | taken |
`
	page, err := Page("By hand.\n\n"+Marker+"old", strings.NewReader(string(noted)))
	if err != nil || page != want {
		t.Errorf("%v\n%s", err, page)
	}
	again, err := Page(page, strings.NewReader(string(noted)))
	if err != nil || again != page {
		t.Errorf("%v, the second time:\n%s", err, again)
	}
	Row(t, "keys", "a", Taken)
	noted, _ = os.ReadFile(rows)
	if _, err := Page(page, strings.NewReader(string(noted))); err == nil || !strings.Contains(err.Error(), `keys, "a" is both`) {
		t.Errorf("two outcomes of one row: %v", err)
	}
	if _, err := Page("no marker", strings.NewReader("")); err == nil {
		t.Error("a page without the marker would be lost")
	}
}

func TestNobodyAsked(t *testing.T) {
	rows = ""
	t.Chdir(t.TempDir())
	Row(t, "apps", "nothing", Taken)
	if found, _ := os.ReadDir("."); len(found) > 0 {
		t.Errorf("wrote %v", found)
	}
}
