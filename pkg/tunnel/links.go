// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
)

// heldLink is a link that is up.
type heldLink struct {
	link
	id     slots.LinkID
	by     *reconnector
	leaves bool // another one has its place: it is closed when it serves nothing any more
}

// reconnector keeps one link of a tunnel up. All of it is owned by the supervisor's run loop.
type reconnector struct {
	s          *supervisor
	index      int       // among the supervisor's
	link       *heldLink // nil: none
	upSince    time.Time
	served     bool               // a link of it was lost, or replaced
	trying     context.CancelFunc // of the attempt under way, nil if there is none
	retry      *time.Timer        // the next attempt
	retryAt    time.Time          // when that is
	parked     bool               // there is none while another link serves
	why        *Error             // why there is no link, as far as is known
	whySince   time.Time          // when that was learnt
	complained string             // the last failure that was logged
}

func newReconnector(s *supervisor, index int) *reconnector {
	k := &reconnector{s: s, index: index}
	k.retry = time.AfterFunc(time.Hour, func() { s.tell(k.reconnect) }) // also where a link is to be renewed that is still there
	k.retry.Stop()
	return k
}

// attempt starts to make a link, if there is none; how it ended comes as a fact.
func (k *reconnector) attempt() {
	if k.link == nil && !k.parked {
		k.reconnect()
	}
}

// reconnect starts to make a link, which is to take over from the one that is there. During the set-up it ends a
// little before that does, so that its caller learns what was waited for.
func (k *reconnector) reconnect() {
	s := k.s
	if k.trying != nil || s.failed != nil || s.draining || s.table.Yielded() {
		return
	}
	if wait, why := s.retry.Ready(k.index); why != nil {
		k.again(why, wait)
		return
	} else if wait > 0 {
		k.retry.Reset(wait)
		return
	}
	ctx, cancel := context.WithCancel(s.life)
	if !s.setupBy.IsZero() && s.up() == 0 { // with a link, nobody waits for another one
		left := time.Until(s.setupBy)
		if left <= 0 { // the caller of the set-up is about to end this tunnel, or to be content without a link
			cancel()
			k.retry.Reset(backoff.Base)
			return
		}
		ctx, cancel = context.WithTimeout(s.life, left-min(left/10, 200*time.Millisecond))
	}
	k.trying, k.parked = cancel, false
	s.tasks.Go(func() {
		defer cancel()
		l, err := s.hooks.connect(ctx, k.index)
		by, _ := ctx.Deadline() // which a connection may notice before ctx does
		if cut := !by.IsZero() && !time.Now().Before(by); !s.tell(func() { k.tried(l, err, cut) }) && l != nil {
			_ = l.Close()
		}
	})
}

// tried takes the outcome of an attempt. cut: the end of the set-up ended it.
func (k *reconnector) tried(l link, err error, cut bool) {
	s := k.s
	k.trying = nil
	switch {
	case err == nil && (s.failed != nil || s.draining || s.table.Yielded()):
		if !s.tasks.Go(func() { _ = l.Close() }) {
			_ = l.Close()
		}
	case s.failed != nil: // what stopped the tunnel stays its error, whatever an attempt that was cut short says
	case err == nil:
		k.up(l)
	case errors.Is(err, context.Canceled): // by restart, which wants another link even where there is one
		k.reconnect()
	default:
		wait, permanent := s.retry.Failed(k.index, err, s.up())
		why := fault.From(err)
		if permanent {
			s.fail(why)
			return
		}
		if cut && k.why != nil {
			why = k.why // of an attempt that had its time
		}
		k.again(why, wait)
	}
}

func (k *reconnector) up(l link) {
	s := k.s
	s.came++
	s.retry.Up()
	if !k.upSince.IsZero() {
		s.again++
	}
	k.retry.Stop()
	k.served = k.served || !k.upSince.IsZero()
	k.upSince, k.why, k.retryAt, k.complained = time.Now(), nil, time.Time{}, ""
	none := s.up() == 0
	s.arrived(k, l)
	if none { // what was refused before all links were lost may be granted now
		for _, o := range s.reconnectors {
			if o.parked {
				o.reconnect()
			}
		}
	}
	s.expiryChanged() // the first link made the gate
	s.show()
	s.log.Info("link up", "server", s.hooks.server, "link", k.index, "reconnects", s.again)
}

// lost: the present link has ended by itself.
func (k *reconnector) lost(h *heldLink) {
	err := h.Err()
	if err == nil {
		err = fault.LinkLost(errors.New("closed"))
	}
	k.link, k.served = nil, true
	if errors.Is(err, fault.ErrForward) && fault.IsPermanent(err) && !k.s.table.Had() {
		k.s.fail(fault.From(err)) // the server does not know what it was asked for
		return
	}
	k.again(fault.From(err), k.s.retry.Lost(k.index, time.Since(k.upSince), k.s.up()))
}

// fell: the present link is of no use.
func (k *reconnector) fell(h *heldLink, why *Error) {
	s := k.s
	if k.link == h {
		k.link = nil
		wait, _ := s.retry.Failed(k.index, why, s.up())
		k.again(why, wait)
	}
	s.close(h)
}

// again plans the next attempt.
func (k *reconnector) again(why *Error, wait time.Duration) {
	s := k.s
	if s.draining || s.failed != nil {
		return
	}
	k.learnt(why)
	next := "when no other link is left"
	if k.parked = wait == retry.Never; k.parked {
		k.retryAt = time.Time{}
	} else {
		k.retry.Reset(wait)
		k.retryAt = k.whySince.Add(wait)
		next = wait.Round(time.Millisecond).String()
	}
	s.show()
	if text := why.Error(); text != k.complained {
		k.complained = text
		s.log.Warn(text, "hint", why.Hint, "retry_in", next)
	}
}

func (k *reconnector) learnt(why *Error) { k.why, k.whySince = why, time.Now() }

// serves reports whether there is a link, and it has a slot, or stands by for another one that has the only slot.
func (k *reconnector) serves() bool { return k.link != nil && k.s.table.Serves(k.link.id) }

// missing reports whether no link serves where one did, or where one could not be made. A first one that is still being made is not missing.
func (k *reconnector) missing() bool { return !k.serves() && (k.why != nil || k.served) }

// stop gives up what there is; gently: what is under way may end first.
func (k *reconnector) stop(why *Error, gently bool) {
	k.learnt(why)
	k.retry.Stop()
	k.retryAt = time.Time{}
	if k.trying != nil {
		k.trying()
	}
	if h := k.link; h != nil {
		k.link = nil
		if gently {
			k.s.leave(h)
		} else {
			k.s.close(h)
		}
	}
}

// restart makes a link at once, which takes over from the one that is there.
func (k *reconnector) restart() {
	if k.trying != nil && k.s.retry.Refused() {
		return // the server counts each login
	}
	k.retry.Stop()
	k.retryAt = time.Time{}
	if k.trying != nil {
		k.trying()
		return
	}
	k.reconnect()
}

// arrived is a link that has just logged in.
func (s *supervisor) arrived(k *reconnector, l link) {
	if !s.table.Known() {
		count, exclusive := l.Slots()
		n := s.hooks.connections()
		if count > 1 {
			n = min(n, count)
		}
		s.table = slots.New(count, n, exclusive)
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
	s.apply(s.table.LinkUp(k.index, h.id, time.Now()))
}

// listed adds a link to those that are read from other goroutines.
func (s *supervisor) listed(h *heldLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = append([]link{h.link}, s.live...) // the newest first: a caller's Dial takes it
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
	s.apply(s.table.LinkLost(h.id, time.Now()))
	s.show()
	if len(s.links) == 0 {
		s.hooks.vacant()
	}
}

// up counts the reconnectors that have a link.
func (s *supervisor) up() (n int) {
	for _, k := range s.reconnectors {
		if k.link != nil {
			n++
		}
	}
	return n
}

// leave has a link close that serves visitors on until its last connection ends, when no slot needs it any more.
func (s *supervisor) leave(h *heldLink) {
	h.leaves = true
	for _, o := range s.links { // one at a time for each reconnector
		if o.leaves && o.by == h.by && o != h {
			s.close(o)
		}
	}
}

// close ends a link, which may take a moment.
func (s *supervisor) close(h *heldLink) {
	if h != nil && !s.tasks.Go(func() { _ = h.Close() }) { // the tunnel is being closed, and waits for what the link runs
		_ = h.Close()
	}
}

// idleLook is how often a link that leaves is looked at.
const idleLook = 50 * time.Millisecond

// closeIdle closes a link when its last connection has ended.
func (s *supervisor) closeIdle(h *heldLink) {
	h.Leave()
	tick := time.NewTicker(idleLook)
	defer tick.Stop()
	for {
		if open, _ := h.Stats(); open == 0 {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-h.Done():
		case <-s.life.Done():
		}
		break
	}
	_ = h.Close()
}

// answered takes the outcome of a take.
func (s *supervisor) answered(h *heldLink, i int, err error) {
	if s.links[h.id] != h {
		return
	}
	now := time.Now()
	switch {
	case s.failed != nil && err != nil: // what stopped the tunnel stays its error
		s.apply(s.table.Answered(i, h.id, slots.Refused, now))
	case err == nil:
		first := s.table.Holder(i) == 0
		s.apply(s.table.Answered(i, h.id, slots.Took, now))
		if lacks, _ := s.table.Lacking(); !lacks {
			s.refusal = nil
		}
		if first && s.table.Exclusive() {
			s.lookPastNginx(h)
		}
	case errors.Is(err, errNewer):
		s.apply(s.table.Answered(i, h.id, slots.NotTaken, now))
	default:
		s.refused(h, i, fault.From(err), now)
	}
	s.show()
}

// lookPastNginx looks in the background whether the network reaches a port that a link has just taken.
func (s *supervisor) lookPastNginx(h *heldLink) {
	if s.hooks.lookPast == nil {
		return
	}
	s.takes, s.waits = "", nil
	s.hooks.lookAtPort()
	s.tasks.Go(func() {
		found := s.hooks.lookPast(s.life, h.Dial)
		s.tell(func() { s.exposure(found) })
	})
}

// passes: a port that this tunnel held before was not forbidden since; an account that may forward no other looks the same while a stale link holds it.
func (s *supervisor) passes(err error) bool {
	return s.table.Had() && errors.Is(err, fault.ErrForward) && !errors.Is(err, fault.ErrReplaced)
}

// refused: a slot could not be had.
func (s *supervisor) refused(h *heldLink, i int, why *Error, now time.Time) {
	held, _ := s.table.Holding()
	s.apply(s.table.Answered(i, h.id, slots.Refused, now))
	switch {
	case errors.Is(why, fault.ErrReplaced):
		s.cede(why)
	case fault.IsPermanent(why) && !s.passes(why) && held == 0:
		s.fail(why)
	case errors.Is(why, fault.ErrForward) && !errors.Is(why, fault.ErrBarred) && (s.table.Leads(h.id) || s.table.Exclusive() && (s.passes(why) || !fault.IsPermanent(why))):
		s.told(why) // the link serves others, or stands by, and is asked for this one again
	default: // the link is of no use, or the description of the proxy is not true any more
		s.refusal = why
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
