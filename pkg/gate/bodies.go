// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// bodiesMost is how many bytes of requests' bodies the process holds, each until its app has taken it,
// which most do at once. A request for whose body there is no room is passed on as it comes.
const bodiesMost = 8 << 20

var bodies budget

// budget counts bytes.
type budget struct{ used atomic.Int64 }

// take reports whether there was room for n.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= bodiesMost {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// held is a body in memory, until it was read to its end or is closed. ReverseProxy closes it only when
// it has the whole answer.
type held struct {
	left  bytes.Reader
	size  int64
	letGo sync.Once
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	n, err := h.left.Read(p)
	if h.left.Len() == 0 {
		_ = h.Close()
	}
	return n, err
}

// Close implements io.Closer.
func (h *held) Close() error {
	h.letGo.Do(func() {
		h.left.Reset(nil)
		bodies.give(h.size)
	})
	return nil
}

// asked reads the body of a request, for which room was taken, so that nothing runs of one that does
// not come whole.
func asked(r *http.Request) (body []byte, whole bool) {
	if r.ContentLength == 0 {
		return nil, true
	}
	body = make([]byte, r.ContentLength)
	h := &held{size: r.ContentLength}
	h.left.Reset(body)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		_ = h.Close()
		return nil, false
	}
	r.Body = h
	return body, true
}
