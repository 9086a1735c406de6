// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// goodbye is how long a websocket has after it was told that its tunnel ends. Browsers and servers answer at
// once, and close.
const goodbye = 2 * time.Second

// upgrade passes on a connection that becomes something else (RFC 9110, section 7.8), as long as what
// admitted it lasts.
func (g *Gate) upgrade(x *exchange, r *http.Request, t *trip) {
	ctx, end := context.WithCancel(r.Context())
	defer end()
	defer t.outlasts(end)()
	x.passed, x.life = true, ctx
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		x.socket = &socket{toApp: half{masked: true}}
		defer context.AfterFunc(g.parting.Load(), func() {
			time.AfterFunc(goodbye, end)
			for _, h := range []*half{&x.socket.toVisitor, &x.socket.toApp} { // before one is told, and answers
				h.leaving.Store(true)
			}
			g.tasks.Go(x.socket.toApp.leave) // each by itself: one may be stuck
			g.tasks.Go(x.socket.toVisitor.leave)
		})()
	}
	g.upgrades.ServeHTTP(x, r.WithContext(ctx))
}

// socket is a websocket. The gate copies its bytes, and knows no more of them than where a frame ends: there it
// can say goodbye, to a fragmented or compressed message as to any (RFC 6455, section 5.4).
type socket struct{ toVisitor, toApp half }

// half is one direction of a websocket.
type half struct {
	masked  bool        // what goes to a server is (RFC 6455, section 5.1)
	leaving atomic.Bool // it is to say goodbye

	mu     sync.Mutex // held while something is written
	to     io.Writer  // nil: the answer's head has not gone yet
	frames frames
	left   bool // the goodbye has gone, and nothing follows it
}

// start begins to copy to w, through what it returns.
func (h *half) start(w io.Writer) io.Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to = w
	h.bye()
	return h
}

// leave says goodbye where the frame ends that is under way.
func (h *half) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bye()
}

// bye says it now, if it is time. mu is held.
func (h *half) bye() {
	if !h.leaving.Load() || h.left || h.to == nil || !h.frames.between() {
		return
	}
	h.left = true
	if !h.frames.closed {
		_, _ = h.to.Write(goingAway(h.masked))
	}
}

// Write implements io.Writer.
func (h *half) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bye() // what comes next may be the other end's answer to it
	for done := 0; done < len(b) && !h.left; {
		n := h.frames.pass(b[done:])
		for !h.leaving.Load() && done+n < len(b) {
			n += h.frames.pass(b[done+n:])
		}
		if _, err := h.to.Write(b[done : done+n]); err != nil {
			return done, err
		}
		done += n
		h.bye()
	}
	return len(b), nil
}

// goingAway is a close frame with the status 1001 (RFC 6455, sections 5.5.1 and 7.4.1).
func goingAway(masked bool) []byte {
	status := []byte{1001 >> 8, 1001 & 0xff}
	if !masked {
		return append([]byte{0x88, 2}, status...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0x88, 0x80 | 2}, rand.Uint32())
	return append(frame, status[0]^frame[2], status[1]^frame[3])
}

// frames follows the frames of one direction (RFC 6455, section 5.2).
type frames struct {
	head   [14]byte
	have   int    // bytes of head
	left   uint64 // bytes of the payload that are to come, once the head is whole
	closed bool   // a close frame has passed, after which there are no others
}

// between reports whether no frame is under way.
func (f *frames) between() bool { return f.have == 0 }

// pass follows b to the end of a frame, or of b, and returns how far that is.
func (f *frames) pass(b []byte) (n int) {
	for f.have < f.headSize() {
		if n == len(b) {
			return n
		}
		f.head[f.have] = b[n]
		f.have++
		n++
		if f.have == f.headSize() {
			f.left = f.size()
		}
	}
	payload := min(f.left, uint64(len(b)-n))
	f.left -= payload
	if f.left == 0 {
		f.closed = f.closed || f.head[0]&0xf == 8
		f.have = 0
	}
	return n + int(payload)
}

// headSize is how long the head is, as far as that is known.
func (f *frames) headSize() int {
	size := 2
	if f.have < size {
		return size
	}
	switch f.head[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&0x80 != 0 {
		size += 4
	}
	return size
}

// size is that of the payload.
func (f *frames) size() uint64 {
	switch n := f.head[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}
