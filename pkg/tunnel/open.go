// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/lease"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

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
		t.useDoor(newDoor(t))
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
	t.sup.tell(func() { t.sup.setupBy = time.Time{} })
	return nil
}

// newTunnel makes a tunnel whose links come from connect; nothing runs yet.
func newTunnel(cfg resolved, connect connector) *Tunnel {
	t := &Tunnel{cfg: cfg, log: cfg.Log, target: &forward.Target{}, accepted: make(chan net.Conn)}
	t.place.Store(cfg.firstPlace(cfg.plainGiven))
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
		vacant: func() {}, public: t.public, addr: t.Addr, url: func() string { return t.place.Load().url }, server: cfg.server.String()})
	t.check = newChecker(t.sup.nudge)
	return t
}

func (t *Tunnel) useDoor(d *door) { t.door, t.sup.door = d, d }

// connects says how t's links are made. What is known of host keys is read now. before is the tunnel in whose place t is
// opened, nil for none.
func (t *Tunnel) connects(before *Tunnel) error {
	ssh, err := t.cfg.server.SSH()
	if err != nil {
		return err
	}
	ssh.Bound = t.door != nil // only the gate asks for room
	c := &connecting{ssh: ssh, life: t.life, lease: lease.New(t.cfg.slot(), ssh.Keys.ID(), t.newer), tasks: &t.tasks, look: t.lookAtSlot, deliver: t.arrive}
	if before != nil {
		c.before = before
	}
	if before != nil && before.lease != nil {
		c.lease.Spare(before.lease) // but for its links that are lost
	}
	c.arrival = arrival{known: t.place.Load, found: func(ctx context.Context, p *place, keys *sshlink.Keys) error {
		if !t.place.Load().known {
			t.arriveAt(p)
		}
		return t.door.open(ctx, keys)
	}, find: t.cfg.find}
	t.lease = c.lease
	t.sup.hooks.connect, t.sup.hooks.vacant, t.sup.hooks.lookPast = c.connect, c.giveBack, t.lookPast
	return nil
}

// arriveAt takes what the first link has learnt of the proxy.
func (t *Tunnel) arriveAt(p *place) {
	t.place.Store(p)
	t.board.edit(func(s *Status) {
		s.URL, s.Name = p.url, p.name
		if p.prepared {
			s.Remote, s.RemoteSocket = 0, p.slots[0].String()
		}
	})
}

// run starts the supervisor and, for Expose, what serves the visitors.
func (t *Tunnel) run(forwards bool) {
	t.tasks.Go(t.sup.run)
	if !forwards {
		t.sup.tell(func() { t.sup.appAnswers(nil) })
		return
	}
	if t.door != nil {
		t.door.show()
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
		return fault.TooSoon(t.cfg.server.String())
	}
	return last
}
