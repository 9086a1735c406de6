// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

type appState int

const (
	appUnknown appState = iota
	appAnswering
	appSilent
	appHindered // this process has no descriptor left for a connection to it
)

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
	s.tasks.Go(func() { s.report(addr, s.asApp(addr).Answers(s.life)) })
}

// asApp is how the app is looked at. Of one whose bytes are carried as they are nothing is known, and it is asked nothing, until a question
// has come that was sent in clear.
func (s *supervisor) asApp(addr string) probe.App {
	return probe.App{Addr: addr, Dial: s.target.DialAddr, Raw: s.gate == nil && !s.clear.Load()}
}

// askedInClear: a question came through the web server in front, as visitors' requests will. Where the tunnel carries bytes as they are
// it has answered that in place of the app; if that speaks TLS, the answer proves nothing, and it reports true.
func (t *Tunnel) askedInClear(ctx context.Context) bool {
	addr := t.target.Addr()
	if t.gate != nil || addr == "" {
		return false
	}
	t.sup.clear.Store(true)
	err := t.sup.asApp(addr).Answers(ctx)
	if ctx.Err() == nil {
		t.sup.report(addr, err)
	}
	return errors.Is(err, fault.ErrTLS)
}

// askedInTLS: what has answered may be the app, in its own TLS.
func (t *Tunnel) askedInTLS(ctx context.Context) {
	if addr := t.target.Addr(); t.sup.clear.Swap(false) && addr != "" {
		t.sup.report(addr, t.sup.asApp(addr).Answers(ctx))
	}
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
			s.appErr = fault.AppRefused(addr, err, s.gate == nil)
			if s.recheck.Reset(appRecheck); errors.Is(err, fault.ErrTLS) {
				s.recheck.Reset(appRecheckTLS)
				s.misled()
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

// misled: where no gate asks the app, it was the tunnel that answered the check for one that speaks TLS. The URL is asked again until it is mended.
func (s *supervisor) misled() {
	if s.gate == nil {
		s.board.edit(func(st *Status) { st.Checked, st.Unchecked = "", "" })
		s.board.unasked.Store(true)
	}
}
