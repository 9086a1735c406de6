// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
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

const appRecheck = time.Second

// moved: the app is somewhere else now, or nowhere.
func (s *supervisor) moved(addr string) {
	s.target.Set(addr)
	if s.door != nil {
		s.door.moved()
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
	s.tasks.Go(func() { s.report(addr, probe.App(s.life, addr)) })
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
			s.recheck.Reset(appRecheck)
			if errors.Is(s.appErr, fault.ErrLimit) {
				s.app = appHindered
			}
		}
	}
	s.answering.Store(err == nil)
	switch {
	case s.app == before:
	case s.app == appHindered:
		s.log.Warn(s.appErr.Error(), "hint", s.appErr.Hint)
	case before != appUnknown:
		s.log.Info(map[appState]string{appAnswering: "the app answers", appSilent: "the app does not answer"}[s.app], "target", s.target.Addr())
	}
	s.show()
}
