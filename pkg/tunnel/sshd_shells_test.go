// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A kernel that is stopped, a process of its own, loses the port to the next one, whatever the account's shell is, and says so when it
// goes on. Package lease has further accounts, of which the older link is held by the test itself.
func TestStoppedKernelOnEachShell(t *testing.T) {
	leak.Check(t)
	for name, o := range map[string]sshdtest.Options{
		"bash":                         {Shell: "/bin/bash"},
		"fish":                         {Shell: "/usr/bin/fish"},
		"tcsh":                         {Shell: "/usr/bin/tcsh"},
		"BusyBox, as on Alpine":        {BusyBox: true},
		"start-up files that print":    {Shell: "/bin/bash", Home: map[string]string{".bashrc": "echo Welcome; echo oops >&2\n"}},
		"start-up files that take 6 s": {Shell: "/bin/bash", Home: map[string]string{".bashrc": "sleep 6\n"}},
		"a user of a Windows domain":   {Account: `CORP\jdoe`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &chain{Server: sshdtest.Start(t, o)}
			c.port = c.FreePort()
			c.url = front(t, c.port)
			stopped := newNotebook(t, c.config(app(t, "stopped")))
			t.Cleanup(func() { _ = syscall.Kill(stopped.pid, syscall.SIGCONT) })
			wantBody(t, c.url, "stopped")
			c.showing(t, 2)
			must(t, syscall.Kill(stopped.pid, syscall.SIGSTOP))
			begin := time.Now()
			next, err := tunnel.Expose(within(t, 30*time.Second), c.config(app(t, "next")))
			if err != nil {
				t.Fatalf("%v\n%s", err, tunnel.AsError(err).Hint)
			}
			t.Cleanup(func() { _ = next.Close() })
			t.Logf("after %v", time.Since(begin).Round(time.Millisecond))
			wantBody(t, c.url, "next")
			must(t, syscall.Kill(stopped.pid, syscall.SIGCONT))
			for deadline := time.Now().Add(4 * settleFor); stopped.status().State != string(tunnel.Replaced); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the one that goes on: %+v", stopped.status())
				}
			}
			wantBody(t, c.url, "next")
			compat.Row(t, "shells", name+", and a kernel in the place of one that was stopped", compat.Taken)
		})
	}
}
