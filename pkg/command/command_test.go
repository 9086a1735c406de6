// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// said is what a command line tells.
type said struct {
	events []Event
	code   int
}

// runs runs a command line, with a text as its standard input.
func runs(t *testing.T, input string, args ...string) (s said) {
	t.Helper()
	s.code = Run(t.Context(), args, Face{Version: "1.2.3", Show: func(e Event) { s.events = append(s.events, e) },
		Input: func(context.Context) ([]byte, error) { return []byte(input), nil }})
	return s
}

// of is what events of one kind say.
func (s said) of(kind Kind) string {
	var text []string
	for _, e := range s.events {
		if e.Kind == kind {
			text = append(text, e.Text)
			if e.Hint != "" {
				text = append(text, e.Hint)
			}
		}
	}
	return strings.Join(text, "\n")
}

// described writes a machine's description to a file, and returns its path.
func described(t *testing.T) (path, text string) {
	t.Helper()
	text = `{"tenants": [{"name": "sales", "keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPH2cMbZnGGbQzYSHvWZLhLQHJ4bM0Z5G7sMVzqhLXz5 a"], "host": "proxy.example.com", "apps": [{"name": "forecast"}]}]}`
	path = filepath.Join(t.TempDir(), "machine.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, text
}

// The table is that of package fault's tests and Python's, too.
func TestHintsInTheWordsOfTheCommand(t *testing.T) {
	text, err := os.ReadFile("../internal/fault/testdata/hints.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Hint    fault.Hint
		Command string
	}
	if err := json.Unmarshal(text, &table); err != nil || len(table) < 20 {
		t.Fatalf("%d rows, %v", len(table), err)
	}
	check, _, err := (&run{}).root().Find([]string{"proxy", "check"})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range table {
		if got := row.Hint.In(words(check)); got != row.Command {
			t.Errorf("%s\n  is %s\nwant %s", string(row.Hint), got, row.Command)
		}
	}
}

func TestATextOfAMachine(t *testing.T) {
	path, text := described(t)
	for _, from := range []string{path, "-"} {
		script := runs(t, text, "proxy", "script", from)
		if script.code != OK || !strings.HasPrefix(script.of(Text), "#!/bin/sh\n") || !strings.Contains(script.of(Text), "Match User sales") {
			t.Errorf("%s: %d, %s", from, script.code, script.of(Failure))
		}
		c := exec.Command("sh", "-n")
		c.Stdin = strings.NewReader(script.of(Text))
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if init := runs(t, text, "proxy", "cloud-init", "-"); init.code != OK || !strings.HasPrefix(init.of(Text), "#cloud-config\n") {
		t.Errorf("%d, %s", init.code, init.of(Failure))
	}
	var answer struct{ Text string }
	if err := json.Unmarshal([]byte(runs(t, "", "proxy", "script", path, "--json").of(Text)), &answer); err != nil || !strings.HasPrefix(answer.Text, "#!/bin/sh\n") {
		t.Errorf("in JSON: %v", err)
	}
}

func TestFilesOfAMachine(t *testing.T) {
	path, _ := described(t)
	dir := filepath.Join(t.TempDir(), "below", "it")
	for range 2 { // what is there is written again
		if s := runs(t, "", "proxy", "render", path, dir); s.code != OK || !strings.Contains(s.of(Text), "files written below that directory:\n    /etc/") {
			t.Fatalf("%d, %s", s.code, s.of(Failure))
		}
	}
	var wrote []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			wrote = append(wrote, strings.TrimPrefix(path, dir))
		}
		return nil
	})
	var answer struct{ Files []string }
	if err := json.Unmarshal([]byte(runs(t, "", "proxy", "render", "--json", path, dir).of(Text)), &answer); err != nil {
		t.Fatal(err)
	}
	slices.Sort(answer.Files)
	if slices.Sort(wrote); len(wrote) < 5 || !slices.Equal(wrote, answer.Files) {
		t.Errorf("wrote %q, told %q", wrote, answer.Files)
	}
	if s := runs(t, "", "proxy", "render", path, path); s.code != Failed || !strings.Contains(s.of(Failure), ": not a directory\nchoose another directory") {
		t.Errorf("a file as the directory: %d, %s", s.code, s.of(Failure))
	}
}

// What is wrong is told in words, with what to do, and nothing of an answer.
func TestCommandLinesThatFail(t *testing.T) {
	path, text := described(t)
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, []byte("\x80\x81key"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		code  int
		says  string
		input string
		args  []string
	}{
		{Usage, "a command is missing\nsee taipy-tunnel --help", "", nil},
		{Usage, "a command is missing\nsee taipy-tunnel proxy --help", "", []string{"proxy"}},
		{Usage, `there is no command "prxy"; did you mean proxy?`, "", []string{"prxy", "check"}},
		{Usage, `there is no command "chekc"; did you mean check?` + "\nsee taipy-tunnel proxy --help", "", []string{"proxy", "chekc", "a@b"}},
		{Usage, "USER@MACHINE[:PORT] is missing\nsee taipy-tunnel proxy check --help", "", []string{"proxy", "check"}},
		{Usage, "FILE is missing", "", []string{"proxy", "setup", "root@h"}},
		{Usage, `there is an argument more than the command takes: "b"`, "", []string{"proxy", "script", path, "b"}},
		{Usage, `there is no option "--jupm"`, "", []string{"proxy", "check", "a@h", "--jupm", "b"}},
		{Usage, `there is no option "--host"; did you mean --host-key?`, "", []string{"proxy", "check", "a@h", "--host", "b"}},
		{Usage, `there is no command "bsh"; did you mean bash`, "", []string{"completion", "bsh"}},
		{Usage, `there is an argument more than the command takes: "x"`, "", []string{"completion", "bash", "x"}},
		{Usage, `there is no such option as "-x"`, "", []string{"proxy", "check", "-x"}},
		{Usage, "--key wants a value: a private key", "", []string{"proxy", "check", "a@h", "--key"}},
		{Usage, `--remove takes true or false, or nothing, and not "maybe"`, "", []string{"proxy", "setup", "a@h", path, "--remove=maybe"}},
		{Usage, "--server is missing: the proxy machine", "", []string{"databricks", "store", "--host-key", "x"}},
		{Usage, "--host-key is missing: the proxy's host", "", []string{"databricks", "store", "--server", "a@b", "--host-key="}},
		{Failed, "no such file or directory\ngive the path of a file", "", []string{"proxy", "script", path + ".none"}},
		{Failed, "is not understood: it is no JSON at byte", "tenants: []", []string{"proxy", "script", "-"}},
		{Failed, `unknown field "misspelt"`, `{"misspelt": 1}`, []string{"proxy", "script", "-"}},
		{Failed, "it is not text", "", []string{"databricks", "store", "--server", "a@b", "--host-key", binary}},
		{Failed, "write a@b", text, []string{"proxy", "setup", "http://a@b", "-"}},
	} {
		s := runs(t, row.input, row.args...)
		told := strings.ReplaceAll(s.of(Failure), "user@host", "a@b")
		if s.code != row.code || !strings.Contains(told, row.says) || s.of(Text) != "" {
			t.Errorf("%q: %d, %s; want %d, %s", row.args, s.code, told, row.code, row.says)
		}
		var answer struct{ Error failure }
		s = runs(t, row.input, append([]string{"--json"}, row.args...)...)
		if err := json.Unmarshal([]byte(s.of(Text)), &answer); err != nil || s.code != row.code || answer.Error.Class == "" || answer.Error.Hint == "" || s.of(Failure) != "" {
			t.Errorf("%q in JSON: %d, %v, %+v", row.args, s.code, err, answer)
		}
	}
}

// Each command says what it takes and what it ends with, in lines for a terminal of 80 columns.
func TestHelp(t *testing.T) {
	all := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		all++
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		s := runs(t, "", args...)
		if s.code != OK || !strings.Contains(s.of(Text), "130  interrupted") || c.Short == "" {
			t.Errorf("%q: %d, %s", args, s.code, s.of(Text))
		}
		for line := range strings.Lines(s.of(Text)) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 && !strings.Contains(c.CommandPath(), "completion") {
				t.Errorf("%q: %d characters: %s", args, n, line)
			}
		}
		for _, below := range c.Commands() {
			look(below)
		}
	}
	root := (&run{}).root()
	look(root)
	if all < 9 {
		t.Errorf("%d commands", all)
	}
	if s := runs(t, "", "--version"); s.of(Text) != "taipy-tunnel 1.2.3\n" {
		t.Errorf("%q", s.of(Text))
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if s := runs(t, "", "completion", shell); s.code != OK || !strings.Contains(s.of(Text), "taipy-tunnel") {
			t.Errorf("%s: %d, %s", shell, s.code, s.of(Failure))
		}
	}
	if s := runs(t, "", "__complete", "proxy", ""); !strings.Contains(s.of(Text), "cloud-init\tprint user data of cloud-init\n") {
		t.Error(s.of(Text))
	}
	if s := runs(t, "", "__complete", "proxy", "check", "a@b", "--ho"); !strings.Contains(s.of(Text), "--host-key\t") {
		t.Error(s.of(Text))
	}
	for _, line := range []string{"__complete", "__complete proxy check --jupm x", "__complete proxy setup --remove=maybe x"} {
		if s := runs(t, "", strings.Fields(line)...); s.of(Text) != noCompletion || s.code != OK {
			t.Errorf("%s: %d, %q", line, s.code, s.of(Text))
		}
	}
	if s := runs(t, "", "__complete", "proxy", "check", "--key", ""); !strings.HasSuffix(s.of(Text), ":0\n") {
		t.Errorf("a value: %q", s.of(Text))
	}
}

// A command that is given up ends, and says no more.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var events []Event
	code := Run(ctx, []string{"proxy", "script", "-"}, Face{Show: func(e Event) { events = append(events, e) }, Input: func(ctx context.Context) ([]byte, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	if code != Interrupted || len(events) > 0 {
		t.Errorf("%d, %+v", code, events)
	}
	if s := runs(t, "", "proxy", "script", "-"); s.code != Failed {
		t.Errorf("no input: %d", s.code)
	}
	code = Run(t.Context(), []string{"proxy", "script", "-"}, Face{Show: func(e Event) { events = append(events, e) },
		Input: func(context.Context) ([]byte, error) { return nil, errors.New("closed") }})
	if code != Failed || !strings.Contains(fmt.Sprint(events), "standard input cannot be read: closed") {
		t.Errorf("%d, %+v", code, events)
	}
}

func TestWrap(t *testing.T) {
	for _, row := range []struct{ text, first, then, want string }{
		{"", "ab ", "  ", "ab "}, {"one", "", "", "one"}, {"one  two\nthree", "> ", "  ", "> one two\n  three"},
		{"a word-that-is-longer-than-this b", "", "", "a\nword-that-is-longer-than-this\nb"}, {"äöü äöü äöü", "", "", "äöü äöü\näöü"},
	} {
		if got := Wrap(row.text, 10, row.first, row.then); got != row.want {
			t.Errorf("%q is %q, want %q", row.text, got, row.want)
		}
	}
}
