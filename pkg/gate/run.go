// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// run is one request's run in the app, and the http.ResponseWriter of it: what is written is kept
// as long as it is small, and copied from there to whoever waits for it.
type run struct {
	id, what string
	cancel   context.CancelFunc
	until    time.Time // it is kept; set when it has finished
	header   http.Header

	mu       sync.Mutex
	changed  chan struct{} // closed at each change
	code     int
	head     http.Header // header as it was with the code
	body     []byte
	from     int64 // offset of body: more than 0 once its beginning was forgotten
	flushed  int64 // offset up to which a flush was asked for,
	flushes  int   // the so-manieth time
	readers  map[*reader]struct{}
	deserted *time.Timer // since nobody waits
	done     bool
	broken   bool // the answer is not complete
}

// reader is an arrival that waits for the answer; at is how much of it was copied.
type reader struct{ at int64 }

func (n *run) size() int { return len(n.body) + onceEachMin }

func (n *run) announce() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// attach adds a reader; false if the beginning of the answer is gone.
func (n *run) attach() (*reader, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.from > 0 {
		return nil, false
	}
	if n.deserted != nil {
		n.deserted.Stop()
	}
	r := &reader{}
	n.readers[r] = struct{}{}
	return r, true
}

// detach: a run that nobody waits for any more goes on for a while, in case the proxy asks again.
func (n *run) detach(r *reader) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.readers, r)
	if len(n.readers) == 0 && !n.done {
		n.deserted = time.AfterFunc(onceKept, n.cancel)
	}
	n.announce()
}

// Header implements http.ResponseWriter.
func (n *run) Header() http.Header { return n.header }

// WriteHeader implements http.ResponseWriter.
func (n *run) WriteHeader(code int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writeHead(code)
}

func (n *run) writeHead(code int) {
	if n.code == 0 && code >= 200 {
		n.code, n.head = code, n.header.Clone()
		n.announce()
	}
}

// Write implements io.Writer. Of a large answer it forgets what all readers have; it waits for the
// slowest of them.
func (n *run) Write(p []byte) (written int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writeHead(http.StatusOK)
	for written < len(p) {
		if len(n.body) == onceAnswer && !n.trim() {
			changed := n.changed
			n.mu.Unlock()
			<-changed
			n.mu.Lock()
			continue
		}
		m := min(len(p)-written, onceAnswer-len(n.body))
		n.body = append(n.body, p[written:written+m]...)
		written += m
		n.announce()
	}
	return written, nil
}

// trim forgets what every reader has, and reports whether there is room now.
func (n *run) trim() bool {
	least := n.from + int64(len(n.body))
	for r := range n.readers {
		least = min(least, r.at)
	}
	n.body = append(n.body[:0], n.body[least-n.from:]...)
	n.from = least
	return len(n.body) < onceAnswer
}

// Flush implements http.Flusher.
func (n *run) Flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writeHead(http.StatusOK)
	n.flushed = n.from + int64(len(n.body))
	n.flushes++
	n.announce()
}

// finish is called when the handler has returned, or panics, as ReverseProxy does when the app
// breaks its answer off.
func (n *run) finish() {
	p := recover()
	n.mu.Lock()
	if p == nil {
		n.writeHead(http.StatusOK)
	}
	n.done, n.broken = true, p != nil
	if n.deserted != nil {
		n.deserted.Stop()
	}
	n.announce()
	n.mu.Unlock()
	if p != nil && p != http.ErrAbortHandler {
		panic(p)
	}
}

// read copies the answer to w as it comes, until it ends or the visitor has gone.
func (n *run) read(w http.ResponseWriter, r *http.Request, me *reader) {
	started, flushes := false, 0
	for {
		n.mu.Lock()
		code, part := n.code, []byte(nil)
		if end := n.from + int64(len(n.body)); me.at < end {
			part = append(part, n.body[me.at-n.from:]...) // copied: trim moves it
		}
		done, broken, changed := n.done, n.broken, n.changed
		flush := n.flushes > flushes && n.flushed <= me.at+int64(len(part))
		if flush {
			flushes = n.flushes
		}
		n.mu.Unlock()

		if code != 0 && !started {
			started = true
			maps.Copy(w.Header(), n.head)
			w.WriteHeader(code)
		}
		if len(part) > 0 {
			if _, err := w.Write(part); err != nil {
				return
			}
			n.mu.Lock()
			me.at += int64(len(part))
			n.announce()
			n.mu.Unlock()
		}
		if flush && started {
			_ = http.NewResponseController(w).Flush()
		}
		switch {
		case len(part) > 0:
			continue // there may be more
		case done && broken:
			panic(http.ErrAbortHandler)
		case done:
			n.trailers(w)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// trailers sets what the handler has set after the head.
func (n *run) trailers(w http.ResponseWriter) {
	for k, v := range n.header {
		if _, before := n.head[k]; !before || strings.HasPrefix(k, http.TrailerPrefix) {
			w.Header()[k] = v
		}
	}
}
