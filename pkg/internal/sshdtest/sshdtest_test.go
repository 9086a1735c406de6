// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

func login(t *testing.T, s *Server) *ssh.Client {
	t.Helper()
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.Addr(), &ssh.ClientConfig{User: s.User, Timeout: 10 * time.Second,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func listen(t *testing.T, s *Server, c *ssh.Client) int {
	t.Helper()
	port := s.FreePort()
	l, err := c.ListenTCP(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return port
}

func TestServerIsReal(t *testing.T) {
	leak.Check(t)
	s := Start(t, Options{})
	c := login(t, s)
	port := listen(t, s, c)
	if !s.HoldsPort(port) || s.HoldsPort(port+1) {
		t.Error("HoldsPort does not see the slot")
	}
	if !strings.Contains(string(c.ServerVersion()), "OpenSSH") {
		t.Errorf("version %q", c.ServerVersion())
	}
	s.KillLinks()
	if err := c.Wait(); err == nil {
		t.Error("the connection ended without an error")
	}
	login(t, s) // the server itself goes on
	s.Restart()
	login(t, s)
}

func TestUnprivilegedServer(t *testing.T) {
	leak.Check(t)
	s := Start(t, Options{Unprivileged: true, HostKeys: []string{"ecdsa"}})
	c := login(t, s)
	listen(t, s, c)
	if _, err := c.ListenTCP(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 81}); err == nil {
		t.Error("a port below 1024 was granted")
	}
}

func TestStoppedLinksSayNothing(t *testing.T) {
	leak.Check(t)
	s := Start(t, Options{})
	c := login(t, s)
	answered := make(chan error, 1)
	s.StopLinks()
	go func() { _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); answered <- err }()
	select {
	case err := <-answered:
		t.Fatalf("a stopped process answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.ContinueLinks()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// What ran in a session ends with the server, although its sshd has died before it and it was stopped.
func TestStopLeavesNoOrphan(t *testing.T) {
	leak.Check(t)
	s := Start(t, Options{})
	session, err := login(t, s).NewSession()
	s.must(err)
	out, err := session.StdoutPipe()
	s.must(err)
	s.must(session.Start("echo ready; sleep 1000"))
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	s.StopLinks()
	all := s.sessions()
	for _, link := range s.Links() {
		s.must(syscall.Kill(link, syscall.SIGKILL))
	}
	s.Stop()
	for _, pid := range all {
		for deadline := time.Now().Add(10 * time.Second); !zombie(pid) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if !zombie(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	if len(all) == 0 {
		t.Error("there was none")
	}
}

// What a test wants of sshd holds, as sshd itself reads it (sshd -T).
func TestConfigWins(t *testing.T) {
	s := Start(t, Options{Config: []string{"MaxStartups 7:30:7", "LogLevel ERROR", "PasswordAuthentication yes", "PermitRootLogin no"}})
	said, err := exec.Command(s.args[0], "-T", "-f", filepath.Join(s.dir, "sshd_config")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"maxstartups 7:30:7", "loglevel ERROR", "passwordauthentication yes", "permitrootlogin no", "usepam no"} {
		if !strings.Contains("\n"+string(said), "\n"+want+"\n") {
			t.Errorf("sshd does not take %q", want)
		}
	}
}

// Tests of several packages run at the same time: while one is about to use a port, no other is given it.
func TestProcessesHaveTheirOwnPorts(t *testing.T) {
	begins := map[int]bool{ports.first: true}
	for range 5 { // as five more processes would
		first, claim := claimPorts()
		if claim == nil {
			missing.Skip(t, "more processes run than there are ports for")
		}
		defer func() { _ = claim.Close() }()
		if begins[first] {
			t.Errorf("two processes have the ports from %d on", first)
		}
		begins[first] = true
	}
	seen := map[int]bool{}
	for range 100 {
		port := FreePort()
		if seen[port] || port < ports.first || port >= ports.first+portsEach {
			t.Errorf("port %d: %v, given before: %t", port, ports.first, seen[port])
		}
		seen[port] = true
	}
}
