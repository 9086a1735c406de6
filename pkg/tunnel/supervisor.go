// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
)

// supervisor keeps a tunnel's links up and its slots served. Its run loop owns the state; everything
// else sends it facts.
type supervisor struct {
	life     context.Context
	tasks    *guard.Group
	log      *slog.Logger
	board    *board
	gate     gatekeeper // nil: none
	target   *forward.Target
	hooks    hooks
	commands chan func()
	nudged   chan struct{} // another tunnel asked who is here

	// Owned by the run loop.
	setupBy      time.Time // while the set-up lasts: when its caller wants to know
	reconnectors []*reconnector
	table        slots.Table
	links        map[slots.LinkID]*heldLink
	lastLink     slots.LinkID
	came         int           // links that came up so far
	again        int           // of them those that were not a reconnector's first
	retry        *retry.Policy // when they are made again
	failed       *Error        // why nothing is tried any more
	refusal      *Error        // why a slot could not be had, when last tried
	draining     bool
	waiting      []waiter
	settle, loop *time.Timer // when the table has more to do; the next look at the slots
	app          appState
	appErr       *Error
	recheck      *time.Timer        // the next look at an app that does not answer
	expiry       *time.Timer        // the next look whether the token has ended
	ends         time.Time          // when it does, zero for never
	ended        bool               // it has
	ceding       context.CancelFunc // of the wait whether a newer tunnel keeps the slots, nil if there is none
	exposed      atomic.Bool        // the network reaches the slot
	lookedPast   chan struct{}      // closed, by firstLook, when that was looked at
	firstLook    sync.Once
	pause        *time.Timer // since a visitor's connection came
	noted        int64       // arrivals until the last look
	asking       bool        // one at the port is under way
	takes        string      // where this tunnel was seen to answer from the proxy itself, "" if nowhere
	waits        *Error      // why visitors wait at the port, nil if they do not

	arrivals  atomic.Int64 // connections that came from the slots
	answering atomic.Bool  // app == appAnswering, for the forwarder's goroutines

	mu      sync.Mutex // guards what is read from other goroutines
	live    []link
	carried int64 // by links that ended
}

// link is what the supervisor needs of an SSH connection.
type link interface {
	Slots() (n int, exclusive bool)                          // how many nginx sends visitors to; exclusive: who has it keeps it
	Take(ctx context.Context, slot int, look bool) error     // listens there; errNewer if look is asked for and shows a newer tunnel
	Give(slot int)                                           // stops listening, keeps the connections
	Release()                                                // it takes no slot any more: others need not ask it for one
	Show(ctx context.Context)                                // takes Release back
	Dial(ctx context.Context, addr string) (net.Conn, error) // from the proxy
	// Ask asks something over the link. errSilent is a finding's error if no answer comes, although the link itself answers.
	Ask(ctx context.Context, question func(context.Context) probe.Finding) probe.Finding
	Answers(ctx context.Context) error // nil when the server has answered; else why the link ended, or ctx's
	Stats() (open int, bytes int64)    // of the visitors' connections
	Leave()                            // has those end that are kept for further requests
	Done() <-chan struct{}             // closed when the link has ended
	Err() error                        // why it did
	Close() error                      // ends it; nothing is left when it returns
}

// dialer connects from the proxy to addr, "host:port".
type dialer func(ctx context.Context, addr string) (net.Conn, error)

var (
	errNewer  = errors.New("a newer tunnel answers there") // the slot is that one's
	errSilent = errors.New("no answer, and the link is not full")
)

// connector makes one link, once: that of the reconnector with the given index.
type connector func(ctx context.Context, index int) (link, error)

// gatekeeper is what the supervisor needs of what visitors go through.
type gatekeeper interface {
	ends() time.Time // when the token that admits visitors does, zero for never
	cutOff()         // ends what a token opened that has ended
	moved()          // the app is somewhere else now
	drain()          // ends what is idle, and websockets
	resume()         // takes drain back
	looked(began time.Time, alone bool)
}

// hooks is what a supervisor calls: how it reaches the proxy, and looks at it.
type hooks struct {
	server      string
	raw         bool // the app's bytes are carried as they are
	connect     connector
	connections func() int                                                // how many links to hold
	look        func(ctx context.Context, over link, n int) []slots.Sight // who answers at the slots
	lookAtPort  func()                                                    // asks in the background whether visitors wait there
	lookPast    func(ctx context.Context, dial dialer) exposure           // whether the network reaches the slot itself; nil: it is not looked at
	keeps       func(ctx context.Context) bool                            // whether a newer tunnel keeps the slots that it was left; nil: it does
	vacant      func()                                                    // is called when there is no link any more
	addr        func() net.Addr                                           // of the first slot
	url         func() string                                             // what visitors open
	public      func() bool                                               // everybody is admitted who reaches the slot
}

// waiter is told when something has become true.
type waiter struct {
	holds func() bool
	told  chan struct{}
}

func newSupervisor(life context.Context, tasks *guard.Group, log *slog.Logger, b *board, target *forward.Target, h hooks) *supervisor {
	s := &supervisor{life: life, tasks: tasks, log: log, board: b, target: target, hooks: h, commands: make(chan func()), nudged: make(chan struct{}, 1),
		links: map[slots.LinkID]*heldLink{}, retry: retry.New(retry.At(h.server)), lookedPast: make(chan struct{})}
	for _, timer := range []**time.Timer{&s.settle, &s.loop, &s.recheck, &s.expiry, &s.pause} {
		*timer = time.NewTimer(time.Hour)
		(*timer).Stop()
	}
	s.reconnectors = []*reconnector{newReconnector(s, 0)}
	return s
}

// run keeps the links up until the tunnel's life ends.
func (s *supervisor) run() {
	defer s.stop()
	s.reconnectors[0].attempt()
	for {
		select {
		case <-s.life.Done():
			return
		case command := <-s.commands:
			command()
		case <-s.settle.C:
			s.apply(s.table.Settle(time.Now()))
		case <-s.loop.C:
			s.lookAround()
		case <-s.nudged:
			s.table.Asked(time.Now())
			s.apply(nil)
		case <-s.recheck.C:
			s.probeApp()
		case <-s.expiry.C:
			s.expiryChanged()
		case <-s.pause.C:
			if s.takes != "" && s.arrivals.Load() != s.noted {
				s.hooks.lookAtPort()
			}
		}
	}
}

// tell has the run loop call f and returns when it did; false once the tunnel has ended.
func (s *supervisor) tell(f func()) bool {
	done := make(chan struct{})
	select {
	case s.commands <- func() { defer close(done); f() }:
		<-done
		return true
	case <-s.life.Done():
		return false
	}
}

// nudge: another tunnel asked at a slot of this one who is here.
func (s *supervisor) nudge() {
	select {
	case s.nudged <- struct{}{}:
	default:
	}
}

// until returns when the run loop has found that something holds, or ctx ends. It reports that there was time.
func (s *supervisor) until(ctx context.Context, holds func() bool) bool {
	told := make(chan struct{})
	if !s.tell(func() { s.waiting = append(s.waiting, waiter{holds, told}); s.apply(nil) }) {
		return false
	}
	select {
	case <-told:
		return true
	case <-ctx.Done():
	case <-s.life.Done():
	}
	return false
}

func (s *supervisor) stop() {
	for _, timer := range []*time.Timer{s.settle, s.loop, s.recheck, s.expiry, s.pause} {
		timer.Stop()
	}
	for _, k := range s.reconnectors {
		k.retry.Stop()
	}
	for _, h := range s.links {
		_ = h.Close()
		s.forget(h)
	}
}

// fail stops trying, until restart.
func (s *supervisor) fail(why *Error) {
	s.failed = why
	replaced := errors.Is(why, fault.ErrReplaced)
	for _, k := range s.reconnectors {
		k.stop(why, replaced)
	}
	if replaced {
		s.table.Replace() // a link's own look may have told it
		s.endGently()
	}
	s.show()
	s.log.Error(why.Error(), "hint", why.Hint)
}

// endGently gives the slots back, and lets what is under way end for a minute; websockets are told to come again.
func (s *supervisor) endGently() {
	if s.gate != nil {
		s.tasks.Go(s.gate.drain)
	}
	left := make([]*heldLink, 0, len(s.links))
	for _, h := range s.links {
		left = append(left, h)
	}
	time.AfterFunc(endFor, func() {
		s.tell(func() {
			for _, h := range left {
				if s.links[h.id] == h {
					s.close(h)
				}
			}
		})
	})
	s.apply(s.table.Settle(time.Now()))
}

// endFor is how long requests may go on that are under way when a tunnel is replaced.
const endFor = time.Minute

// restart makes new links, each of which takes over from the one that is there.
func (s *supervisor) restart() {
	if s.gate != nil && s.failed != nil && errors.Is(s.failed, fault.ErrReplaced) {
		s.gate.resume()
	}
	s.failed, s.refusal = nil, nil
	s.recall()
	s.table.Revive()
	s.retry.Reset()
	for _, k := range s.reconnectors {
		k.restart()
	}
	s.show()
}

// drain takes no more visitors: the slots go back, what is open stays, a lost link stays lost.
func (s *supervisor) drain() {
	s.draining = true
	for _, k := range s.reconnectors {
		k.retry.Stop()
	}
	s.apply(s.table.Leave(time.Now()))
}

// apply does what the table of slots says, and plans when it is asked again.
func (s *supervisor) apply(acts []slots.Act) {
	for _, a := range acts {
		h := s.links[a.Link]
		s.tasks.Go(func() { s.perform(h, a) })
	}
	now := time.Now()
	if s.table.Replaced() && s.failed == nil {
		s.fail(fault.Replaced(s.hooks.addr(), time.Time{}))
	}
	for _, h := range s.links {
		if s.table.Uses(h.id) || !h.leaves && !s.draining {
			continue
		}
		h.Release()
		if h.leaves {
			h.leaves = false
			s.tasks.Go(func() { s.closeIdle(h) })
		}
	}
	plan(s.settle, s.table.Wake(), now)
	if at := s.table.LookDue(); !at.IsZero() && s.failed == nil && !s.draining {
		plan(s.loop, at, now)
	} else {
		s.loop.Stop()
	}
	kept := s.waiting[:0]
	for _, w := range s.waiting {
		if w.holds() {
			close(w.told)
		} else {
			kept = append(kept, w)
		}
	}
	s.waiting = kept
}

// perform does one act, and reports.
func (s *supervisor) perform(h *heldLink, a slots.Act) {
	if a.Give {
		h.Give(a.Slot)
		s.tell(func() { s.apply(s.table.Given(a.Slot, a.Link, time.Now())); s.show() })
		return
	}
	err := h.Take(s.life, a.Slot, a.Look)
	s.tell(func() { s.answered(h, a.Slot, err) })
}

// forget takes a link out that has ended.
func (s *supervisor) forget(h *heldLink) {
	delete(s.links, h.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, bytes := h.Stats()
	s.carried += bytes
	var live []link
	for _, l := range s.live {
		if l != h.link {
			live = append(live, l)
		}
	}
	s.live = live
}

// one is a link that is up, the newest; nil: none.
func (s *supervisor) one() link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) == 0 {
		return nil
	}
	return s.live[0]
}

// dial connects from the proxy over a link that is up.
func (s *supervisor) dial(ctx context.Context, addr string) (net.Conn, error) {
	l := s.one()
	if l == nil {
		return nil, fault.Closed()
	}
	return l.Dial(ctx, addr)
}

// counts returns the connections that are open and the bytes carried so far.
func (s *supervisor) counts() (open int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes = s.carried
	for _, l := range s.live {
		n, carried := l.Stats()
		open, bytes = open+n, bytes+carried
	}
	return open, bytes
}
