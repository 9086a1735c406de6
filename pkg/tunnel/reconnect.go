// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

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
	if k.trying != nil || s.failed != nil || s.draining || s.table.yielded {
		return
	}
	if wait, why := s.retry.ready(k.index); wait > 0 {
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
	case err == nil && (s.failed != nil || s.draining || s.table.yielded):
		if !s.tasks.Go(func() { _ = l.Close() }) {
			_ = l.Close()
		}
	case s.failed != nil: // what stopped the tunnel stays its error, whatever an attempt that was cut short says
	case err == nil:
		k.up(l)
	case errors.Is(err, context.Canceled): // by restart, which wants another link even where there is one
		k.reconnect()
	default:
		wait, permanent := s.retry.failed(k.index, err, s.up())
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
	s.retry.up()
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
	k.again(fault.From(err), k.s.retry.lost(k.index, time.Since(k.upSince), k.s.up()))
}

// fell: the present link is of no use.
func (k *reconnector) fell(h *heldLink, why *Error) {
	s := k.s
	if k.link == h {
		k.link = nil
		wait, _ := s.retry.failed(k.index, why, s.up())
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

// serves reports whether there is a link, and it has a slot or stands by for the only one.
func (k *reconnector) serves() bool {
	return k.link != nil && (len(k.s.table.slots) == 1 && k.s.table.held || k.s.table.holds(k.link.id))
}

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
	k.retry.Stop()
	k.retryAt = time.Time{}
	if k.trying != nil {
		k.trying()
		return
	}
	k.reconnect()
}
