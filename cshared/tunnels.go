// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// tunnels are those that have a handle.
var tunnels = registry{entries: map[int64]*entry{}}

type registry struct {
	mu      sync.Mutex
	last    int64
	entries map[int64]*entry
}

// entry is a tunnel from tt_expose to tt_release. Until its set-up is over there is no
// tunnel.Tunnel, and the entry keeps what was said meanwhile.
type entry struct {
	handle int64
	ticked atomic.Int64 // the host's last tick, nanoseconds since 1970; 0: none

	changing sync.Mutex // held while another tunnel is opened in the place of this one

	mu     sync.Mutex
	stop   context.CancelFunc // of the set-up, or of a change
	tunnel *tunnel.Tunnel
	status tunnel.Status // while there is no tunnel
	target *string       // set while there was no tunnel
	closed bool
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

func (r *registry) find(handle int64) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.entries[handle]
}

// next returns a handle that was never used.
func (r *registry) next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	return r.last
}

// expose starts a tunnel and returns its handle.
func (r *registry) expose(config []byte, timeout time.Duration) int64 {
	ctx, stop := context.WithTimeout(context.Background(), timeout)
	e := &entry{stop: stop, status: tunnel.Status{State: tunnel.Connecting, Since: time.Now()}}
	e.handle = r.next()
	r.mu.Lock()
	r.entries[e.handle] = e
	r.mu.Unlock()
	start(e.handle, func() { defer stop(); e.run(ctx, config) })
	return e.handle
}

func (r *registry) release(handle int64) {
	r.mu.Lock()
	e := r.entries[handle]
	delete(r.entries, handle)
	r.mu.Unlock()
	if e != nil {
		e.close(0)
	}
}

// run is the life of a tunnel: set-up, and then news of it until it is closed.
func (e *entry) run(ctx context.Context, config []byte) {
	cfg, err := tunnel.ParseConfig(config)
	var t *tunnel.Tunnel
	if err == nil {
		cfg.Log = slog.New(handler{handle: e.handle})
		cfg.Control = own
		cfg.Busy = e.busy
		cfg.Opening = e.opens
		first := cfg.Announced()
		e.edit(func(s *tunnel.Status) { first.Since, *s = s.Since, first })
		t, err = tunnel.Expose(ctx, cfg)
	}
	if err != nil {
		e.failed(err)
		return
	}
	e.adopt(t)
	e.follow(t)
}

// opens takes news of the set-up while it goes on.
func (e *entry) opens(links int, err error) {
	e.edit(func(s *tunnel.Status) {
		s.Links, s.LastError = links, nil
		if err != nil {
			s.LastError = tunnel.AsError(err)
		}
	})
}

// adopt makes t the tunnel of this entry.
func (e *entry) adopt(t *tunnel.Tunnel) {
	e.mu.Lock()
	e.tunnel = t
	target, closed := e.target, e.closed
	e.target = nil
	e.mu.Unlock()
	if closed {
		_ = t.Close()
	}
	if target != nil {
		_ = t.SetTarget(*target)
	}
}

// follow tells what is new of t until it is closed.
func (e *entry) follow(t *tunnel.Tunnel) {
	for range t.Watch(context.Background()) {
		events.status(e.handle)
	}
}

// failed notes how the set-up ended: by an error, or because it was closed meanwhile.
func (e *entry) failed(err error) {
	e.edit(func(s *tunnel.Status) {
		s.State, s.Since, s.Links, s.LastError = tunnel.Failed, time.Now(), 0, nil
		if errors.Is(err, context.Canceled) {
			s.State = tunnel.StateClosed
			return
		}
		s.LastError = tunnel.AsError(err)
	})
}

func (e *entry) edit(f func(*tunnel.Status)) {
	e.mu.Lock()
	f(&e.status)
	e.mu.Unlock()
	events.status(e.handle)
}

func (e *entry) read() tunnel.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tunnel != nil {
		return e.tunnel.Status()
	}
	return e.status
}

// stillFor is how long a host that ticks may be silent before its app counts as busy.
const stillFor = 5 * time.Second

func (e *entry) tick() { e.ticked.Store(time.Now().UnixNano()) }

func (e *entry) busy() bool {
	last := e.ticked.Load()
	return last != 0 && time.Since(time.Unix(0, last)) > stillFor
}

func (e *entry) open() *tunnel.Tunnel {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tunnel
}

func (e *entry) url() string {
	if t := e.open(); t != nil {
		return t.URL()
	}
	return e.read().URL
}

func (e *entry) newToken() bool {
	t := e.open()
	return t != nil && t.NewToken() == nil
}

func (e *entry) requests(n int) []tunnel.Request {
	if t := e.open(); t != nil {
		if found := t.Requests(n); found != nil {
			return found
		}
	}
	return []tunnel.Request{}
}

func (e *entry) setTarget(addr string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tunnel == nil {
		e.target = &addr
		return nil
	}
	return e.tunnel.SetTarget(addr)
}

// reconnect reports whether the tunnel has ended for good, so that only another in its place mends it.
func (e *entry) reconnect() (ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tunnel == nil {
		return e.status.State == tunnel.Failed
	}
	return errors.Is(e.tunnel.Reconnect(), tunnel.ErrClosed)
}

// close begins to close; the state tells when it is done.
func (e *entry) close(drain time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.stop()
	t := e.tunnel
	if t == nil {
		if e.status.State == tunnel.Failed {
			e.status.State, e.status.Since = tunnel.StateClosed, time.Now()
			events.status(e.handle)
		}
		return
	}
	start(e.handle, func() {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		_ = t.Shutdown(ctx)
	})
}

// about reads a question about a tunnel: {"handle"}.
func about(text []byte) (*entry, error) {
	var q struct {
		Ask    string `json:"ask"`
		Handle int64  `json:"handle"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	e := tunnels.find(q.Handle)
	if e == nil {
		return nil, notUnderstood(errors.New("no such tunnel"))
	}
	return e, nil
}

// verify has an open tunnel ask again whether its URL leads to it; its status says what was seen. The answer is null.
func verify(ctx context.Context, text []byte) (any, error) {
	e, err := about(text)
	if err != nil {
		return nil, err
	}
	if t := e.open(); t != nil {
		t.Verify(ctx)
	}
	return nil, nil
}

// examine looks along the chain of a tunnel: {"handle"} -> [{"step","ok","seen","hint"}].
func examine(ctx context.Context, text []byte) (any, error) {
	e, err := about(text)
	if err != nil {
		return nil, err
	}
	if t := e.open(); t != nil {
		return t.Doctor(ctx), nil
	}
	s := e.read()
	seen := tunnel.Checked{Step: "link", Seen: string(s.State)}
	if s.LastError != nil {
		seen.Seen, seen.Hint = s.LastError.Error(), s.LastError.Hint
	}
	return []tunnel.Checked{seen}, nil
}
