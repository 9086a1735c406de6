// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
)

// show publishes the state that follows from links, slots and app.
func (s *supervisor) show() {
	missing, why, retryAt := s.missing()
	held, astray := s.table.Holding()
	serving := 0
	for _, k := range s.reconnectors {
		if k.serves() {
			serving++
		}
	}
	serving = max(serving, min(held, 1))                                                         // a link that is about to be replaced
	if s.refusal != nil && (s.ceding != nil || held == 0 && s.table.Exclusive() && s.up() > 0) { // without a link, why there is none is the newer cause
		why = s.refusal
		_, retryAt = s.table.Lacking()
	}
	s.board.edit(func(st *Status) {
		st.Expires = s.ends
		st.Links, st.Slots, st.Reconnects, st.RetryAt = serving, held, s.again, retryAt
		switch {
		case s.failed != nil:
			st.State, st.LastError, st.Links, st.Slots, st.RetryAt = Failed, s.failed, 0, 0, time.Time{}
			if errors.Is(s.failed, fault.ErrReplaced) {
				st.State = Replaced
			}
		case s.draining: // what is open is served on
		case held == 0 || s.ceding != nil:
			if s.table.Had() {
				st.State = Reconnecting
			}
			st.LastError = why
		case s.waits != nil:
			st.State, st.LastError = Reconnecting, s.waits
		case astray == held: // no visitor arrives here
			st.State, st.LastError = Reconnecting, s.elsewhere()
		case s.ended: // visitors see that before they see whether the app answers
			st.State, st.LastError = Expired, fault.Expired(s.ends)
		case s.app == appSilent:
			st.State, st.LastError = Waiting, s.appErr
		case s.app == appHindered: // connections that there are serve visitors on
			st.State, st.LastError = Degraded, s.appErr
		case s.app == appAnswering && astray > 0:
			st.State, st.LastError = Degraded, s.elsewhere()
		case s.app == appAnswering && missing:
			st.State, st.LastError = Degraded, why
		case s.app == appAnswering:
			st.State, st.LastError = Up, nil
		}
	})
}

// missing reports whether visitors would be served better by a link that is not there, or at a slot that is nobody's; why that is, as
// far as is known last, and when it is tried again.
func (s *supervisor) missing() (missing bool, why *Error, retryAt time.Time) {
	var since time.Time
	parked := false
	for _, k := range s.reconnectors {
		if k.serves() {
			continue
		}
		missing, parked = missing || k.missing(), parked || k.parked
		if k.why != nil && !k.whySince.Before(since) {
			why, since = k.why, k.whySince
		}
		if retryAt.IsZero() || !k.retryAt.IsZero() && k.retryAt.Before(retryAt) {
			retryAt = k.retryAt
		}
	}
	if held, _ := s.table.Holding(); held == 1 && s.table.Len() == 1 {
		return parked, why, retryAt // a standby alone is not, while it may come
	}
	if lacks, at := s.table.Lacking(); lacks {
		missing = true
		if why == nil {
			why, retryAt = s.refusal, at
		}
	}
	return missing, why, retryAt
}

// elsewhere is the error of slots by which visitors are not led here.
func (s *supervisor) elsewhere() *Error {
	to := map[slots.Sight]string{slots.Older: "an older tunnel", slots.Newer: "a newer tunnel", slots.Nobody: "no tunnel at all", slots.Foreign: "something else"}[s.table.Elsewhere()]
	return fault.Astray(s.hooks.url(), to, s.hooks.addr(), s.hooks.raw)
}

// awaited: a request waits for a look. It reports whether one comes.
func (s *supervisor) awaited() bool {
	looks := s.table.Awaited(time.Now()) && s.failed == nil && !s.draining
	s.apply(nil)
	return looks
}

// lookAround asks in the background who answers at the slots.
func (s *supervisor) lookAround() {
	over := s.one()
	if over == nil { // it has ended, of which the table has yet to hear
		return
	}
	now, began := time.Now(), steady.Now()
	if s.failed != nil || s.draining || !s.table.Looks(now) {
		s.apply(nil)
		return
	}
	holders := make([]link, s.table.Len())
	for i := range holders {
		if h := s.links[s.table.Holder(i)]; h != nil {
			holders[i] = h
		}
	}
	s.tasks.Go(func() {
		seen := s.hooks.look(s.life, over, len(holders))
		for i, what := range seen { // nobody at the slot of a living link means that another tunnel has had it; of one that ends its end tells all
			if what == slots.Nobody && holders[i] != nil && holders[i].Answers(s.life) != nil {
				seen[i] = slots.Unknown
			}
		}
		s.tell(func() {
			if s.failed != nil { // nothing but that it is over: there are further ones after restart
				s.apply(s.table.Looked(now, nil, time.Now()))
				return
			}
			s.noted = s.arrivals.Load() // the question's among them
			acts := s.table.Looked(now, seen, time.Now())
			_, astray := s.table.Holding()
			if s.gate != nil && (astray > 0 || slices.Contains(seen, slots.Ours)) {
				s.gate.looked(began, astray == 0)
			}
			s.apply(acts)
			s.show()
			if astray > 0 && s.takes != "" {
				s.hooks.lookAtPort()
			}
		})
	})
}

// exposure takes what was seen after a link came up.
func (s *supervisor) exposure(found exposure) {
	was := s.exposed.Load()
	if found != untold { // a slow line may be why: what was seen before stands
		s.exposed.Store(found == exposed)
	}
	if was && found == enclosed {
		s.board.warn(portOpen, nil)
	}
	if found == exposed && s.failed == nil {
		told := fault.Exposed(s.hooks.addr().(*net.TCPAddr).Port)
		s.board.warn(portOpen, told)
		if s.hooks.public() {
			s.fail(told)
		} else if !was {
			s.log.Warn(told.Error(), "hint", told.Hint)
		}
	}
	s.firstLook.Do(func() { close(s.lookedPast) })
}

const appRecheck, appRecheckTLS = time.Second, 5 * time.Second // the latter of one that speaks TLS, in whose log each look is a line or two

// moved: the app is somewhere else now, or nowhere.
func (s *supervisor) moved(addr string) {
	s.target.Set(addr)
	if s.gate != nil {
		s.gate.moved()
	}
	s.board.edit(func(st *Status) { st.Target = addr })
	if addr == "" {
		s.appAnswers(forward.ErrNoTarget)
		return
	}
	s.app = appUnknown
	s.probeApp()
}

// probeApp looks whether the app answers, in the background.
func (s *supervisor) probeApp() {
	addr := s.target.Addr()
	if addr == "" {
		return
	}
	app := probe.App{Addr: addr, Dial: s.target.DialAddr, Raw: s.gate == nil}
	s.tasks.Go(func() { s.report(addr, app.Answers(s.life)) })
}

// dialled is told of each visitor's connection to the app; only news reach the run loop.
func (s *supervisor) dialled(addr string, err error) {
	if (err == nil) != s.answering.Load() {
		s.report(addr, err)
	}
}

func (s *supervisor) report(addr string, err error) {
	s.tell(func() {
		if addr == s.target.Addr() {
			s.appAnswers(err)
		}
	})
}

// appAnswers: whether the app did. One that does not is looked at again each second.
func (s *supervisor) appAnswers(err error) {
	before := s.app
	s.app, s.appErr = appAnswering, nil
	s.recheck.Stop()
	if err != nil {
		s.app = appSilent
		if addr := s.target.Addr(); addr != "" {
			s.appErr = fault.AppRefused(addr, err)
			if s.recheck.Reset(appRecheck); errors.Is(err, fault.ErrTLS) {
				s.recheck.Reset(appRecheckTLS)
			}
			if errors.Is(s.appErr, fault.ErrLimit) {
				s.app = appHindered
			}
		}
	}
	s.answering.Store(err == nil || errors.Is(err, fault.ErrTLS)) // whose visitors have a connection, too
	switch {
	case s.app == before:
	case s.app == appHindered:
		s.log.Warn(s.appErr.Error(), "hint", s.appErr.Hint)
	case before != appUnknown:
		s.log.Info(map[appState]string{appAnswering: "the app answers", appSilent: "the app does not answer"}[s.app], "target", s.target.Addr())
	}
	s.show()
}

// expiryLook is how long a change of the clock, or a suspend, in which timers stand still, may hide that the token has ended.
const expiryLook = time.Minute

// expiryChanged: the gate has another token, or its end may have come. The gate counts in whole seconds of the
// wall clock, as they are signed into the token; so does this.
func (s *supervisor) expiryChanged() {
	if s.gate == nil {
		return
	}
	ends := s.gate.ends()
	s.expiry.Stop()
	ended := false
	if !ends.IsZero() {
		left := time.Until(time.Unix(ends.Unix(), 0))
		ended = left <= 0
		if ended || left > expiryLook {
			left = expiryLook
		}
		s.expiry.Reset(left)
	}
	before, was := s.ends, s.ended
	s.ends, s.ended = ends, ended
	if ended != was || !ends.Equal(before) {
		s.show()
	}
	switch {
	case ended && !was:
		s.gate.cutOff()
		told := fault.Expired(ends)
		s.log.Warn(told.Error(), "hint", told.Hint)
	case was && !ended:
		s.log.Info("the link admits visitors again")
	}
}

// A tunnel leaves its slots to another one before that one is known to stand: only who has a port can be checked. If it
// fails, this one has them back. Of this process it says so itself; of another one its marks on the proxy are gone.

// yield leaves the slots to another tunnel of this process: until resume nothing is taken and no link is made. A port is
// free when yield returns, or in two seconds at most.
func (s *supervisor) yield() {
	s.tell(s.leaveSlots)
	ctx, cancel := context.WithTimeout(s.life, yieldFor)
	defer cancel()
	s.until(ctx, func() bool {
		held, _ := s.table.Holding()
		return held == 0 || !s.table.Exclusive()
	})
}

const yieldFor = 2 * time.Second

// leaveSlots takes no slot any more, and makes no link, until takeBack.
func (s *supervisor) leaveSlots() {
	for _, k := range s.reconnectors {
		k.retry.Stop()
		k.retryAt = time.Time{}
		if k.trying != nil {
			k.trying()
		}
	}
	s.apply(s.table.Yield(time.Now()))
}

// takeBack takes the slots again.
func (s *supervisor) takeBack() {
	if !s.table.Yielded() {
		return
	}
	s.apply(s.table.Resume(time.Now()))
	for _, k := range s.reconnectors {
		k.attempt()
	}
}

// givenBack returns when the slots are given back, in two seconds at most.
func (s *supervisor) givenBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, yieldFor)
	defer cancel()
	s.until(ctx, func() bool { held, _ := s.table.Holding(); return held == 0 })
}

// resume takes the slots again that yield left, and returns when that was done, or tried.
func (s *supervisor) resume() {
	s.tell(s.takeBack)
	ctx, cancel := context.WithTimeout(s.life, yieldFor)
	defer cancel()
	s.until(ctx, s.table.Quiet)
}

// cede leaves the slots to a newer tunnel of another process, and waits in the background whether that one keeps them.
func (s *supervisor) cede(why *Error) {
	switch {
	case s.failed != nil || s.draining:
		return
	case s.hooks.keeps == nil:
		s.fail(why)
		return
	}
	s.refusal = fault.Ceded(s.hooks.addr())
	s.leaveSlots()
	for _, h := range s.links {
		h.Release() // or a third tunnel would end it
	}
	if s.ceding == nil {
		var ctx context.Context
		ctx, s.ceding = context.WithCancel(s.life)
		s.log.Info(s.refusal.Error())
		s.tasks.Go(func() {
			kept := s.hooks.keeps(ctx)
			s.tell(func() { s.ceded(ctx, kept, why) })
		})
	}
	s.show()
}

// ceded: a newer tunnel keeps the slots, or does not.
func (s *supervisor) ceded(ctx context.Context, kept bool, why *Error) {
	switch {
	case ctx.Err() != nil: // called back meanwhile
	case s.failed != nil || s.draining:
		s.reclaim()
	case kept:
		s.reclaim()
		s.fail(why)
	default:
		s.log.Info("takes the slot again, for the newer tunnel did not keep it")
		s.recall()
		s.show()
	}
}

// recall takes the slots again that were left to a newer tunnel.
func (s *supervisor) recall() {
	if s.ceding == nil {
		return
	}
	s.reclaim()
	for _, h := range s.links {
		if !h.leaves {
			s.tasks.Go(func() { h.Show(s.life) })
		}
	}
	s.takeBack()
}

// reclaim ends the wait whether a newer tunnel keeps the slots.
func (s *supervisor) reclaim() {
	if s.ceding != nil {
		s.ceding()
		s.ceding, s.refusal = nil, nil
	}
}
