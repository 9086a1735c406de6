// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// supervisor keeps a tunnel's links up and its slots served. Its run loop owns the state; everything
// else sends it facts.
type supervisor struct {
	t        *Tunnel
	connect  connector
	commands chan func()

	// Owned by the run loop.
	setupBy  time.Time // while the set-up lasts: when its caller wants to know
	keepers  []*keeper // of links
	slots    []*keeper // by slot: who serves it, nil for nobody
	links    int       // that came up so far
	again    int       // of them those that were not a keeper's first
	failed   *Error    // why nothing is tried any more
	draining bool
	yielded  bool // another tunnel of this process is about to have the slots
	app      appState
	appErr   *Error
	recheck  *time.Timer // the next look at an app that does not answer
	loop     *time.Timer // the next look at where the URL leads
	astray   int         // how often in a row it led to a newer tunnel
	expiry   *time.Timer // the next look whether the token has ended
	ends     time.Time   // when it does, zero for never
	ended    bool        // it has
	looked   bool        // whether the network reaches the slot, at least once

	answering atomic.Bool // app == appAnswering, for the forwarder's goroutines

	mu      sync.Mutex // guards what is read from other goroutines
	live    []link
	carried int64 // by links that ended
}

const (
	// A socket may be taken from a tunnel that goes on believing it has it (StreamLocalBindUnlink), and
	// that is to know it within 10 s.
	loopCheck   = 8 * time.Second
	loopConfirm = time.Second // …after a first sign of it, which may be of a link that is just changing
)

func newSupervisor(t *Tunnel, connect connector) *supervisor {
	s := &supervisor{t: t, connect: connect, commands: make(chan func()), ends: t.cfg.Expires,
		recheck: time.NewTimer(time.Hour), loop: time.NewTimer(time.Hour), expiry: time.NewTimer(time.Hour)}
	s.recheck.Stop()
	s.loop.Stop()
	s.expiry.Stop()
	s.keepers = []*keeper{newKeeper(s, 0)}
	return s
}

// run keeps the links up until the tunnel's life ends.
func (s *supervisor) run() {
	defer s.stop()
	s.keepers[0].attempt()
	for {
		select {
		case <-s.t.life.Done():
			return
		case command := <-s.commands:
			command()
		case <-s.recheck.C:
			s.probeApp()
		case <-s.loop.C:
			s.lookAround()
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
	case <-s.t.life.Done():
		return false
	}
}

func (s *supervisor) stop() {
	s.recheck.Stop()
	s.loop.Stop()
	s.expiry.Stop()
	for _, k := range s.keepers {
		k.retry.Stop()
		if k.link != nil {
			_ = k.link.Close()
			k.setLink(nil)
		}
	}
}

// up counts the keepers that have a link.
func (s *supervisor) up() (n int) {
	for _, k := range s.keepers {
		if k.link != nil {
			n++
		}
	}
	return n
}

// fail stops trying, until restart.
func (s *supervisor) fail(why *Error) {
	s.failed = why
	s.loop.Stop()
	for _, k := range s.keepers {
		k.stop(why)
	}
	s.show()
	s.t.log.Error(why.Error(), "hint", why.Hint)
}

// restart gives up what there is and tries at once.
func (s *supervisor) restart() {
	s.failed = nil
	for _, k := range s.keepers {
		k.restart()
	}
	s.show()
}

// drain takes no more visitors: the slots go back, what is open stays, a lost link stays lost.
func (s *supervisor) drain() {
	s.draining = true
	s.loop.Stop()
	for _, k := range s.keepers {
		k.retry.Stop()
		if l := k.link; l != nil {
			s.t.tasks.Go(l.Withdraw)
		}
	}
}

// show publishes the state that follows from links and app.
func (s *supervisor) show() {
	var why *Error // the newest
	var since, retryAt time.Time
	missing := false
	for _, k := range s.keepers {
		if k.link != nil {
			continue
		}
		missing = missing || k.missing()
		if k.why != nil && !k.whySince.Before(since) {
			why, since = k.why, k.whySince
		}
		if retryAt.IsZero() || !k.retryAt.IsZero() && k.retryAt.Before(retryAt) {
			retryAt = k.retryAt
		}
	}
	up, slots := s.up(), 0
	for _, k := range s.slots {
		if k != nil {
			slots++
		}
	}
	s.t.board.edit(func(st *Status) {
		st.Expires = s.ends
		st.Links, st.Slots, st.Reconnects, st.RetryAt = up, slots, s.again, retryAt
		switch {
		case s.failed != nil:
			st.State, st.LastError = Failed, s.failed
			if errors.Is(s.failed, fault.ErrReplaced) {
				st.State = Replaced
			}
		case up == 0:
			if s.links > 0 {
				st.State = Reconnecting
			}
			st.LastError = why
		case s.ended: // visitors see that before they see whether the app answers
			st.State, st.LastError = Expired, fault.Expired(s.ends)
		case s.app == appSilent:
			st.State, st.LastError = Waiting, s.appErr
		case s.app == appHindered: // connections that there are serve visitors on
			st.State, st.LastError = Degraded, s.appErr
		case s.app == appAnswering && missing:
			st.State, st.LastError = Degraded, why
		case s.app == appAnswering:
			st.State, st.LastError = Up, nil
		}
	})
}

// lookAround asks in the background whether the URL leads to a newer tunnel.
func (s *supervisor) lookAround() {
	if s.up() == 0 || s.draining || s.yielded {
		return
	}
	s.t.tasks.Go(func() {
		newer := s.t.newer(s.t.life, s.t.dialProxy)
		s.tell(func() { s.lookedAround(newer) })
	})
}

// lookedAround: the newest expose() has the name; this one gives its links up, and does not come back.
func (s *supervisor) lookedAround(newer bool) {
	switch {
	case s.up() == 0 || s.draining || s.yielded:
	case !newer:
		s.astray = 0
		s.loop.Reset(loopCheck)
	case s.astray == 0:
		s.astray++
		s.loop.Reset(loopConfirm)
	default:
		s.fail(fault.Replaced(s.t.Addr(), time.Time{}))
	}
}

// dialProxy connects from the proxy over a link that is up.
func (t *Tunnel) dialProxy(ctx context.Context, addr string) (net.Conn, error) {
	if _, l := t.sup.alive(); l != nil {
		return l.Dial(ctx, addr)
	}
	return nil, fault.Closed()
}

// alive returns how many links there are, and one of them.
func (s *supervisor) alive() (n int, one link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) > 0 {
		one = s.live[0]
	}
	return len(s.live), one
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
