// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyadmin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyadmin"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const madeUpKey = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// newMachine is an sshd that root logs in to, as an admin does.
func newMachine(t testing.TB, o sshdtest.Options) (*sshdtest.Server, destination.Config) {
	t.Helper()
	if os.Getuid() != 0 {
		missing.Skip(t, "a machine is set up by root")
	}
	leak.Check(t)
	s := sshdtest.Start(t, o)
	before, _ := filepath.Glob("/run/taipy-tunnel.*")
	t.Cleanup(func() {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // other tests may run beside these
			left, _ := filepath.Glob("/run/taipy-tunnel.*")
			left = slices.DeleteFunc(left, func(name string) bool { return slices.Contains(before, name) })
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("left behind: %v", left)
				return
			}
		}
	})
	return s, destination.Config{Server: s.User + "@" + s.Addr(), Key: s.KeyFile, HostKey: s.Fingerprint()}
}

// setUp runs a script and returns what it said. The sshd of these tests says something itself, now and then.
func setUp(t testing.TB, cfg destination.Config, script string, remove bool) (m *proxyadmin.Machine, lines []string, err error) {
	t.Helper()
	m, err = proxyadmin.SetUp(within(t, 20*time.Second), cfg, proxyadmin.Change{Script: script, Remove: remove, Said: func(line string) {
		if !strings.HasPrefix(line, "debug1: ") {
			lines = append(lines, line)
		}
	}})
	return m, lines, err
}

func TestSetUpRunsTheScript(t *testing.T) {
	s, cfg := newMachine(t, sshdtest.Options{})
	m, said, err := setUp(t, cfg, `echo "do $1"; read x || echo "no input"; stat -L -c '%a %U %h' /dev/fd/3; echo to stderr >&2; echo last
		printf 'a\033[31mred\033[0m\a \342\200\256back\r\n\302\233m\377\n'; `+"\n# a long one"+strings.Repeat("\n# x", 100000)+`
		echo "taipy-tunnel: host key `+madeUpKey+`"`, false)
	want := []string{"do install", "no input", "600 root 0", "to stderr", "last", "a[31mred[0m back", "m\uFFFD", "taipy-tunnel: host key " + madeUpKey}
	if err != nil || !slices.Equal(said, want) {
		t.Errorf("%v\n%q, want\n%q", err, said, want)
	}
	if m.HostKey != madeUpKey || m.Server("sales") != fmt.Sprintf("sales@%s", s.Addr()) {
		t.Errorf("%+v", m)
	}
	m, said, err = setUp(t, cfg, `echo "do $1"; printf 'taipy-tunnel: host key SHA256:short\n'`, true)
	if err != nil || said[0] != "do remove" || m.HostKey != s.Fingerprint() {
		t.Errorf("%v, %q, %+v", err, said, m)
	}
}

func TestSetUpTellsThatTheScriptFailed(t *testing.T) {
	_, cfg := newMachine(t, sshdtest.Options{})
	for script, says := range map[string]string{"echo why; exit 3": "status 3", "echo why; kill -KILL $$": "status 137"} {
		_, said, err := setUp(t, cfg, script, false) // a shell may say "Killed" besides
		e := tunnel.AsError(err)
		if !errors.Is(err, tunnel.ErrConfig) || !e.Permanent || !strings.Contains(e.Error(), says) || e.Hint == "" || said[0] != "why" {
			t.Errorf("%s: %v, %q", script, err, said)
		}
	}
}

// hanging is a script that waits for a command, and that undoes what it did, in a way that can be seen.
func hanging(dir string) string {
	return fmt.Sprintf("trap 'trap \"\" HUP; echo undoing; sleep 0.1; echo undone; touch %[1]s/undone; exit 1' HUP\ntrap '' PIPE\necho $$ >%[1]s/pid\necho working\nsleep 60\ntouch %[1]s/finished", dir)
}

// killServers kills what serves connections, and not what runs in them.
func killServers(s *sshdtest.Server) {
	for _, pid := range s.Children() {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(name), "sshd") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Who waits gives up, or the connection ends: the script is told, and can undo what it did to the end.
func TestSetUpIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(*sshdtest.Server, context.CancelFunc)
		class error
	}{
		"cancelled": {func(_ *sshdtest.Server, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"lost":      {func(s *sshdtest.Server, _ context.CancelFunc) { killServers(s) }, tunnel.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s, cfg := newMachine(t, sshdtest.Options{Config: []string{"LogLevel QUIET"}})
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var began time.Time
			_, err := proxyadmin.SetUp(ctx, cfg, proxyadmin.Change{Script: hanging(dir), Said: func(line string) {
				if line == "working" {
					began = time.Now()
					c.end(s, cancel)
				}
			}})
			if took := time.Since(began); !errors.Is(err, c.class) || took > 10*time.Second { // what runs there would go on for 60 s
				t.Errorf("%v, after %v", err, took)
			}
			if e := tunnel.AsError(err); name == "lost" && (e.Permanent || !strings.Contains(e.Hint.String(), "hung up") || !strings.Contains(e.Error(), "before the script")) {
				t.Errorf("%v; %s", e, e.Hint)
			}
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(dir + "/undone"); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatal("the script was not told")
				}
			}
		})
	}
}

// Who is not root has to become it without a password; who cannot learns what to do.
func TestSetUpNeedsRoot(t *testing.T) {
	shims := t.TempDir()
	shim := func(name, text string) {
		must(t, os.WriteFile(filepath.Join(shims, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	shim("id", "echo 1000")
	_, cfg := newMachine(t, sshdtest.Options{Config: []string{"SetEnv HOME=/nonexistent PATH=" + shims + ":/usr/sbin:/usr/bin:/sbin:/bin"}})
	for _, c := range []struct{ sudo, says, hint string }{
		{`echo "sudo: a password is required" >&2; exit 1`, "without a password", "ssh -t -p"},
		{`[ "$1" = -n ] && shift && echo "by sudo $1" >>` + shims + `/log && exec "$@"`, "", ""},
	} {
		shim("sudo", c.sudo)
		_, said, err := setUp(t, cfg, "echo done", false)
		if c.says == "" {
			log, _ := os.ReadFile(shims + "/log")
			if err != nil || !slices.Equal(said, []string{"done"}) || string(log) != "by sudo sh\nby sudo sh\n" {
				t.Errorf("%v, %q, %q", err, said, log)
			}
			continue
		}
		if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrAuth) || !e.Permanent || !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Hint.String(), c.hint) || said != nil {
			t.Errorf("%v, %q", err, said)
		}
	}
}

// Where sudo wants a password it is asked for, tried by itself, and given once more with the script. sudo is the real one's stand-in: it
// reads a line, one byte at a time.
func TestSetUpAsksForThePassword(t *testing.T) {
	shims := t.TempDir()
	shim := func(name, text string) {
		must(t, os.WriteFile(filepath.Join(shims, name), []byte("#!/bin/bash\n"+text+"\n"), 0o755))
	}
	shim("id", "echo 1000")
	shim("sudo", `[ "$1 $2 $3 $4" = "-k -S -p " ] || exit 1; shift 4
		[ ! -e `+shims+`/free ] || exec "$@"
		for n in 1 2 3; do
			IFS= read -r p || { echo "sudo: no password was provided" >&2; exit 1; }
			[ "$p" != "correct horse" ] || { echo ran >>`+shims+`/log; exec "$@"; }
			echo "Sorry, try again." >&2
		done
		exit 1`)
	_, cfg := newMachine(t, sshdtest.Options{Config: []string{"SetEnv HOME=/nonexistent PATH=" + shims + ":/usr/sbin:/usr/bin:/sbin:/bin"}})
	for name, c := range map[string]struct {
		typed []string
		ran   int
	}{"right": {[]string{"correct horse"}, 2}, "wrong, then right": {[]string{"wrong\n", "correct horse\n"}, 2}, "three times wrong": {[]string{"a", "b", "c", "correct horse"}, 0}, "not read": {[]string{"hunter2"}, 0}} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(shims + "/log")
			_ = os.Remove(shims + "/free")
			free := name == "not read" // as of a module that asks a telephone
			if free {
				must(t, os.WriteFile(shims+"/free", nil, 0o600))
			}
			asked, said := 0, ""
			_, err := proxyadmin.SetUp(within(t, 20*time.Second), cfg, proxyadmin.Change{Script: "echo done", Said: func(line string) { said += line },
				Password: func(context.Context) (string, error) { asked++; return c.typed[asked-1], nil }})
			log, _ := os.ReadFile(shims + "/log")
			done := c.ran > 0 || free
			if (err == nil) != done || asked > 3 || strings.Count(string(log), "ran") != c.ran || done != strings.Contains(said, "done") || strings.Contains(said, "horse") || strings.Contains(said, "hunter2") {
				t.Errorf("%v, asked %d times, ran %q, said %q", err, asked, log, said)
			}
			if err != nil && (!errors.Is(err, tunnel.ErrAuth) || !strings.Contains(err.Error(), "no password was provided")) {
				t.Error(err)
			}
		})
	}
}

// What is wrong before the script runs has the words that expose() has for it.
func TestSetUpThatCannotBegin(t *testing.T) {
	s, cfg := newMachine(t, sshdtest.Options{})
	tenant, _ := newMachine(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp", "ForceCommand internal-sftp -R"}})
	none, _ := newMachine(t, sshdtest.Options{Config: []string{"MaxSessions 0"}})
	at := func(s *sshdtest.Server) func(*destination.Config) {
		return func(cfg *destination.Config) {
			cfg.Server, cfg.Key, cfg.HostKey = s.User+"@"+s.Addr(), s.KeyFile, s.Fingerprint()
		}
	}
	for name, c := range map[string]struct {
		spoil     func(*destination.Config)
		class     error
		permanent bool
		says      string
	}{
		"no user":       {func(cfg *destination.Config) { cfg.Server = "127.0.0.1"; cfg.SSHConfig = "none" }, tunnel.ErrConfig, true, "names no user"},
		"no server":     {func(cfg *destination.Config) { cfg.Server = "" }, tunnel.ErrConfig, true, "no server"},
		"another host":  {func(cfg *destination.Config) { cfg.HostKey = madeUpKey }, tunnel.ErrHostKey, true, s.Fingerprint()},
		"another key":   {func(cfg *destination.Config) { cfg.Key = sshdtest.NewKey(t, "ed25519") }, tunnel.ErrAuth, true, "refused user"},
		"nobody there":  {func(cfg *destination.Config) { cfg.Server = fmt.Sprintf("root@127.0.0.1:%d", s.FreePort()) }, tunnel.ErrUnreachable, false, "no connection"},
		"a tenant":      {at(tenant), tunnel.ErrAuth, true, "sftp connections only"},
		"no session":    {at(none), tunnel.ErrAuth, true, "runs no commands"},
		"a jump nobody": {func(cfg *destination.Config) { cfg.Jump = fmt.Sprintf("root@127.0.0.1:%d", s.FreePort()) }, tunnel.ErrHop, false, "on the way"},
	} {
		cfg := cfg
		c.spoil(&cfg)
		_, said, err := setUp(t, cfg, "echo it runs", false)
		if e := tunnel.AsError(err); !errors.Is(err, c.class) || e.Permanent != c.permanent || !strings.Contains(e.Error(), c.says) || e.Hint == "" || said != nil {
			t.Errorf("%s: %v (%v), %q", name, err, e.Permanent, said)
		}
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
