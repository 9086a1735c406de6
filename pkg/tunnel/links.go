// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
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
	why        *Error             // why there is no link, as far as is known
	whySince   time.Time          // when that was learnt
	complained string             // the last failure that was logged
}

func newReconnector(s *supervisor, index int) *reconnector {
	k := &reconnector{s: s, index: index}
	k.retry = time.AfterFunc(time.Hour, func() { s.tell(k.attempt) })
	k.retry.Stop()
	return k
}

// attempt starts to make a link, if there is none; how it ended comes as a fact.
func (k *reconnector) attempt() {
	if k.link == nil {
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
	if wait, why := s.retry.Ready(k.index); wait > 0 {
		k.again(cmp.Or(why, k.why), wait)
		return
	}
	ctx, cancel := context.WithCancel(s.life)
	if !s.setupBy.IsZero() {
		left := time.Until(s.setupBy)
		if left <= 0 { // the caller of the set-up is about to end this tunnel, or to be content without a link
			cancel()
			k.retry.Reset(backoff.Base)
			return
		}
		ctx, cancel = context.WithTimeout(s.life, left-min(left/10, 200*time.Millisecond))
	}
	k.trying = cancel
	s.tasks.Go(func() {
		defer cancel()
		l, err := s.hooks.connect(ctx, k.index)
		cut := errors.Is(ctx.Err(), context.DeadlineExceeded)
		if !s.tell(func() { k.tried(l, err, cut) }) && l != nil {
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
	k.served = k.served || !k.upSince.IsZero()
	k.upSince, k.why, k.retryAt, k.complained = time.Now(), nil, time.Time{}, ""
	s.arrived(k, l)
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
	k.retry.Reset(wait)
	k.learnt(why)
	k.retryAt = k.whySince.Add(wait)
	s.show()
	if text := why.Error(); text != k.complained {
		k.complained = text
		s.log.Warn(text, "hint", why.Hint, "retry_in", wait.Round(time.Millisecond).String())
	}
}

func (k *reconnector) learnt(why *Error) { k.why, k.whySince = why, time.Now() }

// serves reports whether there is a link, and it has a slot, or stands by for another one that has the only slot.
func (k *reconnector) serves() bool { return k.link != nil && k.s.table.Serves(k.link.id) }

// missing reports whether no link serves where one did, or where one could not be made. A first one that is still being
// made is not missing.
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

// listed adds a link to those that are read from other goroutines.
func (s *supervisor) listed(h *heldLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = append([]link{h.link}, s.live...) // the newest first: a caller's Dial takes it
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

// yield leaves the slots to another tunnel of this process: until resume nothing is taken and no link is made. A port is
// free when yield returns, or in two seconds at most.
func (s *supervisor) yield() {
	s.tell(func() {
		for _, k := range s.reconnectors {
			k.retry.Stop()
			if k.trying != nil {
				k.trying()
			}
		}
		s.apply(s.table.Yield(time.Now()))
	})
	ctx, cancel := context.WithTimeout(s.life, yieldFor)
	defer cancel()
	s.until(ctx, func() bool {
		held, _ := s.table.Holding()
		return held == 0 || !s.table.Exclusive()
	})
}

const yieldFor = 2 * time.Second

// givenBack returns when the slots are given back, in two seconds at most.
func (s *supervisor) givenBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, yieldFor)
	defer cancel()
	s.until(ctx, func() bool { held, _ := s.table.Holding(); return held == 0 })
}

// resume takes the slots again that yield left, and returns when that was done, or tried.
func (s *supervisor) resume() {
	s.tell(func() {
		if !s.table.Yielded() {
			return
		}
		s.apply(s.table.Resume(time.Now()))
		for _, k := range s.reconnectors {
			k.attempt()
		}
	})
	ctx, cancel := context.WithTimeout(s.life, yieldFor)
	defer cancel()
	s.until(ctx, s.table.Quiet)
}
