// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/lease"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// Expose opens a tunnel to cfg.Target and returns when a visitor could open its URL; with no
// target, or nothing that answers there, when the URL leads here (state Waiting). ctx bounds
// that, not the tunnel's life: a permanent error is returned at once, a transient one is retried
// until ctx ends and is then returned. After an error nothing goes on in the background.
func Expose(ctx context.Context, cfg Config) (*Tunnel, error) { return open(ctx, cfg, true) }

// Listen is Expose for a program that accepts the visitors' connections itself.
func Listen(ctx context.Context, cfg Config) (*Tunnel, error) {
	cfg.Target = ""
	return open(ctx, cfg, false)
}

// open starts a tunnel and waits until it is ready. forwards: it serves cfg.Target itself.
func open(ctx context.Context, cfg Config, forwards bool) (*Tunnel, error) {
	start := time.Now()
	r, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	t := newTunnel(r, nil)
	t.listens = !forwards
	if forwards && !cfg.Raw {
		t.useGate(newVisitorGate(t))
	}
	if err := t.connects(nil); err != nil {
		return nil, err
	}
	if err := t.start(ctx, forwards); err != nil {
		t.close()
		return nil, gaveUp(err, start)
	}
	return t, nil
}

// start has a new tunnel run, and waits until it is ready. After an error it still runs.
func (t *Tunnel) start(ctx context.Context, forwards bool) error {
	t.sup.setupBy, _ = ctx.Deadline()
	t.run(forwards)
	if err := t.ready(ctx); err != nil {
		return err
	}
	t.check.Stand()
	t.sup.tell(func() { t.sup.setupBy = time.Time{} })
	return nil
}

// newTunnel makes a tunnel whose links come from connect; nothing runs yet.
func newTunnel(cfg resolved, connect connector) *Tunnel {
	t := &Tunnel{cfg: cfg, log: cfg.Log, target: &forward.Target{}, accepted: make(chan net.Conn)}
	t.endpoint.Store(cfg.firstEndpoint(cfg.plainGiven))
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.taking, t.stop = context.WithCancel(t.life)
	t.tasks.Panicked = func(err error) {
		t.log.Error("internal error", "error", err)
		t.board.edit(func(s *Status) { s.State, s.LastError = Failed, fault.Internal(err) })
		t.end()
	}
	t.board = newBoard(Status{State: Connecting, URL: cfg.URL, Server: cfg.server.String(), Remote: cfg.Remote, RemoteSocket: cfg.RemoteSocket})
	t.sup = newSupervisor(t.life, &t.tasks, t.log, t.board, t.target, hooks{connect: connect, connections: cfg.connections, look: t.lookAtSlots,
		vacant: func() {}, lookAtPort: func() {}, public: t.public, addr: t.Addr, url: func() string { return t.endpoint.Load().url }, server: cfg.server.String(), raw: cfg.Raw})
	t.check = loopcheck.New(t.sup.nudge, func() { t.gate.share() })
	return t
}

func newVisitorGate(t *Tunnel) *visitorGate {
	return &visitorGate{server: t.cfg.server.String(), endpoint: t.endpoint.Load, board: t.board, log: t.log, visitors: t.cfg.visitors(),
		config: gate.Config{Target: t.target, WellKnown: http.HandlerFunc(t.check.Serve), Visit: t.check.Visit, Clock: t.check.Clock, Busy: t.cfg.Busy, Dialled: t.sup.dialled,
			Look: func() (looks bool) { t.sup.tell(func() { looks = t.sup.awaited() }); return looks }, Log: t.log, Panicked: t.tasks.Panicked},
		serve: func(g *gate.Gate) {
			t.tasks.Go(func() { _ = g.Serve(t) })
			if !t.tasks.Go(func() { <-t.life.Done(); _ = g.Close() }) {
				_ = g.Close()
			}
		},
		changed: func() { t.sup.tell(t.sup.expiryChanged) }}
}

func (t *Tunnel) useGate(d *visitorGate) { t.gate, t.sup.gate = d, d }

// connects says how t's links are made. Keys and host keys are read now, so that mistakes are found, and again for each
// login. before is the tunnel in whose place t is opened, nil for none.
func (t *Tunnel) connects(before *Tunnel) error {
	ssh, err := t.cfg.server.SSH()
	if err != nil {
		return err
	}
	ssh.Bound = t.gate != nil // only the gate asks for room
	c := &connecting{ssh: ssh, life: t.life, log: t.log, lease: lease.New(t.cfg.slot(), ssh.Keys.ID(), t.newer), tasks: &t.tasks, look: t.lookAtSlot, deliver: t.arrive, warn: func(why *Error) { t.board.warn(noTakeOver, why) }, barred: func(why *Error) { t.board.warn(oneSession, why) }, asked: func(why error) { t.sup.tell(func() { t.sup.cede(fault.From(why)) }) }}
	if before != nil {
		c.before = before.sup
	}
	if before != nil && before.lease != nil {
		c.lease.Spare(before.lease) // but for its links that are lost
	}
	c.arrival = arrival{known: t.endpoint.Load, found: func(ctx context.Context, p *endpoint, keys *sshauth.Keys) error {
		if !t.endpoint.Load().known {
			t.arriveAt(p)
		}
		return t.gate.open(ctx, keys)
	}, find: t.cfg.find}
	t.lease, t.alone = c.lease, c.alone
	t.sup.hooks.connect, t.sup.hooks.vacant, t.sup.hooks.lookPast, t.sup.hooks.keeps, t.sup.hooks.lookAtPort = c.connect, c.giveBack, t.lookPast, t.newerKeeps, t.lookAtPort
	return nil
}

// The wait between two looks whether a newer tunnel stands or has gone, and what it may take to stand where it cannot say so.
const keepsLook, keepsMost = 500 * time.Millisecond, 5 * time.Second

// newerKeeps waits until it is clear whether a newer tunnel keeps the port that was left to it. It does when it answers
// there, and is not being opened any more, or is still there after a while and cannot be asked. It does not when its marks
// are gone, or when nobody answers there after that while.
func (t *Tunnel) newerKeeps(ctx context.Context) bool {
	var rival string
	var begin, end time.Time
	for {
		l, up := t.sup.one().(*slotLink)
		if !up { // the next one's own look tells
			return false
		}
		name, told := t.lease.Rival(ctx, l)
		if told && name == "" {
			return false
		}
		if now := time.Now(); name != rival || begin.IsZero() {
			rival, begin, end = name, now, now.Add(keepsMost)
		}
		f := t.askPort(ctx, l)
		seen := t.sees(f)
		switch another := f.Kind == probe.Newer || f.Kind == probe.Another || f.Kind == probe.Older; {
		case another && !f.Opening:
			return true
		case another && time.Since(begin) < loopcheck.Patience:
			end = time.Now().Add(keepsMost)
		case time.Now().After(end):
			return seen != slots.Nobody
		}
		select {
		case <-time.After(keepsLook):
		case <-ctx.Done():
			return false
		}
	}
}

// arriveAt takes what the first link has learnt of the proxy.
func (t *Tunnel) arriveAt(p *endpoint) {
	if p.prepared { // nginx chooses who answers when it is asked; what is before a plain proxy's port may when it is connected to
		p.ahead = probe.NewAhead()
		t.tasks.Go(func() { p.ahead.Connect(t.life, p.url) })
	}
	t.endpoint.Store(p)
	t.board.edit(func(s *Status) {
		s.URL, s.Name = p.url, p.name
		if p.prepared {
			s.Remote, s.RemoteSocket = 0, p.slots[0].String()
		}
	})
	t.board.warn(machineOld, p.outdated)
	if p.outdated != nil {
		t.log.Warn(p.outdated.Error(), "hint", p.outdated.Hint)
	}
}

// run starts the supervisor and, for Expose, what serves the visitors.
func (t *Tunnel) run(forwards bool) {
	t.tasks.Go(t.sup.run)
	if !forwards {
		t.sup.tell(func() { t.sup.appAnswers(nil) })
		return
	}
	if t.gate != nil {
		t.gate.show()
	} else {
		f := &forward.Forwarder{Target: t.target, Dialled: t.sup.dialled, Panicked: t.tasks.Panicked}
		t.tasks.Go(func() { _ = f.Serve(t) })
		t.tasks.Go(func() { <-t.life.Done(); _ = f.Close() })
	}
	t.sup.tell(func() { t.sup.moved(t.cfg.Target) })
}

// ready waits until the slot is bound and the URL was seen to lead here, or returns why not.
func (t *Tunnel) ready(ctx context.Context) error {
	var last error
	for s := range t.board.watch(ctx) {
		t.cfg.opens(s.Links, s.LastError)
		switch s.State {
		case Failed, Replaced:
			return s.LastError
		case Up, Degraded, Waiting, Expired:
			if err := t.verify(ctx); err != nil {
				return err
			}
			return t.notExposed()
		case StateClosed:
			return fault.Closed()
		}
		if s.LastError != nil {
			last = s.LastError
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case last == nil:
		return t.late()
	}
	return last
}

// late is why a set-up has failed whose attempt was cut a moment ago, and may be about to tell.
func (t *Tunnel) late() error {
	ctx, cancel := context.WithTimeout(t.life, time.Second)
	defer cancel()
	for s := range t.board.watch(ctx) {
		if s.LastError != nil {
			return s.LastError
		}
	}
	return fault.TooSoon(t.cfg.server.String())
}

// notExposed waits for the first look, where it decides whether an app may be open to everybody.
func (t *Tunnel) notExposed() error {
	if !t.public() || t.slotPort() == 0 {
		return nil
	}
	select {
	case <-t.sup.lookedPast:
	case <-t.life.Done():
	}
	if s, _ := t.board.read(); s.State == Failed {
		return s.LastError
	}
	return nil
}

// Announced is what can be said of a tunnel before it is open: of a configuration that cannot be used,
// nothing, for a value in it may be a secret.
func (cfg Config) Announced() Status {
	cfg.Log = nil
	s := Status{State: Connecting}
	if r, err := cfg.resolve(); err == nil {
		s.Server, s.URL, s.Target, s.Remote, s.RemoteSocket = r.server.String(), r.URL, r.Target, r.Remote, r.RemoteSocket
	}
	return s
}

// Admit gives an open tunnel what cfg says of its visitors: Access, Token, TokenVersion, Expires and
// Allow. It returns the names of those that differed from the tunnel's, as in JSON ("token_version"). It
// needs no network: the gate changes at once, whether there is a link or not, and ends the connections of
// visitors whom the new settings may not admit. All of cfg is validated first, keys and host keys
// included; after an error nothing has changed.
//
// rest reports what Admit leaves to Reopen: anything else in cfg differs, or the tunnel has failed, was
// replaced or is closed. Target, Busy, Log and Control are not compared; SetTarget moves the first.
//
//	_, rest, err := t.Admit(cfg)
//	if err == nil && rest {
//		var next *tunnel.Tunnel
//		if next, err = t.Reopen(ctx, cfg); err == nil {
//			t = next // the old one closes by itself
//		}
//	}
//
// A tunnel of Listen has no gate, and Admit changes nothing of it.
func (t *Tunnel) Admit(cfg Config) (changed []string, rest bool, err error) {
	cfg.Log = nil // Reopen tells
	next, err := t.plan(cfg)
	if err != nil {
		return nil, false, err
	}
	before, err := t.cfg.rest()
	if err != nil {
		return nil, false, fault.Internal(err)
	}
	after, err := next.cfg.rest()
	if err != nil {
		return nil, false, fault.Internal(err)
	}
	rest = !bytes.Equal(before, after) || !t.board.serves()
	if t.gate == nil || cfg.Raw {
		return nil, rest, nil
	}
	if next.cfg.Access.Public && t.sup.exposed.Load() {
		return nil, false, fault.Exposed(t.slotPort())
	}
	if changed, err = t.gate.admit(next.cfg.visitors()); len(changed) > 0 {
		t.hurry()
	}
	return changed, rest, err
}

// plan validates cfg as far as that can be done without the network, for a tunnel in t's place, and
// returns that tunnel; nothing of it runs.
func (t *Tunnel) plan(cfg Config) (*Tunnel, error) {
	r, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if p := t.endpoint.Load(); p.known && !p.prepared {
		if _, err := cfg.plain(); err != nil {
			return nil, err
		}
	}
	next := newTunnel(r, nil)
	if !cfg.Raw {
		next.useGate(newVisitorGate(next))
	}
	return next, next.connects(t)
}

// drainFor is how long requests that are under way on a tunnel may go on when another has its place.
const drainFor = 5 * time.Second

// Reopen opens a tunnel with cfg in the place of t and returns it when a visitor could open its URL,
// as Expose does; t then takes no more visitors, gives requests that are under way 5 s to end, and is
// closed. Until then t serves; after an error it serves on as before. The new one logs in and is
// checked before t's slots pass to it. If it fails after that, t has them back when Reopen returns, or
// 2 s later at most. A visitor who comes in the one round trip in which a plain proxy's port passes on
// finds nothing there. Another URL that nobody can open, neither here nor on the proxy, does not replace one that leads to t; a
// prepared proxy is not asked about a URL that it does not declare.
//
// t may have failed, been replaced or been closed. cfg is the whole of the new settings, those of visitors
// included: Admit need not be called before.
//
// A token that NewToken made goes over to the new tunnel. t must come from Expose.
func (t *Tunnel) Reopen(ctx context.Context, cfg Config) (*Tunnel, error) {
	start := time.Now()
	if t.listens {
		return nil, fault.Config("open another one with Listen", "this tunnel was opened by Listen: its program serves the visitors")
	}
	next, err := t.plan(cfg)
	if err != nil {
		return nil, err
	}
	if s, _ := t.board.read(); s.Checked != "" && t.board.serves() {
		next.proven = t.endpoint.Load().url
	}
	if next.gate != nil && t.gate != nil {
		next.gate.inherit(t.gate)
	}
	if err := next.start(ctx, true); err != nil {
		next.check.Leave()
		next.sup.yield()
		t.sup.resume()
		if t.gate != nil {
			t.gate.disinherit()
		}
		_ = next.Close()
		return nil, gaveUp(err, start)
	}
	t.log.Info("the new settings hold", "url", next.endpoint.Load().url)
	life, hurry := context.WithCancel(next.life)
	left := make(chan struct{})
	next.before.Store(&leaving{hurry, left})
	if !next.tasks.Go(func() { defer close(left); t.leave(life); hurry(); next.alone() }) {
		_ = t.Close()
	}
	return next, nil
}

// leave closes t, whose place another tunnel has that lives as long as life.
func (t *Tunnel) leave(life context.Context) {
	left := time.NewTimer(slots.HandOver)
	defer left.Stop()
	select {
	case <-left.C:
	case <-life.Done():
	}
	ctx, cancel := context.WithTimeout(life, drainFor)
	defer cancel()
	_ = t.Shutdown(ctx)
}
