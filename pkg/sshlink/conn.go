// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	smallBuffer = 2 << 10     // what an idle connection holds for reading
	largeBuffer = 32 << 10    // an SSH packet's worth (RFC 4253, section 6.1), while data flows
	linger      = time.Minute // as long as nginx waits for the next piece of an answer (proxy_read_timeout)
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// conn makes an SSH channel a full net.Conn. x/crypto's channels have no deadlines, without
// which net/http's server and hijacked connections hang; so each side of the channel is worked
// by a short-lived goroutine, and Read and Write wait for that, for the deadline or for Close,
// whichever comes first. It also has CloseWrite, which sends SSH_MSG_CHANNEL_EOF (RFC 4254,
// section 5.3).
//
// Like a socket it takes over what Write was given, up to one SSH packet; Close lets that go
// out first, for at most a minute.
type conn struct {
	ch            ssh.Channel
	host          *host
	local, remote net.Addr
	seat          seat

	closing sync.Once
	closed  chan struct{}

	reading sync.Mutex // held by the one Read at work; guards what follows
	rest    []byte     // read from the channel, not yet asked for
	rerr    error
	small   []byte
	large   *[largeBuffer]byte
	filled  chan result // answer of the fill under way
	filling bool
	readBy  deadline

	writing sync.Mutex // held by the one Write at work; guards what follows
	out     []byte
	drained chan error // answer of the drain under way
	writeBy deadline

	mu       sync.Mutex // guards what Close and the drain decide between them
	draining bool
	eof      bool  // CloseWrite was called
	werr     error // the channel takes no more
	lingers  *time.Timer
}

type result struct {
	n   int
	err error
}

// host is what connections share with the link that carries them.
type host struct {
	start   func(func()) bool           // runs a goroutine unless the link has ended
	answers func(context.Context) error // asks the server
	bytes   atomic.Int64                // carried both ways
	lost    atomic.Bool                 // the SSH connection broke: what its channels end with is not an end of file
	left    atomic.Bool                 // Leave was called
}

// errLost is what Read returns in place of io.EOF when the link broke.
var errLost = fmt.Errorf("the link was lost: %w", syscall.ECONNRESET)

// newConn takes over ch.
func newConn(ch ssh.Channel, h *host, local, remote net.Addr) *conn {
	return &conn{ch: ch, host: h, local: local, remote: remote,
		closed: make(chan struct{}), filled: make(chan result, 1), drained: make(chan error, 1)}
}

// Room finds room for an upload that comes here, until end is called. It waits as long as others
// end, for at most half a minute, or until stop is closed; end is nil if there is no room then.
func (c *conn) Room(stop <-chan struct{}) (end func()) { return c.seat.admit(stop) }

// Leaves reports whether the link that carries the connection is about to end: see Link.Leave.
func (c *conn) Leaves() bool { return c.host.left.Load() }

// Answers returns nil when the server has answered on the link that carries the connection: see Link.Answers.
func (c *conn) Answers(ctx context.Context) error { return c.host.answers(ctx) }

func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		passed := c.readBy.passed()
		switch {
		case isDone(c.closed):
			return 0, net.ErrClosed
		case isDone(passed):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(c.rest) > 0:
			n := copy(p, c.rest)
			if c.rest = c.rest[n:]; len(c.rest) == 0 {
				c.rest = nil // an idle connection would keep what it lay in
			}
			c.host.bytes.Add(int64(n))
			return n, nil
		case c.rerr != nil:
			return 0, c.rerr
		case !c.filling && !c.fill():
			return 0, net.ErrClosed
		}
		select {
		case r := <-c.filled:
			c.took(r)
		case <-passed:
		case <-c.closed:
		}
	}
}

// fill starts to read from the channel. The buffer is large only if the last one came full:
// otherwise nothing is pending, and an idle connection should not hold one.
func (c *conn) fill() bool {
	if c.small == nil {
		c.small = make([]byte, smallBuffer)
	}
	buf := c.small
	if c.large != nil {
		buf = c.large[:]
	}
	c.filling = c.host.start(func() {
		c.seat.begin()
		n, err := c.ch.Read(buf)
		c.seat.end(n == len(buf) && err == nil)
		if err != nil && c.host.lost.Load() {
			err = errLost
		}
		c.filled <- result{n, err}
	})
	return c.filling
}

func (c *conn) took(r result) {
	c.filling, c.rerr = false, r.err
	if c.large != nil {
		if c.rest = c.large[:r.n]; r.n < largeBuffer {
			c.rest = append([]byte(nil), c.rest...)
			largeBuffers.Put(c.large)
			c.large = nil
		}
		return
	}
	if c.rest = c.small[:r.n]; r.n == smallBuffer {
		c.rest = append([]byte(nil), c.rest...)
		c.large = largeBuffers.Get().(*[largeBuffer]byte)
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for {
		passed := c.writeBy.passed()
		switch {
		case len(p) == 0:
			return n, nil
		case isDone(c.closed):
			return n, net.ErrClosed
		case isDone(passed):
			return n, os.ErrDeadlineExceeded
		}
		took, err := c.drain(p)
		if err != nil {
			return n, err
		}
		if n, p = n+took, p[took:]; took > 0 {
			c.host.bytes.Add(int64(took))
			continue
		}
		select {
		case <-c.drained:
		case <-passed:
		case <-c.closed:
		}
	}
}

// drain takes over the beginning of p and starts to write it to the channel; it takes nothing
// while the last piece is still under way.
func (c *conn) drain(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.werr != nil:
		return 0, c.werr
	case c.eof:
		return 0, io.ErrClosedPipe
	case c.draining:
		return 0, nil
	}
	select {
	case <-c.drained: // told of, but nobody waited
	default:
	}
	c.out = append(c.out[:0], p[:min(len(p), largeBuffer)]...)
	out := c.out
	c.draining = c.host.start(func() {
		_, err := c.ch.Write(out)
		c.wrote(err)
	})
	if !c.draining {
		return 0, net.ErrClosed
	}
	return len(out), nil
}

// wrote ends a drain, and does what was asked for meanwhile.
func (c *conn) wrote(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = false
	if err != nil {
		c.werr = err
	}
	if cap(c.out) > smallBuffer && len(c.out) <= smallBuffer {
		c.out = nil
	}
	if c.eof && err == nil {
		_ = c.ch.CloseWrite()
	}
	if c.lingers != nil {
		c.lingers.Stop()
		_ = c.ch.Close()
	}
	c.drained <- err
}

// CloseWrite tells the other end that nothing more will come, once all is written.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isDone(c.closed) {
		return net.ErrClosed
	}
	if c.eof {
		return nil
	}
	c.eof = true
	if c.draining {
		return nil
	}
	return c.ch.CloseWrite()
}

func (c *conn) Close() error {
	c.closing.Do(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.closed)
		c.readBy.set(time.Time{})
		c.writeBy.set(time.Time{})
		if c.draining {
			c.lingers = time.AfterFunc(linger, func() { _ = c.ch.Close() })
		} else {
			_ = c.ch.Close()
		}
	})
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}

// deadline is a moment that may be moved while somebody waits for it. The zero value is never.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{} // closed when the present moment has passed
}

// passed returns a channel that is closed once the deadline has passed, also if it is moved
// meanwhile.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // the timer's function is running or has run
	}
	d.timer = nil
	if d.done == nil || isDone(d.done) {
		d.done = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(done) })
		return
	}
	close(done)
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
