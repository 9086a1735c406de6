// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	backlog     = 1024 // connections of a link that wait for Accept, at a few KiB each: sshd hands on its own queues, of 128 for each slot, at once
	maxChannels = 4096 // connections open at once; what they hold unread is bounded by room
)

const (
	cancelTimeout = time.Second
	acceptFor     = 100 * time.Millisecond // for what arrived before the answer
)

// loopback is asked for by its literal address: "localhost" may bind ::1 alone while a stale
// link holds 127.0.0.1, and seems to succeed.
const loopback = "127.0.0.1"

// forwarded is the payload of a channel open (RFC 4254, section 7.2): where the connection
// arrived or shall go, and where it comes from.
type forwarded struct {
	Addr       string
	Port       uint32
	OriginAddr string
	OriginPort uint32
}

// forward is the payload of tcpip-forward and its cancellation (RFC 4254, section 7.1).
type forward struct {
	Addr string
	Port uint32
}

// streamlocal is the payload of streamlocal-forward@openssh.com and its cancellation, and the
// beginning of that of a channel of forwarded-streamlocal@openssh.com (PROTOCOL of OpenSSH, 2.4).
type streamlocal struct {
	Path string
	Rest []byte `ssh:"rest"`
}

// Listener is a slot: a listening end on the proxy. It is a net.Listener.
type Listener struct {
	link    *Link
	addr    net.Addr // of a TCP port or a unix socket
	port    int      // 0: a socket
	pending chan arrival
	closing sync.Once
	closed  chan struct{}
}

// arrival is a connection that waits for Accept.
type arrival struct {
	ssh.NewChannel
	since time.Time
}

// Listen takes the TCP port on the proxy's loopback address. Connections that arrive before
// Accept wait, up to 1024 of a link; further ones are refused. The handler is in place before the request
// is sent: x/crypto's own Client.Listen lost 4 of 200 connections that came in that instant.
//
// A refusal says neither why nor for how long, so a second request asks for any free port: if
// that is granted the port itself was the trouble (in use: a transient error; below 1024: a
// permanent one), else forwarding is forbidden (permanent), and further requests tell what by. All are of class fault.ErrForward.
func (l *Link) Listen(ctx context.Context, port int) (*Listener, error) {
	s, err := l.listenOn(ctx, port)
	if s != nil || err != nil {
		return s, err
	}
	back, err := l.ask(ctx, onPort(0))
	switch {
	case err != nil:
		return nil, fault.ForwardFailed(port, err)
	case back == nil:
		return nil, l.forbidden(ctx, port)
	}
	_ = l.cancel(ctx, back)
	if port < 1024 && l.cfg.User != "root" && !l.hasLowPorts(ctx) {
		return nil, fault.Privileged(port, l.cfg.User)
	}
	return nil, fault.Busy(port)
}

// hasLowPorts reports whether the account gets ports below 1024: in Docker's containers all do (net.ipv4.ip_unprivileged_port_start 0).
func (l *Link) hasLowPorts(ctx context.Context) bool {
	for range 2 { // one of them may be in use
		if back, err := l.ask(ctx, onPort(512+rand.IntN(512))); back != nil && err == nil {
			return l.cancel(ctx, back) == nil
		}
	}
	return false
}

// ListenAgain asks for a port that was in use a moment ago. It takes one round trip, where a refusal of Listen takes three:
// the error of a refusal is that of a port in use, whatever the reason.
func (l *Link) ListenAgain(ctx context.Context, port int) (*Listener, error) {
	s, err := l.listenOn(ctx, port)
	if s == nil && err == nil {
		return nil, fault.Busy(port)
	}
	return s, err
}

// listenOn takes a port; nil and nil: it is refused.
func (l *Link) listenOn(ctx context.Context, port int) (*Listener, error) {
	s, undo := l.slot(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, port)
	back, err := l.ask(ctx, onPort(port))
	if back != nil {
		return s, nil
	}
	undo()
	if err != nil && ctx.Err() == nil {
		select { // it may be why there is no answer
		case <-l.done:
			if e := fault.From(l.Err()); l.Err() != nil && errors.Is(e, fault.ErrForward) {
				return nil, e
			}
		case <-time.After(execTick):
		}
	}
	if err != nil {
		return nil, fault.ForwardFailed(port, err)
	}
	return nil, nil
}

// ListenUnix takes a unix socket on the proxy, for nginx's proxy_pass http://unix:PATH. A refusal
// has several causes that look the same and cannot be told apart without leaving a file behind:
// the path is in use, or was left by a link that ended (sshd removes it only with
// StreamLocalBindUnlink), or its directory may not be written to, or the account may not.
//
// With StreamLocalBindUnlink the path goes to whoever asks last, and the others are told nothing.
// A link may ask again for a path that it has: its slot is the same, and stays if that is refused.
func (l *Link) ListenUnix(ctx context.Context, path string) (*Listener, error) {
	s, undo := l.slot(&net.UnixAddr{Name: path, Net: "unix"}, 0)
	back, err := l.ask(ctx, onSocket(path))
	if back != nil {
		return s, nil
	}
	undo()
	if err != nil {
		return nil, fault.SocketFailed(path, err)
	}
	return nil, fault.SocketRefused(path)
}

// slot has the handler ready for connections to addr, before the server is asked to listen there.
// undo is for a server that does not.
func (l *Link) slot(addr net.Addr, port int) (s *Listener, undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.slots[addr.String()]; s != nil {
		return s, func() {}
	}
	s = &Listener{link: l, addr: addr, port: port, pending: make(chan arrival, backlog), closed: make(chan struct{})}
	l.slots[addr.String()] = s
	return s, func() { l.forget(s) }
}

func (l *Link) forget(s *Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots[s.addr.String()] == s {
		delete(l.slots, s.addr.String())
	}
}

// serve hands each connection that the server announces to its slot, and refuses everything
// else a server might want to open here. It never waits for anybody: x/crypto delivers nothing
// more while it does.
func (l *Link) serve(chans <-chan ssh.NewChannel) {
	hand := func(nc ssh.NewChannel) {
		if refused, reason := l.offer(nc); refused != nil {
			_ = refused.Reject(reason, reason.String())
		}
	}
	for open := true; open; {
		var nc ssh.NewChannel
		select {
		case nc, open = <-chans:
			if open {
				hand(nc)
			}
		case handed := <-l.behind:
			for len(chans) > 0 { // nobody else takes from it
				hand(<-chans)
			}
			close(handed)
		}
	}
	err := l.ssh.Wait()
	switch {
	case err == nil:
		l.fail(fault.LinkLost(net.ErrClosed))
	case strings.Contains(err.Error(), unimplemented):
		l.fail(fault.NoForwarding(l.cfg.Addr(), string(l.ssh.ServerVersion())))
	default:
		l.fail(fault.LinkLost(l.wire.why(err)))
	}
}

// unimplemented is how x/crypto says that the server answered SSH_MSG_UNIMPLEMENTED (3; RFC 4253, section 11.4), which ends the
// link: TinySSH does, to what asks it to listen.
const unimplemented = "unexpected message type 3 "

// offer queues nc for the slot that it names, which sshd does in the words of the request. It returns the one that
// is to be refused, if one is, and the reason. Where too many wait that is the one that came first: after a suspend most
// of the oldest have left, of which sshd says nothing before a channel is accepted (it reads nothing from the
// visitor until then), and it is the newest who are there.
func (l *Link) offer(nc ssh.NewChannel) (refused ssh.NewChannel, reason ssh.RejectionReason) {
	addr := ""
	switch nc.ChannelType() {
	case "forwarded-tcpip":
		var to forwarded
		if ssh.Unmarshal(nc.ExtraData(), &to) != nil {
			return nc, ssh.Prohibited
		}
		addr = net.JoinHostPort(to.Addr, strconv.FormatUint(uint64(to.Port), 10))
	case "forwarded-streamlocal@openssh.com":
		var to streamlocal
		if ssh.Unmarshal(nc.ExtraData(), &to) != nil || !strings.HasPrefix(to.Path, "/") {
			return nc, ssh.Prohibited // above all where a path reads like an address
		}
		addr = to.Path
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slots[addr]
	if s == nil {
		return nc, ssh.Prohibited
	}
	if l.waiting >= backlog {
		select {
		case oldest := <-s.pending:
			refused, reason = oldest.NewChannel, ssh.ResourceShortage
			l.waiting--
		default: // others of the link's slots have the whole queue
			return nc, ssh.ResourceShortage
		}
	}
	l.waiting++
	s.pending <- arrival{nc, time.Now()} // which has room for all that may wait
	return refused, reason
}

// taken: one that waited does no more.
func (l *Link) taken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

// Accept returns the next connection; its RemoteAddr is what connected to the slot (nginx). The
// error is net.ErrClosed once the slot was closed or its link has ended.
func (s *Listener) Accept() (net.Conn, error) {
	for {
		select {
		case <-s.closed:
			return nil, net.ErrClosed
		case <-s.link.done:
			return nil, net.ErrClosed
		case nc := <-s.pending:
			s.link.taken()
			if c, err := s.accept(nc); err == nil {
				return c, nil
			}
		}
	}
}

var errFull = errors.New("too many connections")

func (s *Listener) accept(nc arrival) (net.Conn, error) {
	l := s.link
	if open, _ := l.Stats(); open >= maxChannels {
		return nil, full(nc)
	}
	at := nowhere
	if l.cfg.Bound {
		if at = process.enter(nc.since, s.closed, l.done); at == nowhere {
			return nil, full(nc)
		}
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		process.move(at, nowhere)
		return nil, err
	}
	var remote net.Addr = &net.UnixAddr{Name: "@", Net: "unix"} // as Go shows a peer without a name
	if s.addr.Network() != "unix" {
		var from forwarded
		_ = ssh.Unmarshal(nc.ExtraData(), &from)
		remote = tcpAddr(from.OriginAddr, from.OriginPort)
	}
	c := newConn(ch, &l.host, s.addr, remote)
	if l.cfg.Bound {
		c.seat.room, c.seat.at = &process, at
	}
	l.join(c)
	l.tasks.Go(func() {
		ssh.DiscardRequests(reqs) // until both ends have closed the channel: what came on it is let go then
		c.seat.leave()
		l.leave(c) // and what went out on it has arrived: sshd closes its end when it has passed everything on
	})
	return c, nil
}

func full(nc arrival) error {
	_ = nc.Reject(ssh.ResourceShortage, ssh.ResourceShortage.String())
	return errFull
}

func (l *Link) join(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
}

func (l *Link) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// look sees to the room that connections take, each tick.
func (l *Link) look() {
	l.mu.Lock()
	conns := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range conns {
		if !isDone(c.closed) && c.seat.look() {
			_ = c.Close()
		}
	}
}

// Close gives the port back and returns when the server has answered, or after a second without
// an answer. Until then Accept goes on: what the server announced before it heard of this arrives in the meantime, and was
// refused otherwise, one round trip of visitors. Connections that were accepted stay; those still waiting are refused.
func (s *Listener) Close() error {
	s.closing.Do(func() {
		r := onPort(s.port)
		if s.port == 0 {
			r = onSocket(s.addr.String())
		}
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_ = s.link.cancel(ctx, r.undone(nil))
		s.link.caughtUp(ctx)
		s.emptied(acceptFor)
		close(s.closed)
		s.link.forget(s)
		for waiting := true; waiting; {
			select {
			case nc := <-s.pending:
				s.link.taken()
				_ = nc.Reject(ssh.ConnectionFailed, "closed")
			default:
				waiting = false
			}
		}
	})
	return nil
}

// Addr returns the slot's address on the proxy.
func (s *Listener) Addr() net.Addr { return s.addr }

func tcpAddr(host string, port uint32) *net.TCPAddr {
	return &net.TCPAddr{IP: net.ParseIP(host), Port: int(port)}
}

func splitPort(addr string) (string, uint32, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	return host, uint32(port), err
}
