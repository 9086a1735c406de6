// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lease

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// A port that a frozen tunnel of the same key holds is taken from it, whatever the account's shell and programs are and
// whatever its start-up files do.
func TestTakenFromAFrozenTunnel(t *testing.T) {
	leak.Check(t)
	rows := map[string]sshdtest.Options{
		"bash":                              {Shell: "/bin/bash"},
		"dash":                              {Shell: "/bin/dash"},
		"zsh":                               {Shell: "/bin/zsh", Home: map[string]string{".zshenv": "echo Welcome\n"}},
		"fish":                              {Shell: "/usr/bin/fish"},
		"tcsh":                              {Shell: "/usr/bin/tcsh"},
		"BusyBox, as on Alpine":             {BusyBox: true},
		"no ps, as in a container":          {Shell: "/bin/sh", InPlace: map[string]string{"/usr/bin/ps": "/bin/false"}},
		"a home directory that is away":     {Shell: "/bin/bash", NoHome: true},
		"start-up files that print":         {Shell: "/bin/bash", Home: map[string]string{".bashrc": "echo 'Welcome, 1767225600000'; echo oops >&2\n"}},
		"start-up files that go on saying":  {Shell: "/bin/bash", Home: map[string]string{".bashrc": "while echo tick; do sleep 0.02; done & disown\n"}},
		"start-up files that take 10 s":     {Shell: "/bin/bash", Home: map[string]string{".bashrc": "sleep 10\n"}},
		"start-up files that read":          {Shell: "/bin/bash", Home: map[string]string{".bashrc": "read -r -t 1 answer\n"}},
		"a user of a Windows domain":        {Account: `CORP\jdoe`},
		"start-up files of fish that print": {Shell: "/usr/bin/fish", Home: map[string]string{".config/fish/config.fish": "echo Welcome\n"}},
	}
	if root := sshdtest.Trixie(); root != "" {
		rows["OpenSSH 10 (Debian 13)"] = sshdtest.Options{Root: root}
	}
	for name, o := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshdtest.Start(t, o)
			port := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.FreePort()}
			frozen, fresh := login(t, s), login(t, s)
			older, newer := New(port, frozen.Key(), nil), New(port, fresh.Key(), nil)
			if err := frozen.Hold(t.Context(), older.LogsIn(older.key, 1), nil); err != nil {
				t.Fatal(err)
			}
			if err := older.Learn(t.Context(), frozen); err != nil {
				t.Fatal(err)
			}
			if _, err := older.Take(t.Context(), frozen, 1); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := takes(t, newer, fresh, 1); err != nil {
				t.Fatal(err)
			}
			t.Logf("taken after %v", time.Since(begin).Round(time.Millisecond))
			<-frozen.Done()
			compat.Row(t, "shells", name+", and a tunnel in the place of one that is frozen", compat.Taken)
		})
	}
}

// Where marks cannot be read, the tunnel learns it when it is opened, not when the next one fails.
func TestNoMarksIsLearnt(t *testing.T) {
	leak.Check(t)
	for name, c := range map[string]struct {
		options sshdtest.Options
		says    string
	}{
		"MaxSessions 0":              {sshdtest.Options{Config: []string{"MaxSessions 0"}}, "opens no session"},
		"MaxSessions 1":              {sshdtest.Options{Config: []string{"MaxSessions 1"}}, "opens no second session"},
		"ForceCommand internal-sftp": {sshdtest.Options{Config: []string{"ForceCommand internal-sftp"}}, "does not run what is needed"},
		"Dropbear":                   {sshdtest.Options{Dropbear: true}, "is not this account's"},
		"git-shell":                  {sshdtest.Options{Shell: "/usr/bin/git-shell"}, "unrecognized command"},
		"rbash":                      {sshdtest.Options{Shell: "/bin/rbash"}, "restricted"},
		"nologin":                    {sshdtest.Options{Shell: "/usr/sbin/nologin"}, "not available"},
		"a shell in place of it":     {sshdtest.Options{Shell: "/bin/bash", Home: map[string]string{".bashrc": "exec zsh -l\n"}}, "start-up files"},
		"a ps that shows nobody":     {sshdtest.Options{Shell: "/bin/sh", InPlace: map[string]string{"/usr/bin/ps": "/bin/true"}}, "do not show"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshdtest.Start(t, c.options)
			l := login(t, s)
			me := New(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.FreePort()}, l.Key(), nil)
			me.learnFor = 10 * time.Second
			if err := l.Hold(t.Context(), me.LogsIn(me.key, 1), nil); err != nil {
				t.Fatal(err)
			}
			for _, when := range []string{"when it is opened", "for doctor()"} {
				err := me.Learn(t.Context(), l)
				if when == "for doctor()" {
					err = me.Unread()
				}
				if e := fault.From(err); !errors.Is(err, fault.ErrForward) || !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Hint.String(), "ClientAliveInterval") {
					t.Errorf("%s: %v, hint %s", when, e, e.Hint)
				}
			}
			compat.Row(t, "shells", name+", and a tunnel in the place of one that is frozen", compat.Taken+": but not in its place, which a warning says within seconds: "+me.Unread().Error())
		})
	}
}

// What was learnt of one link does not stay when the next one shows that it is mended, also where the time is known by then.
func TestNoMarksIsForgotten(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Shell: "/bin/bash"})
	l := login(t, s)
	me := New(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.FreePort()}, l.Key(), nil)
	_ = me.cannotRead(errors.New("a shell in place of it"))
	me.since = 1
	if err := l.Hold(t.Context(), me.LogsIn(me.key, 2), nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(me.Learn(t.Context(), l), me.Unread()); err != nil {
		t.Errorf("it is still said: %v", err)
	}
}
