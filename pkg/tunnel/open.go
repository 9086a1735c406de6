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
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// open starts a tunnel and waits until it is ready. forwards: it serves cfg.Target itself.
func open(ctx context.Context, cfg Config, forwards bool) (*Tunnel, error) {
	start := time.Now()
	srv, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	var t *Tunnel
	connect, err := newConnector(cfg, srv, func(ctx context.Context, keys *sshlink.Keys) { t.door.open(ctx, keys) },
		func(ctx context.Context, proxy dialer) bool { return t.newer(ctx, proxy) })
	if err != nil {
		return nil, err
	}
	t = newTunnel(cfg, srv, connect)
	if forwards && !cfg.Raw {
		if t.door, err = newDoor(t); err != nil {
			return nil, err
		}
	}
	t.sup.setupBy, _ = ctx.Deadline()
	t.run(forwards)
	if err := t.ready(ctx); err != nil {
		_ = t.Close()
		if e, ok := errors.AsType[*Error](err); ok && !e.Permanent {
			err = fault.Timeout(e, time.Since(start))
		}
		return nil, err
	}
	t.sup.tell(func() { t.sup.setupBy = time.Time{} })
	return t, nil
}

// newTunnel makes a tunnel whose links come from connect; nothing runs yet.
func newTunnel(cfg Config, srv server, connect connector) *Tunnel {
	t := &Tunnel{cfg: cfg, server: srv, log: cfg.Log, target: &forward.Target{}, accepted: make(chan net.Conn)}
	t.check.exposed = time.Now()
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.tasks.Panicked = func(err error) {
		t.log.Error("internal error", "error", err)
		t.board.edit(func(s *Status) { s.State, s.LastError = Failed, fault.Internal(err) })
		t.end()
	}
	t.board = newBoard(Status{State: Connecting, URL: cfg.URL, Server: srv.String(), Remote: cfg.Remote, RemoteSocket: cfg.RemoteSocket})
	t.sup = newSupervisor(t, connect)
	return t
}

// run starts the supervisor and, for Expose, what serves the visitors.
func (t *Tunnel) run(forwards bool) {
	t.tasks.Go(t.sup.run)
	if !forwards {
		t.sup.tell(func() { t.sup.appAnswers(nil) })
		return
	}
	var serve interface {
		Serve(net.Listener) error
		Close() error
	} = &forward.Forwarder{Target: t.target, Dialled: t.sup.dialled, Panicked: t.tasks.Panicked}
	if t.door != nil {
		serve = t.door.gate
		t.board.edit(func(s *Status) { s.Access, s.Expires = t.cfg.Access.String(), t.cfg.Expires })
		if t.cfg.Access.Public {
			t.log.Warn("the app is open to everybody who can reach the URL", "url", t.cfg.URL)
		}
	}
	t.tasks.Go(func() { _ = serve.Serve(t) })
	t.tasks.Go(func() { <-t.life.Done(); _ = serve.Close() })
	t.sup.tell(func() { t.sup.moved(t.cfg.Target) })
}

// ready waits until the slot is bound and the URL was seen to lead here, or returns why not.
func (t *Tunnel) ready(ctx context.Context) error {
	var last error
	for s := range t.board.watch(ctx) {
		switch s.State {
		case Failed, Replaced:
			return s.LastError
		case Up, Waiting:
			return t.verify(ctx)
		case StateClosed:
			return fault.Closed()
		}
		if s.LastError != nil {
			last = s.LastError
		}
	}
	if last == nil || errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return last
}
