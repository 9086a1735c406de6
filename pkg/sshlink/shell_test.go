// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// A script is run by /bin/sh, whatever the account's shell is and whatever its start-up files print, read or take.
func TestScriptInEveryShell(t *testing.T) {
	leak.Check(t)
	const script = "for x in 'it'\\''s' '$HOME' '!1' 'a\\b' '~'; do printf '[%s]\n' \"$x\"; done; printf end"
	const want = "[it's]\n[$HOME]\n[!1]\n[a\\b]\n[~]\nend"
	for name, o := range map[string]sshdtest.Options{
		"bash":                      {Shell: "/bin/bash"},
		"dash":                      {Shell: "/bin/dash"},
		"fish":                      {Shell: "/usr/bin/fish"},
		"tcsh":                      {Shell: "/usr/bin/tcsh"},
		"BusyBox's sh":              {BusyBox: true},
		"start-up files that print": {Shell: "/bin/bash", Home: map[string]string{".bashrc": "echo 'Welcome!'; printf 'no end of line'; echo oops >&2\n"}},
		"start-up files that read":  {Shell: "/bin/bash", Home: map[string]string{".bashrc": "read -r -t 1 answer\n"}},
		"start-up files of csh's":   {Shell: "/usr/bin/tcsh", Home: map[string]string{".cshrc": "echo Welcome\n"}},
		"start-up files that one session at a time runs": {Shell: "/bin/bash", Home: map[string]string{".bashrc": "mkdir ~/lock || exit 1; sleep 5\n"}},
		"start-up files that wait for another session":   {Shell: "/bin/bash", Home: map[string]string{".bashrc": "mkdir ~/lock || { sleep 2; exit 1; }; sleep 7; rmdir ~/lock\n"}},
		"start-up files that take long":                  {Shell: "/bin/bash", Home: map[string]string{".bashrc": "sleep 4\n"}}, // so that it is looked into
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLink(t, sshdtest.Start(t, o))
			for _, twice := range []string{"first", "second"} {
				if said, err := l.Script(within(t, 20*time.Second), script); err != nil || string(said) != want {
					t.Errorf("the %s time: %q, %v", twice, said, err)
				}
			}
			compat.Row(t, "shells", name+", and a script that the tunnel has run there", compat.Taken)
		})
	}
}

// Who waits no longer for a shell that starts slowly leaves it to start for the next one.
func TestShellThatStartsSlowly(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "echo $$ >>~/starts; while [ ! -e ~/go ]; do sleep 0.05; done\n"}})
	l := dialLink(t, s)
	if said, err := l.Script(within(t, 300*time.Millisecond), "echo early"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", said, err)
	}
	if err := os.WriteFile(s.HomeFile("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // by the first one that was started: exec keeps the number of its process
		if said, err := l.Script(within(t, 20*time.Second), "head -n 1 ~/starts | grep -x $$ && echo late"); err != nil || !strings.HasSuffix(string(said), "\nlate\n") {
			t.Errorf("%q, %v", said, err)
		}
	}
	if said, err := l.Script(within(t, 300*time.Millisecond), "sleep 20"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a script that takes too long: %q, %v", said, err)
	}
	if said, err := l.Script(within(t, 20*time.Second), "exit 3"); !errors.Is(err, ErrNoSession) {
		t.Errorf("a script that ends its shell: %q, %v", said, err)
	}
	if said, err := l.Script(within(t, 20*time.Second), "tail -n 1 ~/starts | grep -x $$ && echo new"); err != nil || !strings.HasSuffix(string(said), "\nnew\n") {
		t.Errorf("after that: %q, %v", said, err)
	}
}

// A shell that goes on saying something while no script runs, as programs do that start-up files have started, keeps nobody
// from closing the link, and no goroutine.
func TestCloseWhileAShellSaysSomething(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "while echo tick; do sleep 0.02; done & disown\n"}})
	for _, ends := range []func(*Link){func(*Link) {}, func(*Link) { s.KillLinks() }} {
		l := dialLink(t, s)
		if said, err := l.Script(within(t, 20*time.Second), "sleep 0.1; echo yes"); err != nil || !strings.Contains(string(said), "yes\n") {
			t.Fatalf("%q, %v", said, err)
		}
		time.Sleep(100 * time.Millisecond) // until a line has come that nobody takes
		ends(l)
		closed := make(chan struct{})
		go func() { defer close(closed); _ = l.Close() }()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("Close waits")
		}
	}
}

// What an account says in place of running a shell is told.
func TestAccountsThatRunNoShell(t *testing.T) {
	leak.Check(t)
	for name, c := range map[string]struct {
		options sshdtest.Options
		says    string
	}{
		"nologin":         {sshdtest.Options{Shell: "/usr/sbin/nologin"}, "not available"},
		"false":           {sshdtest.Options{Shell: "/bin/false"}, ""},
		"another command": {sshdtest.Options{Config: []string{"ForceCommand echo only this; echo and this >&2"}}, "only this"},
		"its own words":   {sshdtest.Options{Config: []string{"ForceCommand echo \"$SSH_ORIGINAL_COMMAND\""}}, "exec /bin/sh"},
		"start-up files that start another shell": {sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "echo Welcome; exec zsh -l\n"}}, "Welcome"},
		"files that print without end":            {sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "while echo y; do :; done\n"}}, "y"},
		"files that wait":                         {sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "read -r answer\n"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLink(t, sshdtest.Start(t, c.options))
			l.shells.start = 10 * time.Second
			_, err := l.Script(within(t, 20*time.Second), "echo yes")
			e, ok := errors.AsType[*NoShellError](err)
			if !ok || !errors.Is(err, ErrNoSession) || !strings.Contains(e.Said, c.says) || e.Other != strings.HasPrefix(name, "start-up") || e.Late != strings.HasSuffix(name, "that wait") {
				t.Errorf("%v, %+v, want %q", err, e, c.says)
			}
		})
	}
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxSessions 0"}}))
	if _, err := l.Script(within(t, 20*time.Second), "echo yes"); !errors.Is(err, ErrNoSession) {
		t.Errorf("no session: %v", err)
	}
}
