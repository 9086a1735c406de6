// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const (
	passphrase      = "correct-horse-battery"
	wrongPassphrase = "wrong-horse-battery"
	password        = "hunter2-in-the-wrong-place"
)

// badRow is one way to get it wrong, from a configuration that works.
type badRow struct {
	name      string
	spoil     func(*tunnel.Config)
	class     error
	permanent bool
	says      string // part of the error or its hint
}

// proxies are the servers of the table, each wrong in its own way.
type proxies struct {
	good, forbids, unprivileged, restricted *chain
	busy                                    int    // a port that somebody holds
	http, silent, rude, gone                string // "host:port"
	elsewhere, nothing                      string // URLs
	dir                                     string
}

func startProxies(t *testing.T) *proxies {
	t.Helper()
	p := &proxies{dir: t.TempDir(),
		good:         newChain(t, sshdtest.Options{}),
		forbids:      newChain(t, sshdtest.Options{Config: []string{"AllowTcpForwarding no"}}),
		restricted:   newChain(t, sshdtest.Options{AuthorizedKeys: "restrict %s"}),
		unprivileged: newChain(t, sshdtest.Options{Unprivileged: true})}
	p.http = app(t, "not the app")
	p.elsewhere = "http://" + p.http + "/"
	p.silent = accepting(t, silence)
	p.rude = accepting(t, func(net.Conn) {})
	p.gone = fmt.Sprintf("127.0.0.1:%d", p.good.FreePort())
	p.nothing = fmt.Sprintf("http://127.0.0.1:%d/", p.good.FreePort())
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.good.FreePort()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p.busy = l.Addr().(*net.TCPAddr).Port
	return p
}

// accepting is a server that has f handle each connection, and closes it afterwards.
func accepting(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { defer func() { _ = c.Close() }(); f(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); tasks.Wait() })
	return l.Addr().String()
}

// silence says nothing until the other side has enough.
func silence(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// file writes a file for a row and returns its path.
func (p *proxies) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// encrypted returns the text of the good proxy's client key, protected by the passphrase. One
// round of its key derivation, of which 16 are usual, leaves the time to what is tested.
func (p *proxies) encrypted(t *testing.T) string {
	t.Helper()
	clear, err := os.ReadFile(p.good.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	path := p.file(t, "encrypted", string(clear))
	if said, err := exec.Command("ssh-keygen", "-q", "-p", "-a", "1", "-P", "", "-N", passphrase, "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, said)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func settings(t *testing.T, p *proxies) []badRow {
	set := func(f func(*tunnel.Config)) func(*tunnel.Config) { return f }
	server := func(s ...string) func(*tunnel.Config) { return func(c *tunnel.Config) { c.Server = s } }
	url := func(s string) func(*tunnel.Config) { return func(c *tunnel.Config) { c.URL = s } }
	rows := []badRow{
		{"no server", server(), nil, true, "no server"},
		{"two servers", server("a@b", "c@d"), nil, true, "2 servers"},
		{"server without a user", server("127.0.0.1"), nil, true, "names no user"},
		{"server without a host", server("me@"), nil, true, "names no host"},
		{"server with a password", server("me:" + password + "@127.0.0.1"), nil, true, "passwords are not used"},
		{"server with a bad port", server("me@127.0.0.1:ssh"), nil, true, "not a number from 1 to 65535"},
		{"server as an option of ssh", server("-oProxyCommand=id@127.0.0.1"), nil, true, "dash"},
		{"server as a URL", server("https://me@127.0.0.1/"), nil, true, "is a URL"},
		{"server with a line break", server("me@127.0.0.1\nx"), nil, true, "no user or host name has"},
		{"port below 1", set(func(c *tunnel.Config) { c.Remote = -1 }), nil, true, "not a TCP port"},
		{"port above 65535", set(func(c *tunnel.Config) { c.Remote = 65536 }), nil, true, "not a TCP port"},
		{"URL of another kind", url("ftp://127.0.0.1/"), nil, true, "not an http"},
		{"URL in a URL", url("http://http://127.0.0.1/"), nil, true, "not an http"},
		{"URL without a host", url("http://"), nil, true, "not an http"},
		{"URL with a password", url("http://me:" + password + "@127.0.0.1/"), nil, true, "not an http"},
		{"URL that is none", url("http://[::1"), nil, true, "not an http"},
		{"target without a port", set(func(c *tunnel.Config) { c.Target = "127.0.0.1" }), nil, true, "not host:port"},
		{"target with a bad port", set(func(c *tunnel.Config) { c.Target = "127.0.0.1:99999" }), nil, true, "not host:port"},
	}
	return classed(tunnel.ErrConfig, append(rows, keys(t, p)...))
}

func classed(class error, rows []badRow) []badRow {
	for i := range rows {
		rows[i].class = class
	}
	return rows
}

func keys(t *testing.T, p *proxies) []badRow {
	key := func(text, pass string) func(*tunnel.Config) {
		return func(c *tunnel.Config) { c.Key, c.KeyPassphrase = text, pass }
	}
	hostKey := func(s string) func(*tunnel.Config) { return func(c *tunnel.Config) { c.HostKey = s } }
	clear, err := os.ReadFile(p.good.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	secret, damaged := p.encrypted(t), strings.Replace(string(clear), "b3Blb", "B3Blb", 1)
	return []badRow{
		{"key file is missing", key(filepath.Join(p.dir, "none"), ""), nil, true, "cannot be read"},
		{"key is a directory", key(p.dir, ""), nil, true, "cannot be read"},
		{"key file is empty", key(p.file(t, "empty", ""), ""), nil, true, "not a private key"},
		{"key is some text", key("line\nanother line", ""), nil, true, "neither a path nor"},
		{"key text is damaged", key(damaged, ""), nil, true, "not a private key"},
		{"key text is cut off", key(string(clear[:len(clear)/2]), ""), nil, true, "not a whole private key"},
		{"key file is damaged", key(p.file(t, "damaged", damaged), ""), nil, true, "not a private key"},
		{"key is the public one", key(p.file(t, "id.pub", publicLine(t, p.good.HostKey)), ""), nil, true, "public key"},
		{"key is PuTTY's", key(p.file(t, "ppk", "PuTTY-User-Key-File-3: ssh-ed25519\n"), ""), nil, true, "PuTTY"},
		{"passphrase is missing", key(secret, ""), nil, true, "protected by a passphrase"},
		{"passphrase is wrong", key(secret, wrongPassphrase), nil, true, "does not open"},
		{"passphrase of a file is wrong", key(p.file(t, "secret", secret), wrongPassphrase), nil, true, "does not open"},
		{"fingerprint is cut off", hostKey("SHA256:abc"), nil, true, "not a SHA256 fingerprint"},
		{"fingerprint is MD5", hostKey("MD5:00:11:22"), nil, true, "another hash than SHA256"},
		{"known_hosts file is missing", hostKey(filepath.Join(p.dir, "none")), nil, true, "cannot be read"},
		{"known_hosts file is empty", hostKey(p.file(t, "no_hosts", "# nothing\n")), nil, true, "no host key"},
		{"known_hosts line is damaged", hostKey("127.0.0.1 ssh-ed25519 AAAA"), nil, true, "nor a known_hosts line"},
	}
}

func publicLine(t *testing.T, key ssh.PublicKey) string {
	t.Helper()
	return string(ssh.MarshalAuthorizedKey(key))
}

func network(t *testing.T, p *proxies) []badRow {
	to := func(addr string) func(*tunnel.Config) {
		return func(c *tunnel.Config) { c.Server = tunnel.Servers{"me@" + addr} }
	}
	on := func(p *chain, port int) func(*tunnel.Config) {
		return func(c *tunnel.Config) { log := c.Log; *c = p.config(""); c.Log, c.Remote = log, port }
	}
	other := sshdtest.Start(t, sshdtest.Options{})
	stranger := "SHA256:" + strings.Repeat("A", 43)
	seen := p.good.Fingerprint()
	unreachable := tunnel.ErrUnreachable
	return []badRow{
		{"host key is not the pinned one", func(c *tunnel.Config) { c.HostKey = stranger }, tunnel.ErrHostKey, true, seen},
		{"host key is not known", func(c *tunnel.Config) { c.HostKey = other.KnownHostsLine() }, tunnel.ErrHostKey, true, seen},
		{"host key was never seen", func(c *tunnel.Config) { c.HostKey = "" }, tunnel.ErrHostKey, true, seen},
		{"host key was revoked", func(c *tunnel.Config) { c.HostKey = "@revoked " + p.good.KnownHostsLine() }, tunnel.ErrHostKey, true, "revoked"},
		{"key is refused", func(c *tunnel.Config) { c.Key = other.KeyFile }, tunnel.ErrAuth, true, "authorized_keys"},
		{"user is refused", func(c *tunnel.Config) { c.Server = tunnel.Servers{"nosuchuser@" + p.good.Addr()} }, tunnel.ErrAuth, true, "nosuchuser"},
		{"forwards are forbidden", on(p.forbids, p.forbids.port), tunnel.ErrForward, true, "AllowTcpForwarding"},
		{"forwards are forbidden to the key", on(p.restricted, p.restricted.port), tunnel.ErrForward, true, "restrict"},
		{"port is in use", func(c *tunnel.Config) { c.Remote = p.busy }, tunnel.ErrForward, false, "in use"},
		{"port is privileged", on(p.unprivileged, 81), tunnel.ErrForward, true, "below 1024"},
		{"connection is refused", to(p.gone), unreachable, false, "connection refused"},
		{"name does not resolve", to("nosuchname.invalid"), unreachable, false, "does not resolve"},
		{"no SSH server", to(p.http), unreachable, false, "HTTP/1.1 400"},
		{"server says nothing", to(p.silent), unreachable, false, "no SSH banner"},
		{"server closes at once", to(p.rude), unreachable, false, "ended the connection"},
		{"URL leads elsewhere", func(c *tunnel.Config) { c.URL = p.elsewhere }, tunnel.ErrForward, false, "proxy_pass"},
	}
}

// Each mistake is told by its class, in time, and in words that do not give secrets away.
func TestBadInputIsTold(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir()) // no known_hosts, no keys
	p := startProxies(t)
	for _, row := range append(settings(t, p), network(t, p)...) {
		t.Run(row.name, func(t *testing.T) {
			leak.Check(t)
			c := &chain{Server: p.good.Server, port: p.good.port, url: p.good.url}
			cfg := c.config("")
			row.spoil(&cfg)
			const slack = 8 * time.Second // a handshake alone has 10 s
			limit := 2 * time.Second
			if row.permanent { // which is told at once
				limit = 20 * time.Second
			}
			var told error
			cfg.Opening = func(_ int, err error) { told = err }
			expose := func() (*tunnel.Tunnel, error) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				begin := time.Now()
				tun, err := tunnel.Expose(ctx, cfg)
				if took := time.Since(begin); took > limit+slack {
					t.Errorf("took %v, the limit was %v", took, limit)
				}
				return tun, err
			}
			tun, err := expose()
			if err != nil && strings.Contains(err.Error(), "no time to hear") { // on a busy machine
				limit = 20 * time.Second
				tun, err = expose()
			}
			if err == nil {
				_ = tun.Close()
				t.Fatal("no error")
			}
			row.check(t, err, &c.log)
			if again := strings.Contains(err.Error(), "connection refused"); again && told == nil || row.permanent && told != nil {
				t.Errorf("before the end it said %v", told)
			}
			wantNoSecrets(t, cfg, err, &c.log)
		})
	}
}

func (row *badRow) check(t *testing.T, err error, log *proxytest.Log) {
	t.Helper()
	e, ok := errors.AsType[*tunnel.Error](err)
	if !ok {
		t.Fatalf("not an *Error: %T %v", err, err)
	}
	if !errors.Is(err, row.class) || e.Permanent != row.permanent {
		t.Errorf("class %v, permanent %v; want %v, %v: %v", e.Class, e.Permanent, row.class, row.permanent, err)
	}
	if !strings.Contains(e.Error()+e.Hint.String(), row.says) {
		t.Errorf("%q, hint %q: want %q in it", e.Error(), e.Hint, row.says)
	}
	for _, class := range []error{tunnel.ErrConfig, tunnel.ErrHostKey, tunnel.ErrAuth, tunnel.ErrForward, tunnel.ErrUnreachable, tunnel.ErrInternal} {
		if class != row.class && errors.Is(err, class) {
			t.Errorf("is of class %v too: %v", class, err)
		}
	}
	if e.Hint == "" && row.class != tunnel.ErrInternal {
		t.Errorf("no hint: %v", err)
	}
	if strings.Contains(log.String(), "internal error") {
		t.Errorf("log: %s", log)
	}
}

// wantNoSecrets looks for the key and the passphrases in all that people are shown.
func wantNoSecrets(t *testing.T, cfg tunnel.Config, err error, log *proxytest.Log) {
	t.Helper()
	shown, jerr := json.Marshal(tunnel.AsError(err))
	if jerr != nil {
		t.Fatal(jerr)
	}
	all := fmt.Sprintf("%v %+v %#v %s %s %s", err, err, err, tunnel.AsError(err).Hint, shown, log)
	key := cfg.Key
	if text, err := os.ReadFile(cfg.Key); err == nil {
		key = string(text)
	}
	secrets := []string{passphrase, wrongPassphrase, password}
	if strings.Contains(key, "PRIVATE") {
		secrets = append(secrets, regexp.MustCompile(`[A-Za-z0-9+/]{24,}`).FindAllString(key, -1)...)
	}
	for _, secret := range secrets {
		if bytes.Contains([]byte(all), []byte(secret)) {
			t.Errorf("shows the secret %.12q…: %s", secret, all)
		}
	}
}

// The caller's own end of the set-up is told as that.
func TestCancelledExposeLeavesNothing(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tunnel.Expose(ctx, c.config("")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cfg := c.config("")
	cfg.Server = tunnel.Servers{"me@" + accepting(t, func(c net.Conn) { cancel(); silence(c) })}
	if _, err := tunnel.Expose(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while the server says nothing: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := tunnel.Expose(ctx, c.config("")); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, tunnel.ErrUnreachable) {
		t.Errorf("no time: %v", err)
	}
}

// A URL that nobody can open from here or from the proxy does not stop a tunnel that works.
func TestURLThatCannotBeCheckedIsLetPass(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(app(t, "hello"))
	cfg.URL = fmt.Sprintf("http://127.0.0.2:%d/", c.FreePort())
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tun.Close() }()
	if s := tun.Status(); s.State != tunnel.Up || s.Checked != "" {
		t.Errorf("status %+v", s)
	}
	wantBody(t, c.url, "hello")
}

// Where this machine cannot open the URL, the proxy is asked whether its own port leads here.
func TestURLIsCheckedFromTheProxy(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	cfg.URL = strings.Replace(c.url, "127.0.0.1", "nosuchname.invalid", 1)
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tun.Close() }()
	if s := tun.Status(); s.Checked != "link" {
		t.Errorf("status %+v", s)
	}
}
