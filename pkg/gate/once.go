// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// requestID is the header by which the proxy names a request. One that it sends again, over another
// link since the first broke before an answer had come, has the same (nginx: $request_id).
const requestID = "X-Taipy-Tunnel-Request"

const (
	onceAsked  = 1 << 20   // bytes of a request's body; a larger one is passed on as it comes
	onceAnswer = 256 << 10 // bytes of an answer that are kept, and how far it gets ahead of its slowest reader
	onceBytes  = 32 << 20  // of all answers that are kept after their end
	onceMost   = 20000     // of these
	onceEntry  = 1 << 10   // bytes of one besides body and head
	onceHeld   = 4 << 10   // bytes that wait for more, unless flushed; net/http holds back as many
)

// once has next run once for each id, and gives its answer to every request that comes with that
// id: a proxy may then repeat what could have run already. Of 800 POSTs over links that broke, 11
// ran twice otherwise.
//
// So a run belongs to no connection. It writes into a buffer, from which each request that waits
// for the answer reads at its own pace.
//
// Answers are kept as far as there is room. An unsafe request whose answer has gone, or was too large to be
// kept, is still known by its id, and refused when it comes again.
type once struct {
	next  http.Handler
	start func(func()) bool
	clock func(context.Context) (ahead time.Duration, known bool) // Config.Clock
	now   func() time.Time                                        // Config.Now
	look  func() bool                                             // Config.Look
	vain  atomic.Bool                                             // the clock was waited for in vain, once

	mu           sync.Mutex
	closed       bool
	runs         map[string]*run // by id
	safe, unsafe queue           // of these, what ended
	bytes        int             // of what ended
	begun        *begun.Memory   // of unsafe requests
	ticks        int
	timer        *time.Timer // of the next tick; nil if there is nothing to forget
}

// queue are runs in the order of their ends.
type queue []*run

func (q *queue) pop() *run {
	u := (*q)[0]
	(*q)[0], *q = nil, (*q)[1:]
	return u
}

// newOnce returns a once. start runs a function in a goroutine of its own, or reports false.
func newOnce(next http.Handler, start func(func()) bool, now func() time.Time) *once {
	if now == nil {
		now = func() time.Time { return time.Now().Round(0) }
	}
	return &once{next: next, start: start, now: now, runs: map[string]*run{}, begun: begun.NewMemory(now(), later)}
}

// close cancels what is under way and forgets the rest.
func (o *once) close() {
	o.mu.Lock()
	runs := o.runs
	o.closed, o.runs, o.safe, o.unsafe, o.bytes = true, nil, nil, nil, 0
	if o.timer != nil {
		o.timer.Stop()
	}
	o.mu.Unlock()
	for _, u := range runs {
		u.finish(endDropped)
	}
}

// ServeHTTP implements http.Handler.
func (o *once) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ids := r.Header[requestID]
	known := len(ids) == 1 && isRequestID(ids[0]) && !isUpgrade(r)
	m := marksOf(r)
	switch {
	case !known:
		o.next.ServeHTTP(w, r)
	case r.ContentLength < 0 || r.ContentLength > onceAsked || !bodies.take(r.ContentLength):
		o.stream(w, r, ids[0], o.arrival(r, ids[0], m))
	default:
		if body, whole := asked(r); whole { // it may have taken long, or this process stood still meanwhile
			o.serve(w, r, ids[0], body, o.arrival(r, ids[0], m))
			return
		}
		panic(http.ErrAbortHandler) // the connection has died, so nobody is there to answer
	}
}

// serve answers from a run of r, the first or that of an earlier request.
func (o *once) serve(w http.ResponseWriter, r *http.Request, id string, body []byte, came begun.Arrival) {
	u, first, refusal := o.find(id, r, body, came)
	if first == nil {
		defer func() { _ = r.Body.Close() }()
	}
	switch {
	case refusal != "":
		instead(w, r, refusal)
		return
	case u == nil:
		o.next.ServeHTTP(w, r)
		return
	}
	a, refusal := u.join()
	if first != nil && !o.start(func() { defer func() { _ = first.Body.Close() }(); u.serve(first) }) {
		_ = first.Body.Close()
		u.finish(endDropped)
	}
	switch {
	case a != nil:
		a.answer(w, r.Context().Done())
	case refusal != "":
		instead(w, r, refusal)
	default:
		o.next.ServeHTTP(w, r)
	}
}

// stream passes on a request whose body is not held: it is too large, or there is no room for it. If it is unsafe its id is remembered, so that
// a repetition is refused.
func (o *once) stream(w http.ResponseWriter, r *http.Request, id string, came begun.Arrival) {
	if !isSafe(r) {
		o.mu.Lock()
		refusal := o.enter(id, came)
		o.mu.Unlock()
		if refusal != "" {
			instead(w, r, refusal)
			return
		}
		defer o.begun.End(id)
	}
	o.next.ServeHTTP(w, r)
}

func isRequestID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return len(s) >= 16 && len(s) <= 64
}

// isSafe reports whether a request may run again (RFC 9110, section 9.2.1). nginx's list is the same.
func isSafe(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
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

// find returns the run of an id and, if it is a new one, the request that it has to serve; or the page to
// answer with; or nothing, if the request is to run without being remembered.
//
// So does a safe one that differs from what came with the id before. An unsafe one is refused then: no mistake
// in telling requests apart may have one run twice.
func (o *once) find(id string, r *http.Request, body []byte, came begun.Arrival) (u *run, first *http.Request, refusal string) {
	print, safe := fingerprint(r, body), isSafe(r)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch u = o.runs[id]; {
	case o.closed, u != nil && u.print != print && safe:
		return nil, nil, ""
	case u != nil && u.print != print:
		return nil, nil, pageRepeated
	case u != nil:
		return u, nil, ""
	}
	if !safe {
		if refusal = o.enter(id, came); refusal != "" {
			return nil, nil, refusal
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	u = &run{owner: o, id: id, print: print, cancel: cancel, safe: safe}
	u.room.L = &u.mu
	o.runs[id] = u
	return u, r.WithContext(ctx), ""
}

// enter notes the id of an unsafe request, or returns the page to answer with. o.mu is held.
func (o *once) enter(id string, came begun.Arrival) (refusal string) {
	if o.closed {
		return ""
	}
	return map[begun.Verdict]string{begun.Known: pageRepeated, begun.Full: pageFull}[o.begun.Enter(id, came)]
}

// instead answers in the place of a run.
func instead(w http.ResponseWriter, r *http.Request, kind string) {
	status := http.StatusBadGateway
	if kind == pageFull {
		w.Header().Set("Retry-After", "10") // a tick
		status = http.StatusServiceUnavailable
	}
	refuse(w, r, status, page{Kind: kind})
}

// ended takes note of a run that ended. Its answer is to be found for a while if it is kept.
func (o *once) ended(u *run, kept bool, size int) {
	if !u.safe {
		o.begun.End(u.id)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if !kept {
		delete(o.runs, u.id)
		return
	}
	u.size, u.until = size, o.ticks+begun.Ticks
	o.bytes += size
	if u.safe {
		o.safe = append(o.safe, u)
	} else {
		o.unsafe = append(o.unsafe, u)
	}
	o.trim()
	o.tickOn()
}

// trim forgets answers that are too old, and the oldest as far as there are too many: those of safe
// requests first, which then run again.
func (o *once) trim() {
	for _, q := range [...]*queue{&o.safe, &o.unsafe} {
		for len(*q) > 0 && (len(o.safe)+len(o.unsafe) > onceMost || o.bytes > onceBytes || (*q)[0].until <= o.ticks) {
			u := q.pop()
			o.bytes -= u.size
			delete(o.runs, u.id)
		}
	}
}

// tickOn has ticks come while there is something to forget. o.mu is held.
func (o *once) tickOn() {
	if o.timer == nil {
		o.timer = time.AfterFunc(begun.Tick, o.tick)
	}
}

func (o *once) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.ticks++
	o.trim()
	if len(o.safe)+len(o.unsafe) > 0 {
		o.timer.Reset(begun.Tick)
		return
	}
	o.timer, o.safe, o.unsafe = nil, nil, nil
}
