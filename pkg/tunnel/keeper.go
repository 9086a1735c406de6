// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// keeper keeps one link of a tunnel up. All of it is owned by the supervisor's run loop.
type keeper struct {
	s          *supervisor
	index      int // among the supervisor's
	link       link
	upSince    time.Time
	trying     context.CancelFunc // of the attempt under way, nil if there is none
	backoff    backoff.Backoff
	retry      *time.Timer // the next attempt
	retryAt    time.Time   // when that is
	why        *Error      // why there is no link, as far as is known
	whySince   time.Time   // when that was learnt
	complained string      // the last failure that was logged
}

func newKeeper(s *supervisor, index int) *keeper {
	k := &keeper{s: s, index: index}
	k.retry = time.AfterFunc(time.Hour, func() { s.tell(k.attempt) })
	k.retry.Stop()
	return k
}

// attempt starts to make a link; how it ended comes as a fact. During the set-up it ends a
// little before that does, so that its caller learns what was waited for.
func (k *keeper) attempt() {
	if k.link == nil && k.trying == nil && k.s.failed == nil && !k.s.draining && !k.s.yielded {
		k.replace(nil)
	}
}

// replace is attempt, after old has given its slots back, which may take a moment.
func (k *keeper) replace(old link) {
	s := k.s
	ctx, cancel := context.WithCancel(s.t.life)
	if !s.setupBy.IsZero() {
		left := time.Until(s.setupBy)
		if left <= 0 { // whoever set up is about to end this tunnel, or to be content without a link
			cancel()
			k.retry.Reset(backoff.Base)
			return
		}
		ctx, cancel = context.WithTimeout(s.t.life, left-min(left/10, 200*time.Millisecond))
	}
	k.trying = cancel
	started := s.t.tasks.Go(func() {
		defer cancel()
		if old != nil {
			old.Withdraw()
			_ = old.Close()
		}
		l, err := s.connect(ctx, k.index)
		cut := errors.Is(ctx.Err(), context.DeadlineExceeded)
		if !s.tell(func() { k.arrived(l, err, cut) }) && l != nil {
			_ = l.Close()
		}
	})
	if !started && old != nil { // Close waits for what old runs
		_ = old.Close()
	}
}

// arrived takes the outcome of an attempt. cut: the end of the set-up ended it.
func (k *keeper) arrived(l link, err error, cut bool) {
	k.trying = nil
	switch {
	case k.s.failed != nil: // what stopped the tunnel stays its error, whatever an attempt that was cut short says
		k.close(l)
	case err == nil && (k.s.draining || k.s.yielded):
		k.close(l)
	case err == nil:
		k.up(l)
	case errors.Is(err, context.Canceled): // by restart
		k.attempt()
	case errors.Is(err, fault.ErrReplaced), fault.IsPermanent(err) && !k.mayPass(err) && k.s.up() == 0:
		k.s.fail(fault.From(err))
	default:
		wait := k.backoff.Failed
		if errors.Is(err, fault.ErrPatience) || fault.IsPermanent(err) && k.s.up() > 0 {
			wait = k.backoff.Refused
		}
		why := fault.From(err)
		if cut && k.why != nil {
			why = k.why // of an attempt that had its time
		}
		k.again(why, wait())
	}
}

// mayPass: a port that this tunnel held before was not forbidden since; an account that may
// forward no other port looks the same while a stale link holds it.
func (k *keeper) mayPass(err error) bool {
	return k.s.links > 0 && errors.Is(err, fault.ErrForward) && !errors.Is(err, fault.ErrReplaced)
}

func (k *keeper) up(l link) {
	s := k.s
	s.links++
	if !k.upSince.IsZero() {
		s.again++
	}
	k.upSince, k.why, k.retryAt, k.complained = time.Now(), nil, time.Time{}, ""
	k.setLink(l)
	s.arrange(k, l)
	s.t.tasks.Go(func() { s.t.accept(l) })
	s.t.tasks.Go(func() {
		<-l.Done()
		s.tell(func() { k.lost(l) })
	})
	if s.t.Addr().Network() == "unix" {
		s.astray = 0
		s.loop.Reset(loopCheck)
	}
	s.expiryChanged() // the first link made the gate
	s.show()
	if s.t.slotPort() != 0 {
		s.t.tasks.Go(func() {
			found := s.t.lookPast(s.t.life, l.Dial)
			s.tell(func() { s.lookedPast(found) })
		})
	}
	s.t.log.Info("link up", "server", s.t.server.String(), "link", k.index, "reconnects", s.again)
}

// lost: a link has ended by itself, if it is the present one.
func (k *keeper) lost(l link) {
	if k.link != l {
		return
	}
	err := l.Err()
	if err == nil {
		err = fault.LinkLost(errors.New("closed"))
	}
	k.drop()
	k.again(fault.From(err), k.backoff.Lost(time.Since(k.upSince)))
}

// drop forgets the link and frees what it held, which may take a moment.
func (k *keeper) drop() {
	l := k.link
	k.setLink(nil)
	k.s.takeOver(k)
	k.close(l)
}

func (k *keeper) close(l link) {
	if l != nil && !k.s.t.tasks.Go(func() { _ = l.Close() }) { // the tunnel is being closed, and waits for what l runs
		_ = l.Close()
	}
}

// again plans the next attempt.
func (k *keeper) again(why *Error, wait time.Duration) {
	if k.s.draining || k.s.failed != nil {
		return
	}
	k.retry.Reset(wait)
	k.learnt(why)
	k.retryAt = k.whySince.Add(wait)
	k.s.show()
	if text := why.Error(); text != k.complained {
		k.complained = text
		k.s.t.log.Warn(text, "hint", why.Hint, "retry_in", wait.Round(time.Millisecond).String())
	}
}

func (k *keeper) learnt(why *Error) { k.why, k.whySince = why, time.Now() }

// missing reports whether there is no link where there was one, or where one could not be made. A first
// one that is still being made is not missing.
func (k *keeper) missing() bool { return k.link == nil && (k.why != nil || !k.upSince.IsZero()) }

// stop gives up what there is.
func (k *keeper) stop(why *Error) {
	k.learnt(why)
	k.retry.Stop()
	k.retryAt = time.Time{}
	if k.trying != nil {
		k.trying()
	}
	if k.link != nil {
		k.drop()
	}
}

// restart gives up what there is and tries at once. The slots are given back first, or the new
// link would find its port in use.
func (k *keeper) restart() {
	k.backoff.Reset()
	k.retry.Stop()
	k.retryAt = time.Time{}
	switch {
	case k.trying != nil:
		k.trying()
	case k.link != nil:
		l := k.link
		k.setLink(nil)
		k.s.takeOver(k)
		k.replace(l)
	default:
		k.attempt()
	}
}

// setLink makes l the keeper's link, nil for none.
func (k *keeper) setLink(l link) {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.link != nil {
		_, bytes := k.link.Stats()
		s.carried += bytes
		s.live = slices.DeleteFunc(slices.Clone(s.live), func(o link) bool { return o == k.link })
	}
	k.link = l
	if l != nil {
		s.live = append(slices.Clone(s.live), l)
	}
}
