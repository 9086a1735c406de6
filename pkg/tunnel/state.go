// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// show publishes the state that follows from links, slots and app.
func (s *supervisor) show() {
	missing, why, retryAt := s.missing()
	held, astray := s.table.holding()
	serving := 0
	for _, k := range s.reconnectors {
		if k.serves() {
			serving++
		}
	}
	if s.refusal != nil && held == 0 {
		why = s.refusal
		for i := range s.table.slots {
			if next := s.table.slots[i].next; next.After(time.Now()) {
				retryAt = next
			}
		}
	}
	s.board.edit(func(st *Status) {
		st.Expires = s.ends
		st.Links, st.Slots, st.Reconnects, st.RetryAt = serving, held, s.again, retryAt
		switch {
		case s.failed != nil:
			st.State, st.LastError, st.Links, st.Slots = Failed, s.failed, 0, 0
			if errors.Is(s.failed, fault.ErrReplaced) {
				st.State = Replaced
			}
		case s.draining: // what is open is served on
		case held == 0:
			if s.table.held {
				st.State = Reconnecting
			}
			st.LastError = why
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

// missing reports whether visitors would be served better if a link that is not there were; why it is not, as far as is known last,
// and when another one is tried.
func (s *supervisor) missing() (missing bool, why *Error, retryAt time.Time) {
	var since time.Time
	for _, k := range s.reconnectors {
		if k.serves() {
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
	if held, _ := s.table.holding(); held == 1 && len(s.table.slots) == 1 {
		missing = false // a standby alone
	}
	return missing, why, retryAt
}

// elsewhere is the error of slots by which visitors are not led here.
func (s *supervisor) elsewhere() *Error {
	to := ""
	for i := range s.table.slots {
		if what := s.table.slots[i].seen; what.astray() {
			to = map[sight]string{older: "an older tunnel", newer: "a newer tunnel", nobody: "no tunnel at all", foreign: "something else"}[what]
		}
	}
	return fault.Astray(s.hooks.url(), to, s.hooks.addr())
}
