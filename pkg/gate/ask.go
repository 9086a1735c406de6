// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

const busyLook = time.Second

var (
	errBusy  = errors.New("the app's process is busy")
	errMoved = errors.New("the app is somewhere else now")
	errEnded = errors.New("the app's server ended before it answered")
)

// ask sends a request to the app. An answer is waited for as long as it takes, but for a page while
// the whole process stands still, when nobody can tell how long that will be. If the server ends
// before the first byte of its answer, the next one is asked, unless the request may have run then.
// From the second attempt on nothing is kept: a process that lacks descriptors can look before it has
// made a connection, and not afterwards.
func (g *Gate) ask(r *http.Request) (*http.Response, error) {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if r.Body != nil && r.Body != http.NoBody {
		safe = false
		r.Body = io.NopCloser(r.Body) // the transport closes what it did not send, too, and it is sent later
	}
	if safe {
		r.Body, r.TransferEncoding = neverAgain{}, identityEncoding
	} else {
		unrepeatable(r.Header)
	}
	for first := true; ; first = false {
		resp, err := g.send(r, safe, first)
		if !errors.Is(err, errMoved) || r.Context().Err() != nil {
			return resp, err
		}
	}
}

// neverAgain is the empty body of a request that the transport does not send again by itself: it has no means to
// get another one, and finds it empty. It would repeat what a kept connection lost, whether the app ended on it or had
// closed an idle connection a moment before.
type neverAgain struct{}

func (neverAgain) Read([]byte) (int, error) { return 0, io.EOF }
func (neverAgain) Close() error             { return nil }

// WriteTo implements io.WriterTo: io.Copy needs no buffer.
func (neverAgain) WriteTo(io.Writer) (int64, error) { return 0, nil }

// identityEncoding tells the transport that a body comes as it is. Otherwise it would read the first byte of each
// request's in a goroutine, to find out whether there is one. Nothing of this is sent.
var identityEncoding = []string{"identity"}

// lost reports whether a request that failed on a connection was not seen by the app: nothing was written, or the app
// had closed its end before.
func lost(conn net.Conn, wrote bool) bool {
	c, tells := conn.(interface{ Unread() bool })
	return !wrote || tells && c.Unread()
}

// unrepeatable hides from the transport what has it send a request without a body again on a new
// connection when a kept one broke: an idempotency key, as it spells that. The app is told it all the same.
func unrepeatable(h http.Header) {
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if key, has := h[name]; has {
			delete(h, name)
			h[strings.ToLower(name)] = key
		}
	}
}

// send asks the server that is there now, if keep is set over a connection that is kept. errMoved:
// another one is there, and may be asked.
func (g *Gate) send(r *http.Request, safe, keep bool) (*http.Response, error) {
	transport := g.single
	s, known := g.look()
	if known && keep {
		transport = g.keeping
	}
	ctx, cancel := context.WithCancel(r.Context())
	var verdict atomic.Pointer[error] // the first one counts: an answer that has begun is not cut off
	giveUp := func(why error) {
		if verdict.CompareAndSwap(nil, &why) {
			cancel()
		}
	}
	var answers error
	var on atomic.Pointer[httptrace.GotConnInfo]
	var wrote atomic.Bool
	out := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(got httptrace.GotConnInfo) { on.Store(&got) },
		WroteHeaders:         func() { wrote.Store(true) },
		GotFirstResponseByte: func() { verdict.CompareAndSwap(nil, &answers) },
	}))
	url := *r.URL // an earlier attempt may still read it
	url.Host, out.URL = s.host, &url
	ended := context.AfterFunc(s.gone, func() { giveUp(errMoved) })
	arrived := make(chan struct{})
	if g.cfg.Busy != nil && safe && isPage(r) {
		g.tasks.Go(func() { g.watch(arrived, giveUp) })
	}
	g.await()
	resp, err := transport.RoundTrip(out)
	g.waiting.Add(-1)
	ended()
	close(arrived)
	used := on.Load()
	if err != nil && safe && used != nil && used.Reused && lost(used.Conn, wrote.Load()) {
		verdict.CompareAndSwap(nil, &errMoved)
	}
	if verdict.CompareAndSwap(nil, &answers); *verdict.Load() == nil || r.Context().Err() != nil {
		return resp, err
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	why := *verdict.Load()
	if why == errMoved && used != nil && !safe {
		why = errEnded
	}
	return nil, why
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
