// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// run is a request that next serves, and the answer.
type run struct {
	owner *once
	id    string
	print [sha256.Size]byte
	safe  bool // it may run again (RFC 9110, section 9.2.1)

	size  int // this and the next are under owner.mu
	until int // of owner's ticks

	mu      sync.Mutex
	cancel  context.CancelFunc
	total   int64     // bytes that were written; of more than onceAnswer the first are gone
	told    int64     // of these, what the readers were told of
	passed  time.Time // when a reader first passed on the head
	readers []*arrival
	room    sync.Cond   // a reader has got on, or has gone
	alone   *time.Timer // ends a run that nobody reads; nil: somebody does
	state
}

// state is that of an answer.
type state struct {
	code    int // 0: no head yet
	head    http.Header
	trailer http.Header // with the head, if it has changed since; net/http tells which are trailers
	body    []byte      // a ring, as soon as it has grown to onceAnswer; of a reader's view, what it reads next
	flushed int64       // bytes that must not be held back, the head counted as one
	end     ending
}

// ending is how a run ended.
type ending int

const (
	running ending = iota
	endWhole
	endBroken  // by the app, or a defect
	endDropped // by us: nobody reads it, or the gate closes
)

// passedLong is how long after it was passed on a head has arrived or the link is known to be dead (sshlink:
// 1.5 s, 6 s through another machine). A proxy that has the head of an answer asks no other link.
const passedLong = 10 * time.Second

// serve has next serve r. A panic goes on to be reported, unless a handler breaks off by it.
func (u *run) serve(r *http.Request) {
	how, w := endBroken, &recorder{u, http.Header{}}
	defer func() {
		u.finish(how)
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	u.owner.next.ServeHTTP(w, r)
	w.seal()
	how = endWhole
}

// finish ends a run that has not ended. What is written afterwards is lost.
func (u *run) finish(how ending) {
	u.mu.Lock()
	if u.end != running {
		u.mu.Unlock()
		return
	}
	cancel := u.cancel
	u.end, u.cancel = how, nil // its context would keep the connection
	if u.alone != nil {
		u.alone.Stop()
	}
	u.tell()
	u.room.Broadcast()
	kept := u.code != 0 && u.total <= onceAnswer
	if u.safe {
		kept = how == endBroken || kept && how == endWhole // what we ended may run again
	}
	size := onceEntry + cap(u.body) + headSize(u.head)
	u.mu.Unlock()
	cancel()
	u.owner.ended(u, kept, size)
}

// join returns a reader of the whole answer. If there is none, since it was too large or has ended
// before it began, it returns the page to answer with, "" if r may run by itself. What the app had
// answered before it broke off is given, and broken off, again: nothing is asked twice because the app
// failed.
func (u *run) join() (a *arrival, refusal string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.total > onceAnswer || u.end != running && u.code == 0 {
		switch {
		case u.end == endBroken:
			return nil, pageBroken
		case u.safe:
			return nil, ""
		}
		return nil, pageRepeated
	}
	if u.alone != nil {
		u.alone.Stop()
		u.alone = nil
	}
	a = &arrival{run: u, wake: make(chan struct{}, 1)}
	u.readers = append(u.readers, a)
	return a, ""
}

// tell wakes the readers. u.mu is held.
func (u *run) tell() {
	u.told = u.total
	for _, a := range u.readers {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// arrival is a request that waits for a run's answer.
type arrival struct {
	run  *run
	wake chan struct{}
	at   int64 // its next byte
}

// look notes that n bytes were read. The body that it returns is overwritten only afterwards.
func (a *arrival) look(n int) state {
	u := a.run
	u.mu.Lock()
	defer u.mu.Unlock()
	if n > 0 {
		a.at += int64(n)
		u.room.Broadcast()
	}
	from := int(a.at % onceAnswer)
	s := u.state
	s.body = u.body[from:min(from+int(min(u.total-a.at, copySize)), onceAnswer)]
	return s
}

// answer passes the answer on as it comes. It panics, for net/http to cut the connection, if that
// does not get all of it.
func (a *arrival) answer(w http.ResponseWriter, gone <-chan struct{}) {
	defer a.leave()
	flush := http.NewResponseController(w).Flush
	for n, flushed, begun := 0, int64(0), false; ; {
		s := a.look(n)
		if s.code != 0 && !begun {
			begun = true
			give(w, s.head)
			w.WriteHeader(s.code)
			a.pass()
		}
		if n = len(s.body); n > 0 {
			if _, err := w.Write(s.body); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if flushed < s.flushed && s.flushed <= a.at+int64(n)+1 {
			flushed = s.flushed
			_ = flush()
		}
		switch {
		case n > 0:
			continue
		case s.end == endWhole:
			give(w, s.trailer)
			return
		case s.end != running:
			if begun {
				_ = flush() // a proxy that has the head does not ask the next link, in vain
			}
			panic(http.ErrAbortHandler)
		}
		select {
		case <-a.wake:
		case <-gone:
			panic(http.ErrAbortHandler)
		}
	}
}

// give sets header fields that several are given, so that nobody can append to another's.
func give(w http.ResponseWriter, h http.Header) {
	for name, values := range h {
		w.Header()[name] = slices.Clip(values)
	}
}

// pass notes that the head was passed on.
func (a *arrival) pass() {
	a.run.mu.Lock()
	defer a.run.mu.Unlock()
	if a.run.passed.IsZero() {
		a.run.passed = time.Now()
	}
}

// leave ends reading. The run goes on alone for as long as another link may bring the next reader.
func (a *arrival) leave() {
	u := a.run
	u.mu.Lock()
	defer u.mu.Unlock()
	u.readers = slices.DeleteFunc(u.readers, func(b *arrival) bool { return a == b })
	u.room.Broadcast()
	lost := u.total > onceAnswer
	if len(u.readers) == 0 && lost {
		u.body = nil
	}
	if len(u.readers) > 0 || u.end != running {
		return
	}
	wait := begun.Kept
	switch {
	case lost && u.safe:
		wait = 0 // it will run again
	case !u.passed.IsZero() && time.Since(u.passed) >= passedLong:
		wait = passedLong // it was the visitor who left
	}
	u.alone = time.AfterFunc(wait, func() { u.finish(endDropped) })
}

// recorder is the http.ResponseWriter of a run.
type recorder struct {
	*run
	header http.Header
}

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. Informational answers, which only save time, are lost.
func (w *recorder) WriteHeader(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code >= 200 || code == http.StatusSwitchingProtocols {
		w.begin(code)
	}
}

// begin takes the head down, if it has not been yet. mu is held.
func (w *recorder) begin(code int) {
	if w.code == 0 {
		w.code, w.head = code, w.header.Clone()
	}
}

// Write implements io.Writer. It waits while the slowest reader is onceAnswer behind.
func (w *recorder) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(http.StatusOK)
	if w.code == http.StatusNoContent || w.code == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	todo := b
	for len(todo) > 0 && w.end == running {
		if len(w.readers) == 0 && w.total+int64(len(todo)) > onceAnswer {
			w.total, w.body = w.total+int64(len(todo)), nil // nobody can read it from its beginning
			if w.safe && w.alone != nil {
				w.alone.Reset(0) // it will run again
			}
			return len(b), nil
		}
		ahead := int64(0)
		for _, a := range w.readers {
			ahead = max(ahead, w.total-a.at)
		}
		if ahead == onceAnswer {
			if w.told < w.total {
				w.tell()
			}
			w.room.Wait()
			continue
		}
		at := int(w.total % onceAnswer)
		n := min(len(todo), onceAnswer-int(ahead), onceAnswer-at)
		if len(w.body) < onceAnswer {
			if all := len(w.body) + n; all > cap(w.body) { // append would go beyond what is needed
				w.body = append(make([]byte, 0, min(max(all, 2*cap(w.body)), onceAnswer)), w.body...)
			}
			w.body = append(w.body, todo[:n]...)
		} else {
			copy(w.body[at:], todo[:n])
		}
		w.total += int64(n)
		todo = todo[n:]
	}
	if w.end != running {
		return len(b) - len(todo), io.ErrClosedPipe
	}
	if w.total-w.told >= onceHeld {
		w.tell()
	}
	return len(b), nil
}

// Flush implements http.Flusher.
func (w *recorder) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(http.StatusOK)
	w.flushed = w.total + 1
	w.tell()
}

// seal notes what the head has become: it has the trailers.
func (w *recorder) seal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(http.StatusOK)
	if !maps.EqualFunc(w.head, w.header, slices.Equal) {
		w.trailer = w.header
	}
}
