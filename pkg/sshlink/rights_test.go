// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// What an account may do is told right, whatever it may, and nothing is left of the question.
func TestRights(t *testing.T) {
	leak.Check(t)
	type rights struct{ run, listen, sockets, reach, write bool }
	home := t.TempDir()
	sftp, tenant := "Subsystem sftp internal-sftp", "ForceCommand internal-sftp -R"
	for name, c := range map[string]struct {
		config []string
		want   rights
	}{
		"a stock account":           {[]string{sftp}, rights{true, true, true, true, true}},
		"a tenant":                  {[]string{sftp, tenant, "MaxSessions 1", "PermitListen none", "PermitOpen 127.0.0.1:1"}, rights{false, false, true, false, false}},
		"no sockets":                {[]string{sftp, tenant, "AllowStreamLocalForwarding local", "PermitListen none", "PermitOpen 127.0.0.1:1"}, rights{false, false, false, false, false}},
		"any port":                  {[]string{sftp, tenant, "PermitOpen 127.0.0.1:1"}, rights{false, true, true, false, false}},
		"any address":               {[]string{sftp, tenant, "PermitListen none"}, rights{false, false, true, true, false}},
		"files that can be changed": {[]string{sftp, "ForceCommand internal-sftp", "PermitListen none", "PermitOpen none"}, rights{false, false, true, false, true}},
		"another command":           {[]string{"ForceCommand echo taipy-tunnel", "DisableForwarding yes"}, rights{}},
		"no session":                {[]string{"MaxSessions 0", "DisableForwarding yes"}, rights{}},
	} {
		s := sshdtest.Start(t, sshdtest.Options{Config: c.config})
		l := dialLink(t, s)
		ctx := within(t, 20*time.Second)
		var got rights
		for what, ask := range map[*bool]func() (bool, error){
			&got.run:     func() (bool, error) { return l.MayRun(ctx) },
			&got.listen:  func() (bool, error) { return l.MayListen(ctx) },
			&got.sockets: func() (bool, error) { return l.MayListenUnix(ctx) },
			&got.reach:   func() (bool, error) { return l.MayReach(ctx, "127.0.0.1:9") },
			&got.write:   func() (bool, error) { return l.MayWrite(ctx, filepath.Join(home, "absent")) },
		} {
			var err error
			if *what, err = ask(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if ports := s.Slots(); len(ports) != 0 {
			t.Errorf("%s: it still listens on %v", name, ports)
		}
		for deadline := time.Now().Add(10 * time.Second); nameless(t); time.Sleep(10 * time.Millisecond) { // another package's tests may ask for it too
			if time.Now().After(deadline) {
				t.Fatalf("%s: the nameless socket is still there", name)
			}
		}
		if left, _ := os.ReadDir(home); len(left) != 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
}

// nameless reports whether somebody on this machine has the socket that has no name.
func nameless(t testing.TB) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "@@@@@@@@")
}

// Two who ask at a time both get their answer, though there is one nameless socket.
func TestSocketsAreAskedForByTwo(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	a, b := dialLink(t, s), dialLink(t, s)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		back, err := a.ask(t.Context(), onSocket(""))
		if back != nil {
			break
		}
		if err != nil || time.Now().After(deadline) { // until then another package's tests may have it
			t.Fatal(err)
		}
	}
	if !nameless(t) {
		t.Error("it has a name after all")
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = a.Close() })
	if may, err := b.MayListenUnix(within(t, 20*time.Second)); err != nil || !may {
		t.Errorf("%v, %v", may, err)
	}
}

func TestStat(t *testing.T) {
	leak.Check(t)
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp"}}))
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	info, err := l.Stat(within(t, 20*time.Second), dir)
	if err != nil || info.Mode != fs.ModeDir|fs.ModeSetgid|0o750 || int(info.UID) != os.Getuid() {
		t.Errorf("%v, %v", info, err)
	}
}
