// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// NewKey makes a private key that no server knows, its public half beside it, and returns its path.
func NewKey(t testing.TB, kind string) string {
	t.Helper()
	s := &Server{t: t}
	return s.NewKeyFile(kind)
}

// Sign has ssh-keygen sign a key by a certificate authority, both private keys of NewKey. The
// certificate is beside the key.
func Sign(t testing.TB, ca, key string, args ...string) {
	t.Helper()
	args = append([]string{"-q", "-s", ca, "-I", "test"}, args...)
	out, err := exec.Command(program(t, "ssh-keygen"), append(args, key+".pub")...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// Agent is a running ssh-agent.
type Agent struct {
	// Socket is where it listens.
	Socket string
	t      testing.TB
	cmd    *exec.Cmd
}

// StartAgent starts an ssh-agent with the keys (and the certificates beside them) of these files,
// that ends with the test.
func StartAgent(t testing.TB, keys ...string) *Agent {
	t.Helper()
	dir := directory(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &Agent{Socket: filepath.Join(dir, "agent"), t: t}
	a.cmd = exec.Command(program(t, "ssh-agent"), "-D", "-a", a.Socket)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", a.Socket)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ssh-agent does not start: %v", err)
		}
	}
	for _, key := range keys {
		a.Add(key)
	}
	return a
}

// Add has the agent hold the key of a file.
func (a *Agent) Add(key string) {
	a.t.Helper()
	c := exec.Command(program(a.t, "ssh-add"), "-q", key)
	c.Env = append(os.Environ(), "SSH_AUTH_SOCK="+a.Socket)
	if out, err := c.CombinedOutput(); err != nil {
		a.t.Fatalf("ssh-add: %v\n%s", err, out)
	}
}

// Freeze has the agent accept connections and answer nothing.
func (a *Agent) Freeze() { _ = a.cmd.Process.Signal(syscall.SIGSTOP) }

// Stop ends the agent.
func (a *Agent) Stop() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}
}

// program returns the path of a program of OpenSSH's client.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing.Skip(t, "no %s is installed (Debian: openssh-client)", name)
	}
	return path
}
