// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
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

const (
	awayAgain = "3" // seconds until a page asks again
	busyLook  = time.Second
)

var (
	errBusy  = errors.New("the app's process is busy")
	errMoved = errors.New("the app is somewhere else now")
)

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

// Moved has requests that may be repeated, and wait for an app that is not the target any more,
// asked again where it is now: a server that was stopped may keep its connections open and never
// answer.
func (g *Gate) Moved() {
	begin(&g.stay, time.Time{})
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

// ask sends a request to the app. An answer is waited for as long as it takes, but for a page while
// the whole process stands still, when nobody can tell how long that will be.
func (g *Gate) ask(r *http.Request) (*http.Response, error) {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if !safe || r.Body != nil && r.Body != http.NoBody {
		return g.transport.RoundTrip(r)
	}
	for {
		ctx, cancel := context.WithCancel(r.Context())
		var verdict atomic.Pointer[error] // the first one counts: an answer that has arrived is not cut off
		giveUp := func(why error) {
			if verdict.CompareAndSwap(nil, &why) {
				cancel()
			}
		}
		stayed := context.AfterFunc(g.stay.Load(), func() { giveUp(errMoved) })
		g.aim(r)
		arrived := make(chan struct{})
		if g.cfg.Busy != nil && isPage(r) {
			g.tasks.Go(func() { g.watch(arrived, giveUp) })
		}
		resp, err := g.transport.RoundTrip(r.WithContext(ctx))
		stayed()
		close(arrived)
		if verdict.CompareAndSwap(nil, &err) || r.Context().Err() != nil {
			return resp, err
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		if why := *verdict.Load(); why == errBusy {
			return nil, why
		}
	}
}

// watch cancels a request when the process stands still before the answer has arrived.
func (g *Gate) watch(arrived <-chan struct{}, giveUp func(error)) {
	look := time.NewTicker(busyLook)
	defer look.Stop()
	for !g.busy() {
		select {
		case <-look.C:
		case <-arrived:
			return
		}
	}
	giveUp(errBusy)
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
