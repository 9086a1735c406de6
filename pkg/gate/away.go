// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// Why an app does not answer; kinds of pages.
const (
	awayNotStarted = "not started"
	awayRestarting = "restarting"
	awayStopped    = "stopped"
	awayBusy       = "busy"
)

const awayAgain = "3" // seconds until a page asks again

func (g *Gate) whyAway() string {
	switch {
	case !g.answered.Load():
		return awayNotStarted
	case g.cfg.Target.Addr() == "":
		return awayStopped
	}
	return awayRestarting
}

// away answers in the app's place. A browser's page asks again by itself.
func (g *Gate) away(w http.ResponseWriter, r *http.Request, why string) {
	w.Header().Set("Retry-After", awayAgain)
	refuse(w, r, http.StatusServiceUnavailable, page{Kind: why, Again: awayAgain})
}

// span is a time in which something holds; it is over when the next begins.
type span struct {
	context.Context
	end context.CancelFunc
}

// begin ends the present span and begins the next, which ends by itself at until, zero for never.
func begin(now *atomic.Pointer[span], until time.Time) {
	next, cancel := context.WithCancel(context.Background())
	if !until.IsZero() {
		next, cancel = context.WithDeadline(context.Background(), until)
	}
	if before := now.Swap(&span{next, cancel}); before != nil {
		before.end()
	}
}
