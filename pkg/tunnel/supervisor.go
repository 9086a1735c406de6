// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// supervisor keeps one link up. Its run loop owns the state; everything else sends it facts.
type supervisor struct {
	t        *Tunnel
	connect  connector
	commands chan func()
	attempts chan attempt

	// Owned by the run loop.
	setupBy    time.Time // while the set-up lasts: when its caller wants to know
	link       link
	upSince    time.Time
	trying     context.CancelFunc // of the attempt under way, nil if there is none
	draining   bool
	links      int // that came up so far
	backoff    backoff.Backoff
	retry      *time.Timer // the next attempt
	app        appState
	appErr     *Error
	recheck    *time.Timer // the next look at an app that does not answer
	complained string      // the last failure that was logged
	loop       *time.Timer // the next look at where the URL leads
	astray     int         // how often in a row it led to a newer tunnel

	answering atomic.Bool // app == appAnswering, for the forwarder's goroutines

	mu      sync.Mutex // guards what Status reads from other goroutines
	live    link
	carried int64 // by links that ended
}

// attempt is how one attempt to make a link ended.
type attempt struct {
	link link
	err  error
	cut  bool // by the end of the set-up
}

type appState int

const (
	appUnknown appState = iota
	appAnswering
	appSilent
)

const (
	appRecheck = time.Second
	// A socket may be taken from a tunnel that goes on believing it has it (StreamLocalBindUnlink).
	loopCheck   = 10 * time.Second
	loopConfirm = time.Second // …after a first sign of it, which may be of a link that is just changing
)

func newSupervisor(t *Tunnel, connect connector) *supervisor {
	s := &supervisor{t: t, connect: connect, commands: make(chan func()), attempts: make(chan attempt),
		retry: time.NewTimer(time.Hour), recheck: time.NewTimer(time.Hour), loop: time.NewTimer(time.Hour)}
	s.retry.Stop()
	s.recheck.Stop()
	s.loop.Stop()
	return s
}

// run keeps the link up until the tunnel's life ends.
func (s *supervisor) run() {
	defer s.stop()
	s.attempt()
	for {
		var lost <-chan struct{}
		if s.link != nil {
			lost = s.link.Done()
		}
		select {
		case <-s.t.life.Done():
			return
		case command := <-s.commands:
			command()
		case a := <-s.attempts:
			s.arrived(a)
		case <-lost:
			s.lost()
		case <-s.retry.C:
			s.attempt()
		case <-s.recheck.C:
			s.probeApp()
		case <-s.loop.C:
			s.lookAround()
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
	case <-s.t.life.Done():
		return false
	}
}

func (s *supervisor) stop() {
	s.retry.Stop()
	s.recheck.Stop()
	s.loop.Stop()
	if s.link != nil {
		_ = s.link.Close()
		s.setLink(nil)
	}
}

// attempt starts to make a link; how it ended comes as a fact. During the set-up it ends a
// little before that does, so that its caller learns what was waited for.
func (s *supervisor) attempt() { s.replace(nil) }

// replace is attempt, after old has given its slot back, which may take a moment.
func (s *supervisor) replace(old link) {
	ctx, cancel := context.WithCancel(s.t.life)
	if !s.setupBy.IsZero() {
		left := time.Until(s.setupBy)
		if left <= 0 { // whoever set up is about to end this tunnel, or to be content without a link
			cancel()
			s.retry.Reset(backoff.Base)
			return
		}
		ctx, cancel = context.WithTimeout(s.t.life, left-min(left/10, 200*time.Millisecond))
	}
	s.trying = cancel
	started := s.t.tasks.Go(func() {
		defer cancel()
		if old != nil {
			old.Withdraw()
			_ = old.Close()
		}
		l, err := s.connect(ctx)
		select {
		case s.attempts <- attempt{l, err, errors.Is(ctx.Err(), context.DeadlineExceeded)}:
		case <-s.t.life.Done():
			if l != nil {
				_ = l.Close()
			}
		}
	})
	if !started && old != nil { // Close waits for what old runs
		_ = old.Close()
	}
}

// arrived takes the outcome of an attempt.
func (s *supervisor) arrived(a attempt) {
	s.trying = nil
	switch {
	case a.err == nil && s.draining:
		_ = a.link.Close()
	case a.err == nil:
		s.up(a.link)
	case errors.Is(a.err, context.Canceled): // by restart
		s.attempt()
	case fault.IsPermanent(a.err) && !s.mayPass(a.err):
		s.fail(fault.From(a.err))
	default:
		wait := s.backoff.Failed
		if errors.Is(a.err, fault.ErrPatience) {
			wait = s.backoff.Refused
		}
		why := fault.From(a.err)
		if before, _ := s.t.board.read(); a.cut && before.LastError != nil {
			why = before.LastError // of an attempt that had its time
		}
		s.again(why, wait())
	}
}

// mayPass: a port that this tunnel held before was not forbidden since; an account that may
// forward no other port looks the same while a stale link holds it.
func (s *supervisor) mayPass(err error) bool {
	return s.links > 0 && errors.Is(err, fault.ErrForward) && !errors.Is(err, fault.ErrReplaced)
}

func (s *supervisor) up(l link) {
	s.links++
	s.upSince = time.Now()
	s.setLink(l)
	s.t.tasks.Go(func() { s.t.accept(l) })
	if s.t.Addr().Network() == "unix" {
		s.astray = 0
		s.loop.Reset(loopCheck)
	}
	s.t.board.edit(func(st *Status) {
		st.Links, st.Slots, st.Reconnects, st.RetryAt = 1, 1, s.links-1, time.Time{}
	})
	s.complained = ""
	s.show()
	s.t.log.Info("link up", "server", s.t.server.String(), "reconnects", s.links-1)
}

// lookAround asks in the background whether the URL leads to a newer tunnel.
func (s *supervisor) lookAround() {
	l := s.link
	if l == nil || s.draining {
		return
	}
	s.t.tasks.Go(func() {
		newer := s.t.newer(s.t.life, l.Dial)
		s.tell(func() { s.lookedAround(l, newer) })
	})
}

// lookedAround: the newest expose() has the name; this one gives its link up, and does not come back.
func (s *supervisor) lookedAround(l link, newer bool) {
	switch {
	case l != s.link || s.draining:
	case !newer:
		s.astray = 0
		s.loop.Reset(loopCheck)
	case s.astray == 0:
		s.astray++
		s.loop.Reset(loopConfirm)
	default:
		s.drop()
		s.fail(fault.Replaced(s.t.Addr(), time.Time{}))
	}
}

// lost: the link has ended by itself.
func (s *supervisor) lost() {
	err := s.link.Err()
	if err == nil {
		err = fault.LinkLost(errors.New("closed"))
	}
	s.drop()
	s.again(fault.From(err), s.backoff.Lost(time.Since(s.upSince)))
}

// drop forgets the link and frees what it held, which may take a moment.
func (s *supervisor) drop() {
	l := s.link
	s.setLink(nil)
	if !s.t.tasks.Go(func() { _ = l.Close() }) { // the tunnel is being closed, and waits for what l runs
		_ = l.Close()
	}
}

// again plans the next attempt.
func (s *supervisor) again(why *Error, wait time.Duration) {
	if s.draining {
		return
	}
	s.retry.Reset(wait)
	s.t.board.edit(func(st *Status) {
		st.Links, st.Slots, st.LastError, st.RetryAt = 0, 0, why, time.Now().Add(wait)
		if s.links > 0 {
			st.State = Reconnecting
		}
	})
	if text := why.Error(); text != s.complained {
		s.complained = text
		s.t.log.Warn(text, "hint", why.Hint, "retry_in", wait.Round(time.Millisecond).String())
	}
}

// fail stops trying, until restart.
func (s *supervisor) fail(why *Error) {
	state := Failed
	if errors.Is(why, fault.ErrReplaced) {
		state = Replaced
	}
	s.t.board.edit(func(st *Status) {
		st.State, st.Links, st.Slots, st.LastError, st.RetryAt = state, 0, 0, why, time.Time{}
	})
	s.t.log.Error(why.Error(), "hint", why.Hint)
}

// restart gives up what there is and tries at once. The slot is given back first, or the new
// link would find its port in use.
func (s *supervisor) restart() {
	s.backoff.Reset()
	s.retry.Stop()
	switch {
	case s.trying != nil:
		s.trying()
	case s.link != nil:
		l := s.link
		s.setLink(nil)
		s.t.board.edit(func(st *Status) { st.State, st.Links, st.Slots = Reconnecting, 0, 0 })
		s.replace(l)
	default:
		s.t.board.edit(func(st *Status) { st.State = Reconnecting })
		s.attempt()
	}
}

// drain takes no more visitors: the slot goes back, what is open stays, a lost link stays lost.
func (s *supervisor) drain() {
	s.draining = true
	s.retry.Stop()
	s.loop.Stop()
	if l := s.link; l != nil {
		s.t.tasks.Go(l.Withdraw)
	}
}

// The app.

// moved: the app is somewhere else now, or nowhere.
func (s *supervisor) moved(addr string) {
	s.t.target.Set(addr)
	if s.t.door != nil {
		s.t.door.gate.Moved()
	}
	s.t.board.edit(func(st *Status) { st.Target = addr })
	if addr == "" {
		s.appAnswers(forward.ErrNoTarget)
		return
	}
	s.app = appUnknown
	s.probeApp()
}

// probeApp looks whether the app answers, in the background.
func (s *supervisor) probeApp() {
	addr := s.t.target.Addr()
	if addr == "" {
		return
	}
	s.t.tasks.Go(func() { s.report(addr, probe.App(s.t.life, addr)) })
}

// dialled is told of each visitor's connection to the app; only news reach the run loop.
func (s *supervisor) dialled(addr string, err error) {
	if (err == nil) != s.answering.Load() {
		s.report(addr, err)
	}
}

func (s *supervisor) report(addr string, err error) {
	s.tell(func() {
		if addr == s.t.target.Addr() {
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
		if addr := s.t.target.Addr(); addr != "" {
			s.appErr = fault.AppRefused(addr, err)
			s.recheck.Reset(appRecheck)
		}
	}
	s.answering.Store(err == nil)
	if s.app != before && before != appUnknown {
		s.t.log.Info(map[appState]string{appAnswering: "the app answers", appSilent: "the app does not answer"}[s.app], "target", s.t.target.Addr())
	}
	s.show()
}

// show publishes the state that follows from link and app.
func (s *supervisor) show() {
	if s.link == nil || s.app == appUnknown {
		return
	}
	s.t.board.edit(func(st *Status) {
		st.State, st.LastError = Up, s.appErr
		if s.app == appSilent {
			st.State = Waiting
		}
	})
}

func (s *supervisor) setLink(l link) {
	s.link = l
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != nil {
		_, bytes := s.live.Stats()
		s.carried += bytes
	}
	s.live = l
}

// counts returns the connections that are open and the bytes carried so far.
func (s *supervisor) counts() (open int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != nil {
		open, bytes = s.live.Stats()
	}
	return open, bytes + s.carried
}
