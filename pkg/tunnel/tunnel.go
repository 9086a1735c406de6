// SPDX-License-Identifier: Apache-2.0

// Package tunnel shows an app that listens on this machine's loopback to the visitors of a proxy
// machine, through a reverse SSH tunnel that it keeps open.
//
//	t, err := tunnel.Expose(ctx, tunnel.Config{
//		Server:  []string{"me@203.0.113.7"},
//		HostKey: "SHA256:…",
//		Target:  "127.0.0.1:5000",
//	})
//	defer t.Close()
//	fmt.Println(t.URL()) // with the token that admits visitors
//
// A *Tunnel is a net.Listener, so a Go program needs no port of its own:
//
//	t, err := tunnel.Listen(ctx, cfg)
//	err = http.Serve(t, handler)
//
// Promises. The proxy's host key is always checked. Expose admits those who have the link unless
// Config.Access says otherwise; Listen leaves that to its caller. A lost link is replaced by
// itself, the first attempt within 50 ms, for as long as it takes; what trying again cannot mend
// (host key changed, login refused, forward forbidden) stops it and is told. The package writes to
// no standard stream, handles no signal and starts no process; a panic in one of its goroutines
// closes the tunnel, not the program. After Close, or Close called twice for Listen, nothing of it is left.
//
// Every error is an *Error: the step, the cause, a remedy, which names settings as fields of Config, and a class for
// errors.Is.
package tunnel

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/lease"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// The classes of errors, for errors.Is.
var (
	ErrConfig      = fault.ErrConfig      // a setting, key or host key that cannot be used
	ErrHostKey     = fault.ErrHostKey     // the proxy's host key is unknown, changed or revoked
	ErrAuth        = fault.ErrAuth        // the proxy refused the login
	ErrForward     = fault.ErrForward     // the port is in use, forbidden or privileged, or nginx leads elsewhere
	ErrUnreachable = fault.ErrUnreachable // no way to the proxy, or none any more
	ErrHop         = fault.ErrHop         // no way past a machine before it (Config.Jump, Config.Via); its host key and login have their own classes
	ErrApp         = fault.ErrApp         // the app does not answer
	ErrLimit       = fault.ErrLimit       // this process or its machine has no file descriptors left
	ErrClosed      = fault.ErrClosed      // the tunnel was closed; a net.ErrClosed
	ErrInternal    = fault.ErrInternal    // a defect of this package
)

// Tunnel is an open tunnel. Its methods may be called from several goroutines.
type Tunnel struct {
	cfg      resolved
	log      *slog.Logger
	board    *board
	target   *forward.Target
	sup      *supervisor
	lease    *lease.Lease
	check    *loopcheck.Checker
	gate     *visitorGate // nil: none
	listens  bool         // its program accepts the connections
	endpoint atomic.Pointer[endpoint]
	proven   string          // a URL that led to the tunnel before: it is not given up for one that nobody can open. "": none
	within   loopcheck.Paced // asks it over the link then
	tasks    guard.Group

	alone  func()                  // forgets the tunnel in whose place this one was opened, which is closed
	before atomic.Pointer[leaving] // the tunnel in whose place this one was opened, on its way out; nil: there was none

	accepted chan net.Conn // from the slots, for Accept
	life     context.Context
	end      context.CancelFunc
	taking   context.Context // part of life: as long as Accept of a tunnel of Listen may return connections
	stop     context.CancelFunc
	shut     atomic.Bool // Close was called once
	last     guard.Group // what waits for the last connection
	closing  sync.Once
}

// leaving is a tunnel whose place another one has: what is under way there goes on for a while.
type leaving struct {
	hurry func()          // ends it at once
	left  <-chan struct{} // closed when it has ended
}

// SetTarget moves the tunnel to addr, as Config.Target, or "" while there is no app. New connections go there; open ones stay.
func (t *Tunnel) SetTarget(addr string) error {
	to := Config{Target: addr, Raw: t.cfg.Raw}
	if err := to.takeTarget(); err != nil {
		return err
	}
	if !t.sup.tell(func() { t.sup.moved(to.Target) }) {
		return fault.Closed()
	}
	return nil
}

// URL returns what visitors open, with the token that admits them, if one does: it is for those
// who may see the app, not for logs. Status has the URL without it.
func (t *Tunnel) URL() string {
	if t.gate == nil {
		return t.endpoint.Load().url
	}
	return t.gate.linked()
}

// NewToken makes another token, at random, and has the gate forget the present one: links that
// were given away and visitors who are there need the new URL. It lasts until Close; to keep it
// longer, count Config.TokenVersion up instead, or store a token of your own.
func (t *Tunnel) NewToken() error {
	if t.gate == nil || !t.gate.asksToken() {
		return fault.Config(`open it with {access="token"}`, "this tunnel has no token")
	}
	if end := t.gate.ends(); !end.IsZero() && time.Now().Unix() >= end.Unix() {
		return fault.Expired(end) // another token would have the same end
	}
	if !t.gate.renew() {
		return fault.Config("wait until it is up", "this tunnel has no token yet")
	}
	t.hurry()
	return nil
}

// hurry closes at once the tunnel in whose place this one was opened, if that still serves what was under way: it
// admits visitors whom this one does not admit any more.
func (t *Tunnel) hurry() {
	if before := t.before.Load(); before != nil {
		before.hurry()
	}
}

// Requests returns the newest n requests of admitted visitors, oldest first; at most 1000 are kept.
func (t *Tunnel) Requests(n int) []Request {
	if t.gate == nil {
		return nil
	}
	return t.gate.requests(n)
}

// Status returns what is known now.
func (t *Tunnel) Status() Status {
	s, _ := t.board.read()
	return t.counted(s)
}

// Watch yields the present status and then each change of it, until ctx ends or the tunnel is
// closed. Changes that come while the reader is busy are folded: the newest wins.
func (t *Tunnel) Watch(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for s := range t.board.watch(ctx) {
			if !yield(t.counted(s)) || s.State == StateClosed {
				return
			}
		}
	}
}

func (t *Tunnel) counted(s Status) Status {
	s.Visitors, s.Bytes = t.sup.counts()
	t.gate.count(&s)
	return s
}

// Reconnect makes new links at once, each of which takes over from the one that is there. It also revives a tunnel
// that failed or was replaced, unless it is one of Listen, which ended with that.
func (t *Tunnel) Reconnect() error {
	if t.ended() != nil || !t.sup.tell(t.sup.restart) {
		return fault.Closed()
	}
	return nil
}

// Accept returns the next visitor's connection; a *Tunnel is a net.Listener. Connections have
// working deadlines and CloseWrite. The error is of class ErrClosed once the tunnel is closed, and the one
// in Status once it has failed for good or was replaced: a server that serves nobody any more learns it.
// A tunnel of Expose accepts by itself.
func (t *Tunnel) Accept() (net.Conn, error) {
	for {
		_, changed := t.board.read()
		if err := t.ended(); err != nil {
			return nil, err
		}
		select {
		case c := <-t.accepted:
			return c, nil
		case <-t.taking.Done():
		case <-changed:
		}
	}
}

// arrive takes a visitor's connection from a slot. Without a gate what comes through nginx is looked at first: it may be
// a question, of this tunnel's own or of another's. nginx sends the whole head at once.
func (t *Tunnel) arrive(c net.Conn) {
	t.sup.arrivals.Add(1)
	t.sup.pause.Reset(pauseFor)
	if t.gate != nil || !t.check.Busy() && t.Addr().Network() != "unix" {
		t.hand(t.check.Heed(c, t.gate == nil || t.board.checked() != ""))
		return
	}
	if !t.tasks.Go(func() {
		if c := t.check.Answer(c); c != nil {
			t.hand(c)
		}
	}) {
		_ = c.Close()
	}
}

// A process of sshd that has no descriptors left takes no visitor from its queue, or few, and says nothing of that (channels.c tries again
// after a second): they wait, for as long as nginx lets them. So when none comes any more it is asked at the port itself.

// pauseFor is how long no visitor comes until then, waitsAgain the wait for the next question while they wait.
const pauseFor, waitsAgain = 300 * time.Millisecond, time.Second

// lookAtPort asks in the background at a plain proxy's port, over the link that has it; at nginx's where the account may not connect
// to that. If the tunnel never answered there, that it does not says nothing. The run loop calls it.
func (t *Tunnel) lookAtPort() {
	s := t.sup
	if !s.table.Known() || !s.table.Exclusive() || s.asking || s.links[s.table.Holder(0)] == nil {
		return
	}
	s.asking = true
	id, at := s.table.Holder(0), []string{s.takes}
	if s.takes == "" {
		at = []string{t.Addr().String(), loopcheck.NginxOf(t.endpoint.Load().url)}
	}
	over := s.links[id]
	t.tasks.Go(func() {
		n, f := 0, t.check.AskAt(t.life, at[0], over.Dial, over.Ask)
		if sshlink.Prohibited(f.Err) && len(at) > 1 {
			n, f = 1, t.check.AskAt(t.life, at[1], over.Dial, over.Ask)
		}
		s.tell(func() { t.sawPort(id, at[n], f) })
	})
}

// sawPort takes what came of it.
func (t *Tunnel) sawPort(id slots.LinkID, at string, f probe.Finding) {
	s, was := t.sup, t.sup.waits
	s.asking, s.noted = false, s.arrivals.Load()
	switch {
	case id != s.table.Holder(0): // another link has it now
		t.lookAtPort()
		return
	case f.Kind == probe.Ours:
		if s.takes == "" {
			t.log.Debug("it answers at the port", "asked", at)
		}
		s.takes, s.waits = at, nil
	case s.takes == "":
	case sshlink.Starved(f.Err):
		s.waits = fault.Starved(t.cfg.server.String())
	case errors.Is(f.Err, errSilent) && s.waits == nil:
		s.waits = fault.Waits(t.cfg.server.String())
	}
	switch {
	case s.waits != nil:
		time.AfterFunc(waitsAgain, func() { s.tell(t.lookAtPort) })
		if was == nil {
			t.log.Warn(s.waits.Error(), "hint", s.waits.Hint)
		}
	case was != nil:
		t.log.Info("visitors get here again")
		s.nudge() // the slot may have been seen to lead nowhere meanwhile
	}
	s.show()
}

// hand has Accept return a connection.
func (t *Tunnel) hand(c net.Conn) {
	select {
	case t.accepted <- c:
	case <-t.taking.Done():
		_ = c.Close()
	}
}

// ended says why no connection comes any more; nil if some may. One of Expose may be revived until it is closed.
func (t *Tunnel) ended() error {
	if t.taking.Err() != nil {
		return fault.Closed()
	}
	if s, _ := t.board.read(); t.listens && (s.State == Failed || s.State == Replaced) {
		return fault.Ended(s.LastError)
	}
	return nil
}

// Addr returns the address on the proxy of its slot, or the first of them: a *net.TCPAddr or a
// *net.UnixAddr.
func (t *Tunnel) Addr() net.Addr { return t.endpoint.Load().slots[0] }

// Shutdown takes no new connection, waits until the open ones have ended or ctx has, and closes. A connection
// has ended when the proxy has its last byte. Websockets are told that the server goes away (status 1001), and
// closed after 2 s. It returns ctx's error if connections were cut.
func (t *Tunnel) Shutdown(ctx context.Context) error {
	t.withdraw()
	err := t.drained(ctx)
	t.close()
	return err
}

// Close ends a tunnel of Expose. When it returns, every connection, goroutine and descriptor of it is
// gone, and the proxy has its port back as soon as its sshd sees the connection end.
//
// A tunnel of Listen is closed as other listeners are: no new connection is taken, and those that are open
// stay; with the last of them the tunnel ends by itself. So http.Server.Shutdown and gRPC's GracefulStop finish
// what is under way. Close called again ends everything at once, and so does Shutdown when its ctx ends:
//
//	err := server.Shutdown(ctx) // closes its listener, the tunnel
//	err = t.Shutdown(ctx)       // until visitors have the last byte
func (t *Tunnel) Close() error {
	if t.listens && t.shut.CompareAndSwap(false, true) {
		t.stop()
		t.withdraw()
		if open, _ := t.sup.counts(); open > 0 {
			t.last.Go(func() {
				_ = t.drained(context.Background())
				t.finish()
			})
			return nil
		}
	}
	t.close()
	return nil
}

// withdraw takes no new visitors.
func (t *Tunnel) withdraw() {
	t.sup.tell(t.sup.drain)
	if t.gate != nil {
		t.gate.drain()
	}
}

// drained waits until no connection is open or the tunnel has ended, and until the tunnel before has left, which ends with
// this one. It returns ctx's error if that ends first.
func (t *Tunnel) drained(ctx context.Context) error {
	t.sup.givenBack(ctx)
	if before := t.before.Load(); before != nil {
		select {
		case <-before.left:
		case <-t.life.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	idle := time.NewTicker(20 * time.Millisecond)
	defer idle.Stop()
	for {
		if open, _ := t.sup.counts(); open == 0 {
			return nil
		}
		select {
		case <-idle.C:
		case <-t.life.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close ends everything; nothing is left when it returns.
func (t *Tunnel) close() {
	t.finish()
	t.last.Wait()
}

// finish is close, but for what waits for the last connection.
func (t *Tunnel) finish() {
	t.closing.Do(func() {
		t.end()
		t.tasks.Wait()
		t.board.edit(func(s *Status) { s.State, s.Links, s.Slots, s.RetryAt = StateClosed, 0, 0, time.Time{} })
		t.log.Info("closed", "url", t.endpoint.Load().url)
	})
}

// public reports whether everybody is admitted who reaches the slot.
func (t *Tunnel) public() bool {
	if t.gate != nil {
		return t.gate.access().Public
	}
	return t.cfg.Access.Public
}
