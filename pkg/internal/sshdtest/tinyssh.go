// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// StartTinySSH starts a TinySSH, which forwards no ports, with an account of its own. Of the Server's methods those that
// name it work. It needs root, and namespaces.
func StartTinySSH(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, Host: "127.0.0.1", Port: FreePort(), dir: directory(t)}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if _, err := exec.LookPath("tinysshd"); err != nil {
		missing.Skip(t, "no tinysshd is installed (Debian: tinysshd)")
	}
	s.keys(Options{})
	keys := filepath.Join(s.dir, "keys")
	said, err := exec.Command("sh", "-c", "tinysshd-makekey "+keys+" && tinysshd-printkey "+keys).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	_, line, _ := strings.Cut(string(said), "ssh-ed25519 ")
	s.HostKey, _, _, _, err = ssh.ParseAuthorizedKey([]byte("ssh-ed25519 " + line))
	s.must(err)
	list, err := os.ReadFile(filepath.Join(s.dir, "authorized_keys"))
	s.must(err)
	s.args = []string{"tinysshd", keys}
	s.account(Options{Home: map[string]string{".ssh/authorized_keys": string(list)}, homeAt: "/mnt"}) // it wants no directory above that others may write to
	l, err := net.Listen("tcp", s.Addr())
	s.must(err)
	var tasks sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); tasks.Wait() })
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { s.serve(c.(*net.TCPConn)) })
		}
	})
	return s
}

// serve runs the server for one connection, as inetd would.
func (s *Server) serve(c *net.TCPConn) {
	f, err := c.File()
	_ = c.Close()
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Stdin, cmd.Stdout = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	_ = cmd.Run()
}
