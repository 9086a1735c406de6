// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"
)

// EndStale runs the rendered program that ends stale links until the test ends, with the privileges that its service has, and
// returns what it says. It is told what differs here: sshd's port, and the groups of the tenants, whose accounts are not the script's.
func (p *Proxy) EndStale() *Log {
	p.t.Helper()
	_, list, _ := strings.Cut(p.Files.Text(p.Layout.Unit), "\nCapabilityBoundingSet=")
	list, _, _ = strings.Cut(list, "\n")
	bounding := "-all"
	for _, name := range strings.Fields(list) {
		bounding += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	said := &Log{}
	c := exec.Command("setpriv", "--bounding-set="+bounding, "--no-new-privs", "sh", p.Layout.Etc+"/stale.sh")
	c.Env = append(os.Environ(), fmt.Sprintf("GIDS=%s|%s", p.group(p.User), p.group(Neighbour)), fmt.Sprintf("PORTS=%d", p.Port))
	c.Stdout, c.Stderr = said, said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	must(p.t, c.Start())
	p.t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(said.String(), "looks"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("it does not look: %s", said.String())
		}
	}
	return said
}

// group is the number of an account's group.
func (p *Proxy) group(name string) string {
	p.t.Helper()
	account, err := user.Lookup(name)
	must(p.t, err)
	return account.Gid
}
