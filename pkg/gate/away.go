// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"net/http"
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

var errBusy = errors.New("the app's process is busy")

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

// patient is the way to the app: an answer is waited for as long as it takes, but for a page while
// the whole process stands still, when nobody can tell how long that will be.
func (g *Gate) patient() http.RoundTripper {
	if g.cfg.Busy == nil {
		return g.transport
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !isPage(r) {
			return g.transport.RoundTrip(r)
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		arrived := make(chan struct{})
		g.tasks.Go(func() {
			look := time.NewTicker(busyLook)
			defer look.Stop()
			for !g.busy() {
				select {
				case <-look.C:
				case <-arrived:
					return
				}
			}
			cancel(errBusy)
		})
		resp, err := g.transport.RoundTrip(r.WithContext(ctx))
		close(arrived)
		if context.Cause(ctx) == errBusy {
			if err == nil {
				_ = resp.Body.Close()
			}
			return nil, errBusy
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
