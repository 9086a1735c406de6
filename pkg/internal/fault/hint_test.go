// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
)

// The table is that of Python's tests, too (test_hints.py).
func TestHintInTheWordsOfGo(t *testing.T) {
	text, err := os.ReadFile("testdata/hints.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Hint Hint
		Go   string
	}
	if err := json.Unmarshal(text, &table); err != nil || len(table) < 20 {
		t.Fatalf("%d rows, %v", len(table), err)
	}
	for _, row := range table {
		if got := row.Hint.String(); got != row.Go {
			t.Errorf("%s\n  is %s\nwant %s", string(row.Hint), got, row.Go)
		}
	}
}

// What is filled in comes out as it went in, even if it looks like a mark.
func TestNothingFilledInIsAMark(t *testing.T) {
	values := []string{"{host_key}", `{url="x"}`, "{{host_key}}", "{", "}", "}{url}{", "{{{url}}}", "{via=", "a{b}c", "%s{key}"}
	for _, value := range values {
		for format, want := range map[string]string{
			"say %s.": "say %s.", "%s{host_key}": "%sConfig.HostKey", "{{%s}}": "{%s}",
			"{host_key} %s": "Config.HostKey %s", "{key=%s}": "Config.Key = %s", "%[1]s {url}": "%s Config.URL",
		} {
			if got, want := Hintf(format, value).String(), fmt.Sprintf(want, value); got != want {
				t.Errorf("Hintf(%q, %q) is %q, want %q", format, value, got, want)
			}
		}
	}
	if got := string(Hintf("a%s", Hint("; pass {remote}"))); got != "a; pass {remote}" {
		t.Errorf("a hint in a hint: %q", got)
	}
	if got := Hintf("port %d of %q", 80, "{url}").String(); got != `port 80 of "{url}"` {
		t.Error(got)
	}
	for i, e := range []*Error{
		LoginRefused("{host_key}", "a:22", "", []string{"ssh-ed25519 AAAA me{url}"}, net.ErrClosed), NoSecret("{url}", "k", ""), NoRead("{url}", ""),
		NotOurs("http://h/", "", &net.UnixAddr{Name: "/run/{url}.sock", Net: "unix"}, true), NoCommands("{url}", "{url}", 22, net.ErrClosed),
		NoWorkspace("{url}"), HostKeyUnknown("a:22", "ssh-ed25519", "SHA256:{url}", ""), NotesOnly("{url}", "{host_key}", ""),
	} {
		if got := e.Hint.String(); !strings.Contains(got, "{url}") || i == 0 && !strings.Contains(got, "~{host_key}/") {
			t.Errorf("hint %d is %q", i, got)
		}
	}
}

// Logs and fmt have Go's words, JSON the marks.
func TestWhereAHintIsShown(t *testing.T) {
	e := Config(`write {url="https://host/"}`, "url is none")
	const want = `write Config.URL = "https://host/"`
	for verb, got := range map[string]string{"%v": fmt.Sprintf("%v%s", e.Hint, ""), "%w": fmt.Errorf("%w%s", errors.New(""), e.Hint).Error(), "print": fmt.Sprint(e.Hint)} {
		if got != want {
			t.Errorf("by %s: %s", verb, got)
		}
	}
	var text, object bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Warn("x", "hint", e.Hint)
	slog.New(slog.NewJSONHandler(&object, nil)).Warn("x", "hint", e.Hint)
	var log struct{ Hint string }
	if err := json.Unmarshal(object.Bytes(), &log); err != nil || log.Hint != want || !strings.Contains(text.String(), "Config.URL = ") {
		t.Errorf("logged as %q and %q: %v", text.String(), log.Hint, err)
	}
	passed, err := json.Marshal(e)
	if err != nil || !strings.Contains(string(passed), `"hint":"write {url=\"https://host/\"}"`) {
		t.Errorf("%s, %v", passed, err)
	}
}
