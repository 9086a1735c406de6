// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// thief logs in with a tenant's stolen key, by a client that does what it is told.
func thief(t testing.TB, r *rendered) *ssh.Client {
	t.Helper()
	text, err := os.ReadFile(r.KeyFile)
	must(t, err)
	key, err := ssh.ParsePrivateKey(text)
	must(t, err)
	c, err := ssh.Dial("tcp", r.Addr(), &ssh.ClientConfig{User: r.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(r.HostKey), Timeout: 20 * time.Second})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// bind asks for a unix socket (PROTOCOL, section 2.4, of OpenSSH).
func bind(c *ssh.Client, path string) bool {
	ok, _, err := c.SendRequest("streamlocal-forward@openssh.com", true, ssh.Marshal(struct{ Path string }{path}))
	return ok && err == nil
}

// A stolen key can show its tenant's own apps, and nothing else.
func TestAttacksOnTheRenderedProxy(t *testing.T) {
	r := newRendered(t)
	var c *ssh.Client
	stranger := app(t, "not for tenants")
	outside := filepath.Join(os.TempDir(), filepath.Base(r.layout.Run)+".sock")
	check := fmt.Sprintf("127.0.0.1:%d", r.check(t))
	theirs := "/" + neighbour + "/s/theirs.0.sock"

	session := func(do func(*ssh.Session) error) error {
		s, err := c.NewSession()
		must(t, err)
		defer func() { _ = s.Close() }()
		return do(s)
	}
	files := func(do func(*sftp.Client) error) error {
		f, err := sftp.NewClient(c)
		must(t, err)
		defer func() { _ = f.Close() }()
		return do(f)
	}
	dial := func(network, addr string) error {
		conn, err := c.Dial(network, addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	asked := func(ok bool) error {
		if ok {
			return nil
		}
		return io.EOF
	}
	request := func(name string, payload []byte) error {
		return session(func(s *ssh.Session) error {
			ok, err := s.SendRequest(name, true, payload)
			if err != nil {
				return err
			}
			return asked(ok)
		})
	}
	for name, attack := range map[string]func() error{
		"a second session": func() error {
			return session(func(*ssh.Session) error {
				s, err := c.NewSession()
				if err == nil {
					_ = s.Close()
				}
				return err
			})
		},
		"a terminal": func() error { return session(func(s *ssh.Session) error { return s.RequestPty("xterm", 24, 80, nil) }) },
		"the agent":  func() error { return request("auth-agent-req@openssh.com", nil) },
		"X11": func() error {
			return request("x11-req", ssh.Marshal(struct {
				Single       bool
				Name, Cookie string
				Screen       uint32
			}{false, "MIT-MAGIC-COOKIE-1", strings.Repeat("0", 32), 0}))
		},
		"a variable":      func() error { return session(func(s *ssh.Session) error { return s.Setenv("LD_PRELOAD", "/x") }) },
		"writing a file":  func() error { return files(func(f *sftp.Client) error { _, err := f.Create("/s/x"); return err }) },
		"removing a file": func() error { return files(func(f *sftp.Client) error { return f.Remove("/proxy.json") }) },
		"making a link":   func() error { return files(func(f *sftp.Client) error { return f.Symlink("/etc", "/s/etc") }) },
		"reading outside": func() error {
			return files(func(f *sftp.Client) error { _, err := f.Stat("/../../../etc/passwd"); return err })
		},
		"their directory": func() error {
			return files(func(f *sftp.Client) error { _, err := f.ReadDir("/../" + neighbour); return err })
		},
		"another service":  func() error { return dial("tcp", stranger) },
		"nginx's own port": func() error { return dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.http)) },
		"sshd":             func() error { return dial("tcp", r.Addr()) },
		"a name":           func() error { return dial("tcp", strings.Replace(check, "127.0.0.1", "localhost", 1)) },
		"the Internet":     func() error { return dial("tcp", "192.0.2.1:80") },
		"a socket":         func() error { return dial("unix", "/s/sales.0.sock") },
		"a port": func() error {
			l, err := c.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				_ = l.Close()
			}
			return err
		},
		"every address's port": func() error {
			l, err := c.Listen("tcp", "0.0.0.0:18080")
			if err == nil {
				_ = l.Close()
			}
			return err
		},
		"a device": func() error {
			ch, _, err := c.OpenChannel("tun@openssh.com", ssh.Marshal(struct{ Mode, Unit uint32 }{1, 0x7fffffff}))
			if err == nil {
				_ = ch.Close()
			}
			return err
		},
		"a socket outside":      func() error { return asked(bind(c, outside)) },
		"a socket by ..":        func() error { return asked(bind(c, "/s/../../"+neighbour+"/s/theirs.0.sock")) },
		"their socket":          func() error { return asked(bind(c, theirs)) },
		"the description":       func() error { return asked(bind(c, "/proxy.json")) },
		"the directory itself":  func() error { return asked(bind(c, "/s")) },
		"a socket beside it":    func() error { return asked(bind(c, "/x.sock")) },
		"a name that is longer": func() error { return asked(bind(c, "/s/"+strings.Repeat("x", 200))) },
	} {
		c = thief(t, r) // sshd has a session left that it has not seen the end of
		if err := attack(); err == nil {
			t.Errorf("%s: granted", name)
		}
	}
	c = thief(t, r)
	for _, path := range []string{outside, filepath.Join(r.layout.Run, neighbour, "s/theirs.0.sock")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("there is %s", path)
		}
	}
	if text, err := os.ReadFile(filepath.Join(r.layout.Run, r.User, "proxy.json")); err != nil || string(text) != r.files.Text(r.layout.Etc+"/proxy/"+r.User+".json") {
		t.Errorf("the description: %q, %v", text, err)
	}
	_ = session(func(s *ssh.Session) error { // what is asked for runs, but it is another command
		said, _ := s.CombinedOutput("id")
		if strings.Contains(string(said), "uid=") {
			t.Errorf("a command: %q", said)
		}
		return nil
	})
	checkPort(t, thief(t, r), r, check)
}

// checkPort: the one permitted address answers one question, of the tenant's own names.
func checkPort(t *testing.T, c *ssh.Client, r *rendered, check string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.DialContext(ctx, "tcp", check) }}}
	for where, want := range map[string]int{
		"board.invalid/.well-known/taipy-tunnel":                     503, // nobody is there
		"mine--" + r.User + ".apps.invalid/.well-known/taipy-tunnel": 503,
		"127.0.0.1/sales/.well-known/taipy-tunnel":                   503,
		"127.0.0.1/other/.well-known/taipy-tunnel":                   404,
		"board.invalid/": 404,
		"board.invalid/.well-known/taipy-tunnel/../../x":                404,
		"theirs.invalid/.well-known/taipy-tunnel":                       404,
		"mine--" + neighbour + ".apps.invalid/.well-known/taipy-tunnel": 404,
		"x--" + neighbour + "--.apps.invalid/.well-known/taipy-tunnel":  404,
		"127.0.0.1/sales/": 404, "127.0.0.1/status": 404, "nobody.invalid/taipy-tunnel-away": 404, "board.invalid/taipy-tunnel-away": 404,
	} {
		resp, err := client.Get("http://" + where)
		must(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s by the check port: %s, want %d", where, resp.Status, want)
		}
	}
}

// A certificate logs in if the tenant's authority signed it, for a principal of the tenant's, for now,
// and if neither it nor its key was revoked.
func TestCertificatesOfTenants(t *testing.T) {
	authority, stranger := signer(t), signer(t)
	notebook, lost := signer(t), signer(t)
	line := func(s ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(s.PublicKey())) }
	r := newRendered(t, func(h *proxyhost.Host) {
		own := &h.Tenants[0]
		own.Keys, own.UserCA, own.Principals, own.Revoked = nil, []string{line(authority)}, []string{"team"}, []string{line(lost)}
	})
	login := func(key ssh.Signer) error {
		c, err := ssh.Dial("tcp", r.Addr(), &ssh.ClientConfig{User: r.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
			HostKeyCallback: ssh.FixedHostKey(r.HostKey), Timeout: 20 * time.Second})
		if err == nil {
			defer func() { _ = c.Close() }()
			if !bind(c, "/s/sales.0.sock") || bind(c, "/x.sock") || func() bool { _, err := c.Listen("tcp", "127.0.0.1:0"); return err == nil }() {
				t.Error("a certificate may do something else than a key")
			}
		}
		return err
	}
	hour := time.Hour
	for what, c := range map[string]struct {
		by, key   ssh.Signer
		principal string
		from, to  time.Duration
		good      bool
	}{
		"a good one":            {authority, notebook, "team", -hour, hour, true},
		"a stranger's":          {stranger, notebook, "team", -hour, hour, false},
		"another principal's":   {authority, notebook, "others", -hour, hour, false},
		"the account's name":    {authority, notebook, r.User, -hour, hour, false},
		"nobody in particular":  {authority, notebook, "", -hour, hour, false},
		"one that is over":      {authority, notebook, "team", -2 * hour, -hour, false},
		"one that is not begun": {authority, notebook, "team", hour, 2 * hour, false},
		"one of a revoked key":  {authority, lost, "team", -hour, hour, false},
	} {
		cert := &ssh.Certificate{Key: c.key.PublicKey(), CertType: ssh.UserCert, KeyId: what, ValidAfter: uint64(time.Now().Add(c.from).Unix()),
			ValidBefore: uint64(time.Now().Add(c.to).Unix()), Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": ""}}}
		if c.principal != "" {
			cert.ValidPrincipals = []string{c.principal}
		}
		must(t, cert.SignCert(rand.Reader, c.by))
		with, err := ssh.NewCertSigner(cert, c.key)
		must(t, err)
		if err := login(with); (err == nil) != c.good {
			t.Errorf("%s: %v", what, err)
		}
	}
	if login(notebook) == nil || login(authority) == nil {
		t.Error("a key without a certificate logs in")
	}
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return s
}
