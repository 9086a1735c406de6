// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// quicklyVariable has TestQuickly run quickstart, with these arguments, a line each.
const quicklyVariable = "TAIPY_TUNNEL_QUICKLY"

// TestQuickly is the program that killed ends.
func TestQuickly(t *testing.T) {
	args := os.Getenv(quicklyVariable)
	if args == "" {
		t.Skip("killed runs it")
	}
	code, said := (&machine{}).quickly(t.Context(), nil, strings.Split(args, "\n")...)
	if code != command.OK {
		t.Fatalf("%d\n%s", code, said)
	}
}

const kills = 20

// killed kills quickstart at twenty points of its run on a bare machine. After each sshd and nginx take their files, root logs in, and the next
// run finishes.
func (m *machine) killed(t *testing.T, fresh []string) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	args := []string{"root@127.0.0.1", "--key", m.key, "--host-key", m.hostKey(), "--name", "killed"}
	me, err := os.Executable()
	must(t, err)
	start := func() *exec.Cmd {
		c := exec.Command(me, "-test.run", "^TestQuickly$")
		c.Env = append(os.Environ(), quicklyVariable+"="+strings.Join(args, "\n"))
		must(t, c.Start())
		return c
	}
	began := time.Now()
	must(t, start().Wait())
	whole := time.Since(began)
	ended, made := 0, 0
	for n := range kills {
		m.removed(t)
		t.Setenv("HOME", t.TempDir())
		c := start()
		time.Sleep(whole * time.Duration(n) / kills) // a point of its run
		_ = c.Process.Kill()
		if c.Wait() != nil {
			ended++
		}
		m.settled(t)
		for _, test := range []string{"/usr/sbin/sshd -t", "/usr/sbin/nginx -t", "getent passwd root"} {
			if said, err := m.sh(test); err != nil {
				t.Errorf("killed at point %d: %s: %v\n%s", n, test, err, said)
			}
		}
		if said, err := m.sh("test -d /etc/taipy-tunnel"); err == nil && said == "" {
			made++
		}
		code, said := m.quickly(t.Context(), nil, args...) // by root's key, which still logs in
		if code != command.OK {
			t.Errorf("after it was killed at point %d: %d\n%s", n, code, said)
		}
	}
	t.Logf("%d of %d runs of %v were killed before their end, %d when the machine was made", ended, kills, whole.Round(10*time.Millisecond), made)
	if ended < kills/2 {
		t.Errorf("%d runs were killed", ended)
	}
	m.removed(t)
	m.unchanged("removed after it was killed", fresh)
}

// settled waits until sshd has seen the end of a login, and a script that was hung up has taken back what it did.
func (m *machine) settled(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if said, _ := m.sh("ls -d /run/taipy-tunnel.* 2>/dev/null | grep -v lock; ps -eo args | grep -e '[/]dev/fd/3' -e '^sshd.*: ' | grep -v listener"); strings.TrimSpace(said) == "" {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("a script runs on: %s", said)
		}
	}
}

// removed has the machine be no proxy any more, from the file that quickstart keeps.
func (m *machine) removed(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(os.Getenv("HOME") + "/.config/taipy-tunnel/127.0.0.1.json")
	must(t, err)
	h, err := proxyhost.ParseHost(text)
	must(t, err)
	if _, err := m.setUp(t.Context(), *h, true, func(string) {}); err != nil {
		t.Fatal(err)
	}
}
