// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"io"
	"net/http"
	"time"
)

const (
	roomless   = 64 << 10        // bytes of a request's body for which there is always room
	leftMost   = 4 << 20         // bytes that are read of what was refused, so that the proxy sees the answer and no reset
	leftFor    = 2 * time.Second // and for how long
	crowdAgain = "3"             // seconds until it may be tried again
)

// roomy is a connection that bounds, together with others, what they hold unread. Room finds room for an
// upload until end is called. It waits while that can be hoped for, until stop is closed; end is nil
// if there is none.
type roomy interface {
	Room(stop <-chan struct{}) (end func())
}

// hasRoom reports whether r's body may come, and has it take its room until it was read or end is
// called. There is always room for a small one.
func hasRoom(r *http.Request) (end func(), is bool) {
	c, bounded := r.Context().Value(connKey{}).(roomy)
	if !bounded || !isLarge(r) {
		return func() {}, true
	}
	if end = c.Room(r.Context().Done()); end == nil {
		return nil, false
	}
	r.Body = upload{r.Body, end}
	return end, true
}

// upload is a body that has room until it was read.
type upload struct {
	io.ReadCloser
	end func()
}

// Read implements io.Reader.
func (u upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err != nil {
		u.end()
	}
	return n, err
}

// crowded answers a request whose body there is no room for.
func crowded(x *exchange, r *http.Request) {
	x.Header().Set("Retry-After", crowdAgain)
	refuse(x, r, http.StatusServiceUnavailable, page{Kind: pageCrowded})
	passBy(x, r)
}

// isLarge reports whether a request's body is more than there is always room for.
func isLarge(r *http.Request) bool { return r.ContentLength < 0 || r.ContentLength > roomless }

// passBy lets the body of a request go by that was refused, if it is large: a proxy that finds the connection
// closed while it writes may not read the answer, and net/http would hold the connection for half a second before it
// closes it.
func passBy(w http.ResponseWriter, r *http.Request) {
	if !isLarge(r) {
		return
	}
	control := http.NewResponseController(w)
	_ = control.Flush()
	_ = control.SetReadDeadline(time.Now().Add(leftFor))
	if _, err := io.CopyN(io.Discard, r.Body, leftMost); err != io.EOF {
		panic(http.ErrAbortHandler) // the proxy has the answer
	}
}
