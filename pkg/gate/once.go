// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// requestID is the header in which the proxy numbers its requests. When the connection over which
// nginx sent one dies before the answer's head has come, it sends the request again elsewhere
// (proxy_next_upstream), with the same number.
const requestID = "X-Taipy-Tunnel-Request"

const (
	onceBody    = 1 << 20          // bytes of a request's body; a larger one is passed on as it comes
	onceAnswer  = 256 << 10        // bytes of an answer that can be given again
	onceKept    = 10 * time.Second // for so long, and so long may nobody wait for an answer under way
	onceMost    = 20000            // answers that are kept
	onceMemory  = 32 << 20         // bytes of all of them
	onceEachMin = 1 << 10          // what an answer counts besides its body
)

var requestIDs = regexp.MustCompile(`^[0-9A-Za-z-]{16,64}$`)

// once has a request that comes twice under one number run once, apart from the connection over
// which it came, and gives every arrival the answer of that run.
type once struct {
	next http.Handler
	run  func(func()) bool // starts a goroutine; false: the gate is closed
	life context.Context
	end  context.CancelFunc

	mu     sync.Mutex
	runs   map[string]*run
	kept   []*run // that have finished, the oldest first
	memory int
	expiry *time.Timer // for the first of kept
}

func newOnce(next http.Handler, start func(func()) bool) *once {
	o := &once{next: next, run: start, runs: map[string]*run{}}
	o.life, o.end = context.WithCancel(context.Background())
	o.expiry = time.AfterFunc(time.Hour, o.expire)
	o.expiry.Stop()
	return o
}

// close cancels what is under way and forgets everything.
func (o *once) close() {
	o.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expiry.Stop()
	o.runs, o.kept, o.memory = map[string]*run{}, nil, 0
}

// ServeHTTP implements http.Handler.
func (o *once) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ids := r.Header[requestID]
	if len(ids) != 1 || !requestIDs.MatchString(ids[0]) || isUpgrade(r) || r.ContentLength < 0 || r.ContentLength > onceBody {
		o.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || int64(len(body)) != r.ContentLength {
		panic(http.ErrAbortHandler) // the visitor's connection died before anything ran
	}
	sum := sha256.Sum256(body)
	what := r.Method + " " + r.RequestURI + " " + string(sum[:])
	r.Body = io.NopCloser(bytes.NewReader(body))
	run := o.find(ids[0], what, r)
	if run == nil {
		o.next.ServeHTTP(w, r) // another request under the same number: not nginx's doing
		return
	}
	reader, whole := run.attach()
	switch {
	case whole:
		defer run.detach(reader)
		run.read(w, r, reader)
	case r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions:
		o.next.ServeHTTP(w, r)
	default:
		refuse(w, r, http.StatusBadGateway, page{Kind: "repeated"})
	}
}

// find returns the run of a number, beginning it if there is none; nil for another request's number.
func (o *once) find(id, what string, r *http.Request) *run {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known := o.runs[id]; known != nil {
		if known.what != what {
			return nil
		}
		return known
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	stop := context.AfterFunc(o.life, cancel)
	n := &run{id: id, what: what, cancel: cancel, header: http.Header{}, readers: map[*reader]struct{}{}, changed: make(chan struct{})}
	if !o.run(func() {
		defer cancel()
		defer stop()
		defer o.finished(n)
		defer n.finish()
		o.next.ServeHTTP(n, r.WithContext(ctx))
	}) {
		stop()
		cancel()
		return nil
	}
	o.runs[id] = n
	return n
}

// finished keeps what run has answered for a while.
func (o *once) finished(n *run) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runs[n.id] != n { // closed
		return
	}
	n.until = time.Now().Add(onceKept)
	o.kept = append(o.kept, n)
	o.memory += n.size()
	for o.memory > onceMemory || len(o.kept) > onceMost {
		o.forget()
	}
	if len(o.kept) == 1 {
		o.expiry.Reset(onceKept)
	}
}

func (o *once) forget() {
	oldest := o.kept[0]
	o.kept[0] = nil
	o.kept = o.kept[1:]
	o.memory -= oldest.size()
	delete(o.runs, oldest.id)
}

// expire forgets what was kept for long enough.
func (o *once) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.kept) > 0 && !o.kept[0].until.After(time.Now()) {
		o.forget()
	}
	if len(o.kept) == 0 {
		o.kept = nil // and the array of it
		return
	}
	o.expiry.Reset(time.Until(o.kept[0].until))
}
