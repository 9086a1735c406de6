// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package sshdtest is for tests: it runs a private OpenSSH server, the real one.
//
//	s := sshdtest.Start(t, sshdtest.Options{})
//	link, err := dial(s.Host, s.Port, s.User, s.KeyFile, s.Fingerprint())
//	port := s.FreePort()    // for a slot
//	s.KillLinks()           // the proxy's end of each connection dies
//	s.StopLinks()           // …or says nothing more
//
// The server listens on a free port of 127.0.0.1, knows one client key, keeps everything in a
// directory of its own and dies with the test; its log is shown if the test failed. It runs as
// the user of the test: as root it is the server of a real proxy, with all privileges. Where
// there is no sshd a test is skipped, with CI=true it fails. Processes are found by /proc: Linux only.
package sshdtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

const (
	readyTimeout = 20 * time.Second // until the banner; a busy machine makes keys slowly
	startTries   = 5                // another process may take the free port first
)

// unprivileged is an account, and a group, that every Linux has. Not nobody: nss-systemd says
// that it is locked, and sshd believes that.
const unprivileged = "games"

// Options are what a test wants to be different.
type Options struct {
	// Config holds lines of sshd_config(5), which win over those of this package.
	Config []string
	// HostKeys are kinds of keys: "ed25519", "ecdsa", "rsa". Nil: ed25519.
	HostKeys []string
	// AuthorizedKeys is the whole file; "%s" in it stands for the client's public key. "": "%s".
	AuthorizedKeys string
	// HostCA is the path of a private key that signs the host keys (ssh-keygen -s), HostSign are
	// further arguments. "": the server has no certificates.
	HostCA   string
	HostSign []string
	// Unprivileged has the server run as an account without privileges, so that ports below 1024
	// are refused. Its shell is nologin(8): sessions end at once, forwarding works. Needs root.
	Unprivileged bool
	// Tenant has the server let an account without privileges in, as a prepared proxy does, while it
	// runs as root itself. Needs root.
	Tenant bool
	// Account is the name of an account of the server's own, which this machine does not have: no file of this machine's
	// changes. Shell is its login shell (""; bash), Home are the files in its home by their names; with NoHome that directory
	// is not where it should be. Shadow is what shadow(5) says of it, from the password on; "": nothing of note. Each of
	// them makes one. They need root, and namespaces.
	Account, Shell string
	Home           map[string]string
	NoHome         bool
	Shadow         string
	// InPlace are files that the server and its sessions see in the place of others of this machine, by the path of those.
	// It needs root, and namespaces.
	InPlace map[string]string
	// BusyBox has the account's shell and the programs that it runs be BusyBox's, as on Alpine. It needs root, and namespaces.
	BusyBox bool
	// Root is the path of a Debian of which the server is to be. "": this machine. It needs root, and namespaces.
	Root string
	// Dropbear has the server be Dropbear, which has an account of its own and knows no Config.
	Dropbear bool
	// IPv6 has it listen on ::1.
	IPv6 bool

	homeAt string // where the home of an own account is seen; "": where it is
}

// TenantID returns the number of the account of Options.Tenant.
func (s *Server) TenantID() int {
	account, err := user.Lookup(s.User)
	s.must(err)
	uid, err := strconv.Atoi(account.Uid)
	s.must(err)
	return uid
}

// Server is a running sshd.
type Server struct {
	// Host and Port are where it listens, User is whom it lets in.
	Host string
	Port int
	User string
	// KeyFile is the client's private key, in clear, ed25519.
	KeyFile string
	// HostKey is its first host key, HostKeys are all of them.
	HostKey  ssh.PublicKey
	HostKeys []ssh.PublicKey

	t    testing.TB
	dir  string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd // nil while it is stopped
}

// Start starts a server that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, Host: "127.0.0.1", dir: directory(t)}
	sshd := find(t)
	s.args = []string{sshd, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config")}
	if o.IPv6 {
		s.Host = "::1"
	}
	me, err := user.Current()
	s.must(err)
	s.User = me.Username
	if o.Tenant {
		if os.Getuid() != 0 {
			missing.Skip(t, "sshd shuts accounts in for root only")
		}
		s.User = unprivileged
		s.must(os.Chmod(s.dir, 0o711)) // it reads the list of keys as that account
	}
	if o.Unprivileged {
		if os.Getuid() != 0 {
			missing.Skip(t, "an unprivileged sshd is started by root")
		}
		s.User = unprivileged
		s.args = append([]string{"setpriv", "--reuid=" + unprivileged, "--regid=" + unprivileged,
			"--clear-groups", "--pdeathsig=KILL"}, s.args...)
	}
	s.keys(o)
	if o.Dropbear {
		s.dropbear(&o)
	}
	s.account(o)
	s.handOver(o)
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("sshd on port %d:\n%s", s.Port, s.Log())
		}
		_ = os.RemoveAll(s.dir)
	})
	for try := 1; ; try++ {
		s.Port = FreePort()
		s.configure(o)
		if o.Dropbear {
			s.args = append(s.args[:slices.Index(s.args, "-p")], "-p", s.Addr())
		}
		if err = s.launch(); err == nil {
			return s
		}
		if try == startTries || !strings.Contains(s.Log(), "Address already in use") {
			t.Fatalf("sshd does not start: %v", err)
		}
	}
}

// Addr returns "127.0.0.1:port".
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Fingerprint returns the host key's, "SHA256:…".
func (s *Server) Fingerprint() string { return ssh.FingerprintSHA256(s.HostKey) }

// KnownHostsLine returns the host key's line for known_hosts.
func (s *Server) KnownHostsLine() string {
	return fmt.Sprintf("[%s]:%d %s", s.Host, s.Port, ssh.MarshalAuthorizedKey(s.HostKey))
}

// Log returns what the server has written so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Stop ends the server and every process of its connections.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		killTree(s.cmd.Process.Pid)
		_ = s.cmd.Wait()
		s.cmd = nil
		for _, pid := range s.sessions() { // whose sshd ended before: one that is stopped does not see the end of its input
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Restart is Stop and a new server on the same port, with the same keys.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.must(s.launch())
}

// Reconfigure replaces texts in sshd_config, old and new in turn, and is Restart.
func (s *Server) Reconfigure(change ...string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "sshd_config"))
	s.must(err)
	s.write("sshd_config", strings.NewReplacer(change...).Replace(string(text)))
	s.Restart()
}

// launch starts the process and waits until it speaks.
func (s *Server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that runs out of time cleans nothing up
	if err := cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
		if s.speaks() && slices.Contains(listening(cmd.Process.Pid), s.Port) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cmd = cmd
			return nil
		}
		if zombie(cmd.Process.Pid) || time.Now().After(deadline) {
			killTree(cmd.Process.Pid)
			err := cmd.Wait()
			return fmt.Errorf("no banner: %w\n%s", err, s.Log())
		}
	}
}

// speaks reports whether a banner comes from the port.
func (s *Server) speaks() bool {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(readyTimeout))
	banner, _ := bufio.NewReader(c).ReadString('\n')
	return strings.HasPrefix(banner, "SSH-2.0-")
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// find returns sshd's absolute path, which it wants to be started by.
func find(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			if os.Getuid() == 0 { // where it locks up its unprivileged part
				_ = os.MkdirAll("/run/sshd", 0o755)
			}
			return path
		}
	}
	missing.Skip(t, "no sshd is installed (Debian: openssh-server)")
	return ""
}

// directory is not t.TempDir: that one lies in a directory that only root may enter.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshdtest-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
