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
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
)

// supervisor keeps a tunnel's links up and its slots served. Its run loop owns the state; everything
// else sends it facts.
type supervisor struct {
	life     context.Context
	tasks    *guard.Group
	log      *slog.Logger
	board    *board
	gate     *visitorGate // nil: none
	target   *forward.Target
	hooks    hooks
	commands chan func()
	nudged   chan struct{} // another tunnel asked who is here

	// Owned by the run loop.
	setupBy      time.Time // while the set-up lasts: when its caller wants to know
	reconnectors []*reconnector
	table        slotTable
	links        map[linkID]*heldLink
	lastLink     linkID
	came         int           // links that came up so far
	again        int           // of them those that were not a reconnector's first
	retry        *retry.Policy // when they are made again
	failed       *Error        // why nothing is tried any more
	refusal      *Error        // why a slot could not be had, when last tried
	draining     bool
	waiting      []waiter
	settle       *time.Timer // when the table has more to do
	loop         *time.Timer // the next look at the slots
	app          appState
	appErr       *Error
	recheck      *time.Timer // the next look at an app that does not answer
	expiry       *time.Timer // the next look whether the token has ended
	ends         time.Time   // when it does, zero for never
	ended        bool        // it has
	looked       bool        // whether the network reaches the slot, at least once
	exposed      atomic.Bool // it does
	lookedPast   chan struct{}

	answering atomic.Bool // app == appAnswering, for the forwarder's goroutines

	mu      sync.Mutex // guards what is read from other goroutines
	live    []link
	carried int64 // by links that ended
}

// hooks is what a supervisor calls: how it reaches the proxy, and looks at it.
type hooks struct {
	server      string
	connect     connector
	connections func() int                                              // how many links to hold
	look        func(ctx context.Context, over link, slots int) []sight // who answers at the slots
	lookPast    func(ctx context.Context, dial dialer) exposure         // whether the network reaches the slot itself; nil: it is not looked at
	vacant      func()                                                  // is called when there is no link any more
	addr        func() net.Addr                                         // of the first slot
	url         func() string                                           // what visitors open
	public      func() bool                                             // everybody is admitted who reaches the slot
}

// waiter is told when something has become true.
type waiter struct {
	holds func() bool
	told  chan struct{}
}

func newSupervisor(life context.Context, tasks *guard.Group, log *slog.Logger, b *board, target *forward.Target, h hooks) *supervisor {
	s := &supervisor{life: life, tasks: tasks, log: log, board: b, target: target, hooks: h, commands: make(chan func()), nudged: make(chan struct{}, 1),
		links: map[linkID]*heldLink{}, retry: retry.New(retry.At(h.server)), lookedPast: make(chan struct{})}
	for _, timer := range []**time.Timer{&s.settle, &s.loop, &s.recheck, &s.expiry} {
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
			s.apply(s.table.settle(time.Now()))
		case <-s.loop.C:
			s.lookAround()
		case <-s.nudged:
			s.table.asked(time.Now())
			s.apply(nil)
		case <-s.recheck.C:
			s.probeApp()
		case <-s.expiry.C:
			s.expiryChanged()
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
	for _, timer := range []*time.Timer{s.settle, s.loop, s.recheck, s.expiry} {
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
		s.table.replaced = true // a link's own look may have told it
		s.endGently()
	}
	s.show()
	s.log.Error(why.Error(), "hint", why.Hint)
}

// restart makes new links, each of which takes over from the one that is there.
func (s *supervisor) restart() {
	if s.gate != nil && s.failed != nil && errors.Is(s.failed, fault.ErrReplaced) {
		s.gate.resume()
	}
	s.failed, s.refusal, s.table.replaced, s.table.newer = nil, nil, false, time.Time{}
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
	s.apply(s.table.leave(time.Now()))
}

// arrived is a link that has just logged in.
func (s *supervisor) arrived(k *reconnector, l link) {
	if s.table.up == nil {
		slots, exclusive := l.Slots()
		n := s.hooks.connections()
		if slots > 1 {
			n = min(n, slots)
		}
		s.table.exclusive, s.table.slots, s.table.up = exclusive, make([]slot, slots), make([]linkID, n)
		for len(s.reconnectors) < n {
			other := newReconnector(s, len(s.reconnectors))
			s.reconnectors = append(s.reconnectors, other)
			defer other.attempt()
		}
	}
	s.lastLink++
	h := &heldLink{link: l, id: s.lastLink, by: k}
	s.links[h.id] = h
	before := k.link
	k.link = h
	s.listed(h)
	if before != nil {
		s.leave(before)
	}
	s.tasks.Go(func() {
		<-l.Done()
		s.tell(func() { s.lost(h) })
	})
	s.apply(s.table.linkUp(k.index, h.id, time.Now()))
}

// lost: a link has ended by itself, or was closed.
func (s *supervisor) lost(h *heldLink) {
	if s.links[h.id] != h {
		return
	}
	s.forget(h)
	s.close(h) // of what it held something may be left
	if k := h.by; k.link == h {
		k.lost(h)
	}
	s.apply(s.table.linkLost(h.id, time.Now()))
	s.show()
	if len(s.links) == 0 {
		s.hooks.vacant()
	}
}

// apply does what the table of slots says, and plans when it is asked again.
func (s *supervisor) apply(acts []act) {
	for _, a := range acts {
		h := s.links[a.link]
		s.tasks.Go(func() { s.perform(h, a) })
	}
	now := time.Now()
	if s.table.replaced && s.failed == nil {
		s.fail(fault.Replaced(s.hooks.addr(), time.Time{}))
	}
	for _, h := range s.links {
		if h.leaves && !s.table.uses(h.id) {
			h.leaves = false
			s.tasks.Go(func() { s.closeIdle(h) })
		}
	}
	plan(s.settle, s.table.wake(), now)
	if at := s.table.lookAt; s.table.watches() && s.failed == nil && !s.draining {
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

func plan(timer *time.Timer, at, now time.Time) {
	timer.Stop()
	if !at.IsZero() {
		timer.Reset(max(at.Sub(now), time.Millisecond))
	}
}

// perform does one act, and reports.
func (s *supervisor) perform(h *heldLink, a act) {
	if a.give {
		h.Give(a.slot)
		s.tell(func() { s.apply(s.table.given(a.slot, a.link, time.Now())); s.show() })
		return
	}
	err := h.Take(s.life, a.slot, a.look)
	s.tell(func() { s.answered(h, a.slot, err) })
}

// answered takes the outcome of a take.
func (s *supervisor) answered(h *heldLink, i int, err error) {
	if s.links[h.id] != h {
		return
	}
	now := time.Now()
	switch {
	case s.failed != nil && err != nil: // what stopped the tunnel stays its error
		s.apply(s.table.answered(i, h.id, refused, now))
	case err == nil:
		s.refusal = nil
		first := s.table.slots[i].holder == 0
		s.apply(s.table.answered(i, h.id, took, now))
		if first && s.table.exclusive {
			s.lookPastNginx(h)
		}
	case errors.Is(err, errNewer):
		s.apply(s.table.answered(i, h.id, notTaken, now))
	default:
		s.refused(h, i, fault.From(err), now)
	}
	s.show()
}

// passes: a port that this tunnel held before was not forbidden since; an account that may forward no other port looks
// the same while a stale link holds it.
func (s *supervisor) passes(err error) bool {
	return s.table.held && errors.Is(err, fault.ErrForward) && !errors.Is(err, fault.ErrReplaced)
}

// refused: a slot could not be had.
func (s *supervisor) refused(h *heldLink, i int, why *Error, now time.Time) {
	held, _ := s.table.holding()
	s.apply(s.table.answered(i, h.id, refused, now))
	switch {
	case errors.Is(why, fault.ErrReplaced), fault.IsPermanent(why) && !s.passes(why) && held == 0:
		s.fail(why)
	case s.table.exclusive && errors.Is(why, fault.ErrForward) && (s.passes(why) || !fault.IsPermanent(why)):
		s.told(why)
	default: // the link is of no use, or the description of the proxy is not true any more
		h.by.fell(h, why)
	}
}

// told notes why a slot could not be had.
func (s *supervisor) told(why *Error) {
	if s.refusal == nil || s.refusal.Error() != why.Error() {
		s.log.Warn(why.Error(), "hint", why.Hint)
	}
	s.refusal = why
}

// lookAround asks in the background who answers at the slots.
func (s *supervisor) lookAround() {
	now := time.Now()
	if s.failed != nil || s.draining || !s.table.looks(now) {
		s.apply(nil)
		return
	}
	var over link
	for _, k := range s.reconnectors {
		if k.link != nil {
			over = k.link.link
		}
	}
	slots := len(s.table.slots)
	s.tasks.Go(func() {
		seen := s.hooks.look(s.life, over, slots)
		s.tell(func() {
			if s.failed == nil {
				s.apply(s.table.looked(now, seen, time.Now()))
				s.show()
			}
		})
	})
}
