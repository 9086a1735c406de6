// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"strconv"
	"time"
)

// listenerLook is how often the listener is looked at while requests wait for the first byte of an
// answer: a server that was stopped inside a living process may keep its connections open and never
// answer, and no event says so.
const listenerLook = 250 * time.Millisecond

// server is what listens where the app is, between two changes of that. A request belongs to the one
// that it is sent to.
type server struct {
	addr     string
	listener uint64          // see Target; 0: it cannot be seen
	host     string          // of URLs, by which the transport finds the connections that were made to this server
	gone     context.Context // ended by the next server
	end      context.CancelFunc
}

// look returns the server that the target leads to now, and whether connections to it may be kept. If
// it is another one than before, the connections to that are dropped, and requests that wait there are
// given up.
func (g *Gate) look() (now *server, keep bool) {
	now = g.present.Load()
	if addr, listener, known := g.read(now); now.is(addr, listener) {
		return now, known && listener != 0
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	now = g.present.Load() // and read again, lest a look that was overtaken put an older server back
	addr, listener, known := g.read(now)
	if !now.is(addr, listener) {
		now = g.change(now, addr, listener)
	}
	return now, known && listener != 0
}

func (s *server) is(addr string, listener uint64) bool {
	return s.addr == addr && s.listener == listener
}

// read asks the target. A listener that cannot be told is taken to be the one before.
func (g *Gate) read(before *server) (addr string, listener uint64, known bool) {
	addr = g.cfg.Target.Addr()
	if listener, known = g.cfg.Target.Listener(); !known && addr == before.addr {
		listener = before.listener
	}
	return addr, listener, known
}

// change begins the next server's time. What waits at one that could not be seen is left alone.
func (g *Gate) change(before *server, addr string, listener uint64) *server {
	g.servers++
	next := &server{addr: addr, listener: listener, host: "app-" + strconv.Itoa(g.servers)}
	next.gone, next.end = context.WithCancel(context.Background())
	g.present.Store(next)
	g.keeping.CloseIdleConnections()
	if addr != before.addr || before.listener != 0 {
		before.end()
		if g.cfg.Another != nil && before.addr != "" {
			g.cfg.Another()
		}
	}
	return next
}

// Moved has the gate look at once where the app is. Requests that may be repeated, and wait for an
// app that is not there any more, are asked again where it is now.
func (g *Gate) Moved() { g.look() }

// await has the server looked at while requests wait. The caller takes one from g.waiting when the
// answer has come.
func (g *Gate) await() {
	g.waiting.Add(1)
	if g.looking.CompareAndSwap(false, true) {
		time.AfterFunc(listenerLook, func() { g.tasks.Go(g.lookAgain) })
	}
}

func (g *Gate) lookAgain() {
	g.looking.Store(false)
	if g.waiting.Load() > 0 {
		g.look()
		g.await()
		g.waiting.Add(-1)
	}
}
