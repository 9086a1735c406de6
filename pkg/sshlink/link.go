// SPDX-License-Identifier: Apache-2.0

// Package sshlink is one SSH connection to the proxy, from dial to death.
//
//	keys, err := sshauth.LoadKeys("~/.ssh/id_ed25519", "")
//	known, err := hostkeys.New("SHA256:…")
//	link, err := sshlink.Dial(ctx, sshlink.Config{Host: "203.0.113.7", User: "me", Keys: keys, HostKeys: known})
//	err = link.Hold(ctx, nil, nil)          // a session, before the first Listen
//	slot, err := link.Listen(ctx, 8080)     // a net.Listener on the proxy's 127.0.0.1
//	<-link.Done()                           // link.Err() says why
//
// The way there may lead by bastions (Config.Jump), out of the network by an egress proxy (Via), and
// through TLS.
//
// It knows one connection and nothing about retrying: an error of its calls is an Error
// of package tunnel (class, step, cause, remedy, permanent or not), and what to do next is the
// supervisor's decision. A dead link is noticed within two seconds by lack of progress, not by
// a late answer, so a saturated one is not taken for dead. Nothing is kept after Close.
package sshlink

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

const dialTimeout = 5 * time.Second // by way of a bastion

// Config says where and as whom to log in.
type Config struct {
	// Host is a name or an address. A name is resolved at each Dial and all its addresses are tried.
	Host string
	// Port of sshd. 0: 22.
	Port int
	// User to log in as. Required.
	User string
	// Keys to log in with. Required.
	Keys *sshauth.Keys
	// HostKeys says which host keys to trust. Required.
	HostKeys *hostkeys.Known
	// HostKeyAlias is looked up in place of Host and Port (ssh_config(5)). "": it is not.
	HostKeyAlias string
	// TLS has SSH be inside TLS on Port. Nil: it is not.
	TLS *egress.TLS
	// Via is an egress proxy, by way of which to connect. It is not for a machine with a Jump: that
	// one has it. Nil: there is none.
	Via *egress.Via
	// Jump is a bastion, by way of which to connect. It may have one itself. Nil: there is none.
	Jump *Config
	// Log takes what a support person wants to see. Nil: nothing is logged.
	Log *slog.Logger
	// Bound has the connections of its slots share a bound on what all of the process hold unread: what serves them asks
	// for room (Room of a connection) before it lets an upload wait. False: each may hold 2 MiB.
	Bound bool
	// Control is called with each socket before it connects, as net.Dialer's. Nil: nobody is.
	Control func(network, address string, c syscall.RawConn) error
}

// Addr returns "host:port".
func (c *Config) Addr() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.port())) }

func (c *Config) port() int {
	if c.Port == 0 {
		return 22
	}
	return c.Port
}

// keyAddr is under what the host key is looked up: in lower case, as ssh(1) does.
func (c *Config) keyAddr() string {
	if c.HostKeyAlias != "" {
		return net.JoinHostPort(strings.ToLower(c.HostKeyAlias), "22")
	}
	return strings.ToLower(c.Addr())
}

// Link is one SSH connection. Its methods may be called from several goroutines.
type Link struct {
	cfg   Config
	under *Link // to the bastion that carries this one; nil: none does
	wire  *wire
	ssh   ssh.Conn
	key   string // fingerprint of the one that logged in
	shown string // fingerprint of the host key
	trip  time.Duration
	tasks guard.Group
	opens guard.Group // what asks for a channel, which may never end, and the last write
	ends  sync.Once   // waits for opens
	host  host
	done  chan struct{}

	behind chan chan struct{} // closes what is sent when all that has come is with its slot

	hadSession atomic.Bool
	unopened   chan struct{} // closed, by noPAM, when sshd has said that PAM opened no session
	noPAM      sync.Once
	shells     shells
	asking     chan struct{} // has room for one: for who sends a forwarding request, until it is answered

	mu    sync.Mutex
	err   error
	slots map[string]*Listener // by the address that sshd names in a channel open
	conns map[*conn]struct{}   // accepted, and not closed by both ends
	held  ssh.Channel          // of the command that Hold runs; nil: none

	waiting int // channels for Accept, of all slots
}

// Dial connects, checks the host key and logs in. ctx bounds all of it, besides the limits of
// each step, for each machine: 5 s for the connection, 10 s for the server's first word, and 2 minutes for the login where ctx has
// no end. The error is an
// *Error of package tunnel, or ctx's own if ctx was cancelled.
func Dial(ctx context.Context, cfg Config) (*Link, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.HostKeys = cfg.HostKeys.Fresh(cfg.Log)
	login, err := cfg.Keys.Login(ctx)
	if err != nil {
		return nil, err
	}
	defer login.Close()
	under, err := cfg.bastion(ctx)
	if err != nil {
		return nil, err
	}
	var wrong error // the complaint about a key that the server showed, else, of the kind asked for last, that it has none
	for _, algorithms := range cfg.HostKeys.Offers(cfg.keyAddr()) {
		l, err := dial(ctx, cfg, algorithms, login, under)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, fault.ErrHostKey) {
			wrong = err
			break
		}
		negotiation, none := errors.AsType[*ssh.AlgorithmNegotiationError](err)
		switch _, before := errors.AsType[*ssh.AlgorithmNegotiationError](wrong); {
		case wrong == nil || before:
			wrong = err
		case !none:
			wrong = fault.AlsoShows(wrong, err)
		case fault.SHA1Alone(negotiation.SupportedAlgorithms, negotiation.RequestedAlgorithms):
			wrong = fault.OrSHA1(wrong)
		}
	}
	if under != nil {
		_ = under.Close()
	}
	return nil, wrong
}

func dial(ctx context.Context, cfg Config, algorithms []string, login *sshauth.Login, under *Link) (*Link, error) {
	start := time.Now()
	addr := cfg.Addr()
	var tcp net.Conn
	var err error
	if under != nil {
		tcp, err = under.through(ctx, addr)
	} else {
		tcp, err = (&egress.Dialer{Via: cfg.Via, Control: cfg.Control}).Dial(ctx, cfg.Host, cfg.port())
	}
	if err == nil && cfg.TLS != nil {
		if tcp, err = cfg.TLS.Over(ctx, tcp, cfg.Host, addr); err != nil && under != nil && under.lost() {
			err = fault.Hop(under.cfg.Addr(), fault.LinkLost(err))
		}
	}
	if err != nil {
		if context.Cause(ctx) == context.Canceled {
			return nil, context.Canceled
		}
		return nil, err
	}
	setUserTimeout(egress.Socket(tcp), userTimeout)

	l := &Link{cfg: cfg, under: under, done: make(chan struct{}), behind: make(chan chan struct{}), asking: make(chan struct{}, 1), unopened: make(chan struct{}),
		shells: shells{turn: make(chan struct{}, 1), start: shellStart}, slots: map[string]*Listener{}, conns: map[*conn]struct{}{}}
	l.tasks.Panicked = func(err error) { l.fail(fault.Internal(err)) }
	l.opens.Panicked = l.tasks.Panicked
	l.host.start, l.host.answers = l.tasks.Go, l.Answers
	l.wire = newWire(tcp, l.tasks.Go, func() { l.host.lost.Store(true) })
	l.wire.quickack.Store(true)
	chans, reqs, err := l.handshake(ctx, algorithms, login, start)
	if err != nil {
		_ = l.wire.Close()
		l.tasks.Wait()
		if under != nil && under.lost() {
			err = fault.Hop(under.cfg.Addr(), fault.LinkLost(err))
		}
		return nil, err
	}
	cfg.Log.Debug("logged in", "server", addr, "version", string(l.ssh.ServerVersion()), "key", l.key, "ms", time.Since(start).Milliseconds())
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	l.tasks.Go(func() { l.serve(chans) })
	l.tasks.Go(l.watch)
	return l, nil
}

// Dial connects to addr ("host:port") from the proxy (RFC 4254, section 7.2, direct-tcpip). Where ctx ends
// first the link stays, and the server, which may try for minutes, is left alone.
func (l *Link) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, port, err := splitPort(addr)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := l.open(ctx, "direct-tcpip", ssh.Marshal(forwarded{to, port, "127.0.0.1", 0}))
	if err != nil {
		return nil, err
	}
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	return newConn(ch, &host{start: l.tasks.Go}, &net.TCPAddr{}, tcpAddr(to, port)), nil
}

// Unconnected reports whether err of Dial says that the server tried to connect, and nothing answered; not if it may not, or
// if the link ended.
func Unconnected(err error) bool { return refusal(err) == ssh.ConnectionFailed }

// NobodyListens reports whether err of Dial says that there is such an address, and nobody listens there. Servers say that in
// strerror's words (OpenSSH, Dropbear).
func NobodyListens(err error) bool {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	return ok && refused.Reason == ssh.ConnectionFailed && strings.Contains(strings.ToLower(refused.Message), "connection refused")
}

// Prohibited reports whether err of Dial says that the account may not connect there (PermitOpen).
func Prohibited(err error) bool { return refusal(err) == ssh.Prohibited }

// refusal is why the server opened no channel (RFC 4254, section 5.1), 0 if err is not that.
func refusal(err error) ssh.RejectionReason {
	if refused, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return refused.Reason
	}
	return 0
}

// RoundTrip returns how long a round trip to the server took at the login, 0 where it asked for none.
func (l *Link) RoundTrip() time.Duration { return l.trip }

// Key returns the SHA256 fingerprint, without its prefix, of the key that logged in.
func (l *Link) Key() string { return l.key }

// ServerVersion returns the server's first words, as "SSH-2.0-OpenSSH_9.2p1".
func (l *Link) ServerVersion() string { return string(l.ssh.ServerVersion()) }

// HostKey returns the fingerprint, "SHA256:…", of the host key that the server showed, and that is trusted.
func (l *Link) HostKey() string { return l.shown }

// Stats returns how many accepted connections are open, and the bytes that they and earlier ones
// carried both ways. One is open until the server has closed it too: it has the last byte then.
func (l *Link) Stats() (open int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns), l.host.bytes.Load()
}

// Leave notes that the link has no slot any more and ends with its last connection. What serves the connections learns
// it from them (Leaves), so that it has them end where they would be kept for what is asked next.
func (l *Link) Leave() { l.host.left.Store(true) }

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err says why the link ended; nil while it lives and after Close.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail ends the link: the first reason stays.
func (l *Link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isDone(l.done) {
		return
	}
	if err != nil && l.under != nil && l.under.lost() {
		if first := l.under.Err(); first != nil {
			err = first
		}
		if _, known := errors.AsType[*fault.Error](err); !known {
			err = fault.LinkLost(err)
		}
		err = fault.Hop(l.under.cfg.Addr(), err)
	}
	l.err = err
	close(l.done)
	_ = l.wire.Close()
}

// Close ends the link and returns when nothing of it is left, neither goroutine nor descriptor; but see opened.
func (l *Link) Close() error {
	l.fail(nil)
	l.tasks.Wait()
	l.ends.Do(l.opened)
	if l.under != nil {
		return l.under.Close()
	}
	return nil
}
