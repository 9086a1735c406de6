// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantFault asserts an error's class and whether it is permanent, and returns it.
func wantFault(t testing.TB, err, class error, permanent bool) *fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || !errors.Is(err, class) || e.Permanent != permanent {
		t.Fatalf("error %v (%T), want class %v, permanent %v", err, err, class, permanent)
	}
	return e
}

// accepting is a server that has f handle each connection, and closes it afterwards.
func accepting(t testing.TB, f func(net.Conn)) *net.TCPAddr {
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
	return l.Addr().(*net.TCPAddr)
}

// silence says nothing until the other side has enough.
func silence(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		silence(c)
	}
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// fakeConfig is a Config for a server at addr whose host key is that of the signer.
func fakeConfig(t testing.TB, addr *net.TCPAddr, host ssh.Signer) Config {
	t.Helper()
	known, err := hostkeys.New(ssh.FingerprintSHA256(host.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	return Config{Host: addr.IP.String(), Port: addr.Port, User: "me", Keys: newKeys(t), HostKeys: known}
}

func newKeys(t testing.TB) *sshauth.Keys {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sshauth.LoadKeys(string(pem.EncodeToMemory(block)), "")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestServersThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		serve    func(net.Conn)
		op, says string
		mark     error
	}{
		"silent":            {silence, "banner", "no SSH banner", nil},
		"closes at once":    {func(net.Conn) {}, "handshake", "ended the connection", fault.ErrOverload},
		"HTTP":              {says("HTTP/1.1 400 Bad Request\r\n\r\n"), "banner", "HTTP/1.1 400", nil},
		"SMTP":              {says("220 mail ESMTP\r\n"), "banner", "220 mail", nil},
		"binary":            {says("\x16\x03\x01\x00\xff\n\n\n"), "banner", "not an SSH server", nil},
		"endless":           {func(c net.Conn) { endless(c) }, "banner", "not an SSH server", nil},
		"banner only":       {says("SSH-2.0-OpenSSH_9.2\r\n"), "handshake", "", nil},
		"stops at a banner": {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); silence(c) }, "handshake", "", nil},
		"nonsense":          {says("SSH-2.0-x\r\n" + strings.Repeat("\xff", 64)), "handshake", "", nil},
		"SSH 1":             {says("SSH-1.5-old\r\n"), "handshake", "", nil},
		"MaxStartups":       {says("Exceeded MaxStartups\r\n"), "banner", "MaxStartups", fault.ErrOverload},
		"penalty":           {says("Not allowed at this time\r\n"), "banner", "Not allowed at this time", fault.ErrPatience},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			cfg := fakeConfig(t, accepting(t, c.serve), newSigner(t))
			begin := time.Now()
			_, err := Dial(within(t, time.Second), cfg)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v, the limit was 1 s", took)
			}
			e := wantFault(t, err, fault.ErrUnreachable, false)
			if e.Op != c.op || !strings.Contains(e.Error(), c.says) || e.Hint == "" {
				t.Errorf("op %q, %q, hint %q; want op %q and %q", e.Op, e.Error(), e.Hint, c.op, c.says)
			}
			wantMark(t, err, c.mark)
		})
	}
}

// wantMark wants that of the marks err has this one, or none.
func wantMark(t *testing.T, err, mark error) {
	t.Helper()
	for _, m := range []error{fault.ErrUnconnected, fault.ErrOverload, fault.ErrPatience} {
		if errors.Is(err, m) != (m == mark) {
			t.Errorf("%v is marked %v: %v, want %v", err, m, m != mark, mark)
		}
	}
}

func endless(c net.Conn) {
	for {
		if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil {
			return
		}
	}
}

func TestServersThatAreNotThere(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	cfg := fakeConfig(t, l.Addr().(*net.TCPAddr), newSigner(t))
	_, err = Dial(within(t, 10*time.Second), cfg)
	if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "connect" || !strings.Contains(e.Error(), "refused") {
		t.Errorf("%v", err)
	}
	wantMark(t, err, fault.ErrUnconnected)
	cfg.Host = "nosuchname.invalid"
	_, err = Dial(within(t, 10*time.Second), cfg)
	if e := wantFault(t, err, fault.ErrUnreachable, false); e.Op != "resolve" || !strings.Contains(e.Error(), "nosuchname.invalid") {
		t.Errorf("%v", err)
	}
	wantMark(t, err, fault.ErrUnconnected)
}

func TestDialIsCancelled(t *testing.T) {
	leak.Check(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := fakeConfig(t, accepting(t, func(c net.Conn) { cancel(); silence(c) }), newSigner(t))
	if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the handshake: %v", err)
	}
	if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// admitting is a server that accepts anybody and refuses each channel. asked has what it is asked.
func admitting(t testing.TB, asked func(*ssh.ServerConn, <-chan *ssh.Request)) Config {
	t.Helper()
	host := newSigner(t)
	addr := accepting(t, func(c net.Conn) {
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
		cfg.AddHostKey(host)
		conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		var tasks sync.WaitGroup
		defer tasks.Wait()
		tasks.Go(func() { asked(conn, reqs) })
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	})
	return fakeConfig(t, addr, host)
}

// opener is one that grants each request, and hands its connection to f.
func opener(t testing.TB, f func(*ssh.ServerConn)) Config {
	t.Helper()
	return admitting(t, func(conn *ssh.ServerConn, reqs <-chan *ssh.Request) {
		var tasks sync.WaitGroup
		defer tasks.Wait()
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type == "tcpip-forward" {
				tasks.Go(func() { f(conn) })
			}
		}
	})
}

// A server may open towards us what comes to a slot that we asked for, and nothing else.
func TestForeignChannelsAreRefused(t *testing.T) {
	leak.Check(t)
	good := ssh.Marshal(forwarded{"127.0.0.1", 8080, "127.0.0.1", 1})
	for name, c := range map[string]struct {
		kind    string
		payload []byte
	}{
		"another port":     {"forwarded-tcpip", ssh.Marshal(forwarded{"127.0.0.1", 8081, "127.0.0.1", 1})},
		"another address":  {"forwarded-tcpip", ssh.Marshal(forwarded{"0.0.0.0", 8080, "127.0.0.1", 1})},
		"a name":           {"forwarded-tcpip", ssh.Marshal(forwarded{"localhost", 8080, "127.0.0.1", 1})},
		"a huge port":      {"forwarded-tcpip", ssh.Marshal(forwarded{"127.0.0.1", 8080 + 1<<16, "127.0.0.1", 1})},
		"cut off":          {"forwarded-tcpip", good[:len(good)-3]},
		"empty":            {"forwarded-tcpip", nil},
		"session":          {"session", nil},
		"direct-tcpip":     {"direct-tcpip", good},
		"x11":              {"x11", good},
		"agent":            {"auth-agent@openssh.com", nil},
		"stream":           {"forwarded-streamlocal@openssh.com", good},
		"stream to a port": {"forwarded-streamlocal@openssh.com", ssh.Marshal(streamlocal{Path: "127.0.0.1:8080"})},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			answer := make(chan error, 1)
			l, err := Dial(within(t, 10*time.Second), opener(t, func(s *ssh.ServerConn) {
				ch, _, err := s.OpenChannel(c.kind, c.payload)
				if err == nil {
					_ = ch.Close()
				}
				answer <- err
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			slot, err := l.Listen(within(t, 10*time.Second), 8080)
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan error, 1)
			go func() { _, err := slot.Accept(); accepted <- err }()
			if e, ok := errors.AsType[*ssh.OpenChannelError](<-answer); !ok || e.Reason != ssh.Prohibited {
				t.Errorf("the open was answered with %v, want a refusal", e)
			}
			_ = l.Close()
			if err := <-accepted; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v, want that nothing came", err)
			}
		})
	}
}

// Connections that nobody accepts queue up to a limit; then those that came first are refused, and nothing stalls.
func TestQueueOfALinkIsBounded(t *testing.T) {
	leak.Check(t)
	const promised, early = 1024, 10
	type answer struct {
		n   int
		err error
	}
	answers, more := make(chan answer, promised+early), make(chan struct{})
	l, err := Dial(within(t, 10*time.Second), opener(t, func(s *ssh.ServerConn) {
		var tasks sync.WaitGroup
		defer tasks.Wait()
		for n := range early + promised {
			if n == early {
				<-more
			}
			tasks.Go(func() {
				_, reqs, err := s.OpenChannel("forwarded-tcpip", ssh.Marshal(forwarded{"127.0.0.1", 8080, "127.0.0.1", uint32(n)}))
				if err == nil {
					tasks.Go(func() { ssh.DiscardRequests(reqs) })
				}
				answers <- answer{n, err}
			})
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	slot, err := l.Listen(within(t, 10*time.Second), 8080)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(slot.pending) < early; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", len(slot.pending))
		}
	}
	close(more)
	for range early {
		a := <-answers
		if e, ok := errors.AsType[*ssh.OpenChannelError](a.err); a.n >= early || !ok || e.Reason != ssh.ResourceShortage {
			t.Errorf("more than the queue holds: number %d, %v", a.n, a.err)
		}
	}
	for range promised {
		c, err := slot.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // what is not read takes room from the others
		if a := <-answers; a.err != nil {
			t.Errorf("queued: number %d, %v", a.n, a.err)
		}
	}
}
