// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrNoTarget is returned by Dial while there is no app.
var ErrNoTarget = errors.New("no app yet")

const (
	dialTimeout = 2 * time.Second // one attempt; the app is on this machine
	patience    = time.Second     // how long a refused connection waits for an app that is being restarted
	redial      = patience / 10   // how often it tries the same address meanwhile
	unread      = 256 << 10       // bytes that wait for the app in the kernel, which would take 4 MB of an upload that no app reads
)

// Target is where the app listens now. It moves: a notebook's app gets another port each time
// its cell is run again. The zero value has no address. Safe for concurrent use.
type Target struct {
	mu       sync.Mutex
	addr     string
	moved    chan struct{}    // closed when addr changes; nil until somebody waits
	places   []netip.AddrPort // of addr on this machine, in the order in which they are asked; two of localhost. Not changed, but replaced
	answered bool             // one of them did, and is the first since
	alone    uint64           // the listener that took all connections when last looked; 0: several did, or none was seen
}

// Set moves the target to addr ("host:port"), or nowhere if addr is "". Connections from now on
// go there, those that wait for it included.
func (t *Target) Set(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr == t.addr {
		return
	}
	t.addr, t.places, t.answered, t.alone = addr, places(addr), false, 0
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// Addr returns the present address, "" if there is none.
func (t *Target) Addr() string {
	addr, _ := t.now()
	return addr
}

func (t *Target) now() (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved == nil {
		t.moved = make(chan struct{})
	}
	return t.addr, t.moved
}

// Dial connects to the app where it listens now. Where that is refused it waits up to one
// second for the target to move, or for a server to listen there again: an app that is being
// restarted does one or the other. The connection acknowledges what it reads at once, see quickConn.
func (t *Target) Dial(ctx context.Context) (net.Conn, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	again := time.NewTicker(redial)
	defer again.Stop()
	for {
		addr, moved := t.now()
		err := ErrNoTarget
		if addr != "" {
			var c net.Conn
			if c, err = t.DialAddr(ctx, addr); err == nil {
				_ = c.(*net.TCPConn).SetWriteBuffer(unread)
				t.lookAround()
				return quick(c), nil
			}
		}
		select {
		case <-moved:
		case <-again.C:
		case <-late.C:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// DialAddr connects to "host:port" once, within 2 s. localhost is 127.0.0.1, and where that is refused ::1, whatever this
// machine's resolver says: Node, and what is made with it, listens on the latter alone. Of the present address the one that has answered
// first stays the first to be asked: another program may listen at the other one later, and the app's visitors are not that one's. Where
// it is refused the other one is asked all the same, and once it answers again it has the visitors again.
func (t *Target) DialAddr(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	at := t.order(addr)
	if len(at) < 2 {
		return d.DialContext(ctx, "tcp", addr)
	}
	c, err := d.DialContext(ctx, "tcp", at[0].String())
	if err == nil {
		t.answers(addr, at)
		return c, nil
	}
	if late, is := errors.AsType[net.Error](err); ctx.Err() == nil && !(is && late.Timeout()) { // one that is full, or stands still, is the app's still
		if c, failed := d.DialContext(ctx, "tcp", at[1].String()); failed == nil {
			t.answers(addr, []netip.AddrPort{at[1], at[0]})
			return c, nil
		}
	}
	return nil, err
}

// order is that in which the places of addr are asked.
func (t *Target) order(addr string) []netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr == t.addr {
		return t.places
	}
	return places(addr)
}

// answers notes that the first of these places has answered, if it is the first to.
func (t *Target) answers(addr string, at []netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr == t.addr && !t.answered {
		t.places, t.answered = at, true
	}
}
