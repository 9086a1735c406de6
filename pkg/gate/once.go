// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"time"
)

// requestID is the header by which the proxy names a request. One that it sends again, over another
// link since the first broke before an answer had come, has the same (nginx: $request_id).
const requestID = "X-Taipy-Tunnel-Request"

const (
	onceAsked  = 1 << 20          // bytes of a request's body; a larger one is passed on as it comes
	onceAnswer = 256 << 10        // bytes of an answer that are kept, and how far it gets ahead of its slowest reader
	onceKept   = 10 * time.Second // how long an answer is kept after its end, and goes on without readers before it
	onceBytes  = 32 << 20         // of all answers that are kept after their end
	onceMost   = 20000            // of these
	onceEntry  = 1 << 10          // bytes of one besides body and head
	onceHeld   = 4 << 10          // bytes that wait for more, unless flushed; net/http holds back as many
)

// once has next run once for each id, and gives its answer to every request that comes with that
// id: a proxy may then repeat what could have run already. Of 800 POSTs over links that broke, 11
// ran twice otherwise.
//
// So a run belongs to no connection. It writes into a buffer, from which each request that waits
// for the answer reads at its own pace.
type once struct {
	next  http.Handler
	start func(func()) bool

	mu     sync.Mutex
	closed bool
	runs   map[string]*run // by id
	ended  []*run          // of these, in the order of their ends
	bytes  int             // of what ended
	timer  *time.Timer     // comes when all that ended is to be forgotten; nil if there is nothing
}

// newOnce returns a once. start runs a function in a goroutine of its own, or reports false.
func newOnce(next http.Handler, start func(func()) bool) *once {
	return &once{next: next, start: start, runs: map[string]*run{}}
}

// close cancels what is under way and forgets the rest.
func (o *once) close() {
	o.mu.Lock()
	runs := o.runs
	o.closed, o.runs, o.ended, o.bytes = true, nil, nil, 0
	if o.timer != nil {
		o.timer.Stop()
	}
	o.mu.Unlock()
	for _, u := range runs {
		u.finish(false)
	}
}

// ServeHTTP implements http.Handler.
func (o *once) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ids := r.Header[requestID]
	delete(r.Header, requestID)
	if len(ids) != 1 || !isRequestID(ids[0]) || isUpgrade(r) || r.ContentLength < 0 || r.ContentLength > onceAsked {
		o.next.ServeHTTP(w, r)
		return
	}
	body := make([]byte, r.ContentLength)
	if len(body) > 0 {
		if _, err := io.ReadFull(r.Body, body); err != nil {
			panic(http.ErrAbortHandler) // the connection has died, so nobody is there to answer
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	u, first := o.find(ids[0], r, body)
	if u == nil {
		o.next.ServeHTTP(w, r)
		return
	}
	a := u.join()
	if first != nil && !o.start(func() { u.serve(first) }) {
		u.finish(false)
	}
	switch {
	case a != nil:
		a.answer(w, r.Context().Done())
	case u.safe:
		o.next.ServeHTTP(w, r)
	default:
		refuse(w, r, http.StatusBadGateway, page{Kind: "repeated"})
	}
}

func isRequestID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return len(s) >= 16 && len(s) <= 64
}

// fingerprint tells requests apart that have the same id by forgery or by accident. Credentials are
// part of it, lest one be given an answer that was meant for another; a repetition has the same.
func fingerprint(r *http.Request, body []byte) [sha256.Size]byte {
	b := make([]byte, 0, 1<<10)
	for _, part := range [...][]string{{r.Method, r.RequestURI, r.Host}, r.Header["Authorization"], r.Header["Cookie"]} {
		for _, s := range part {
			b = append(append(b, s...), '\n')
		}
		b = append(b, '\n')
	}
	sum := sha256.Sum256(body)
	return sha256.Sum256(append(b, sum[:]...))
}

// find returns the run of an id and, if it is a new one, what that has to serve. It returns no run
// if r differs from what came with the id before.
func (o *once) find(id string, r *http.Request, body []byte) (u *run, first *http.Request) {
	print := fingerprint(r, body)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trim(time.Now())
	switch u = o.runs[id]; {
	case o.closed, u != nil && u.print != print:
		return nil, nil
	case u != nil:
		return u, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	u = &run{owner: o, id: id, print: print, cancel: cancel,
		safe: r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions}
	u.room.L = &u.mu
	o.runs[id] = u
	return u, r.WithContext(ctx)
}

// keep has a run that ended be found for a while.
func (o *once) keep(u *run, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	now := time.Now()
	u.size, u.until = size, now.Add(onceKept)
	o.ended = append(o.ended, u)
	o.bytes += size
	o.trim(now)
	if o.timer == nil {
		o.timer = time.AfterFunc(onceKept, o.expire)
	}
}

func (o *once) forget(u *run) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.runs, u.id)
}

// trim forgets the oldest of what ended, as far as it is too old or there is too much.
func (o *once) trim(now time.Time) {
	for len(o.ended) > 0 && (len(o.ended) > onceMost || o.bytes > onceBytes || !now.Before(o.ended[0].until)) {
		u := o.ended[0]
		o.ended[0], o.ended = nil, o.ended[1:]
		o.bytes -= u.size
		delete(o.runs, u.id)
	}
}

// expire is for when nothing comes that would trim. It waits for the last, lest it come for each.
func (o *once) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.trim(now)
	switch n := len(o.ended); {
	case n > 0:
		o.timer.Reset(o.ended[n-1].until.Sub(now))
	default:
		o.timer, o.ended = nil, nil
	}
}
