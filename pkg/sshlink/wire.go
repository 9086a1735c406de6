// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
)

const (
	wireRead  = 64 << 10  // bytes asked from the kernel at once
	wireWrite = 256 << 10 // bytes gathered before a writer has to wait
	headSize  = 512       // bytes kept of the server's first words
)

// wire is the TCP connection as x/crypto/ssh sees it. x/crypto reads through 4 KiB and flushes
// each packet with system calls of its own; gathering them brought bulk transfer from 0.56-0.95
// to 0.94-1.14 times that of ssh -R. It also counts what arrives, for the progress watch, and
// keeps the server's first words, for the errors that quote them.
type wire struct {
	net.Conn
	socket   net.Conn     // at the bottom of it, for what concerns TCP
	broke    func()       // called when reading fails, before x/crypto learns it; it may be before the login
	read     atomic.Int64 // bytes received
	quickack atomic.Bool  // acknowledge at once, see Link.Hold
	spoke    func()       // called when the server's first bytes have come; nil: nobody is

	in   []byte // buffer of the only reader, x/crypto's
	r, w int

	mu         sync.Mutex
	head       []byte     // guarded by mu: first bytes received
	work, room *sync.Cond // guarded by mu: something to write, space for more
	out, spare []byte
	err        error
	write      func() // has x/crypto write something; guarded by mu
}

// newWire takes over c; start runs its writer until Close.
func newWire(c net.Conn, start func(func()) bool, broke func()) *wire {
	w := &wire{Conn: c, socket: egress.Socket(c), broke: broke, in: make([]byte, wireRead)}
	w.work, w.room = sync.NewCond(&w.mu), sync.NewCond(&w.mu)
	start(w.flush)
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	if w.r == w.w {
		n, err := w.Conn.Read(w.in)
		if n == 0 {
			w.broke()
			w.mu.Lock()
			w.fail(net.ErrClosed)
			write := w.write
			w.mu.Unlock()
			if write != nil {
				write()
			}
			return 0, err
		}
		w.r, w.w = 0, n
		total := w.read.Add(int64(n))
		if total == int64(n) && w.spoke != nil {
			w.spoke()
		}
		if total-int64(n) < headSize {
			w.mu.Lock()
			w.head = append(w.head, w.in[:min(n, headSize-len(w.head))]...)
			w.mu.Unlock()
		}
		if w.quickack.Load() {
			setQuickACK(w.socket)
		}
	}
	n := copy(p, w.in[w.r:w.w])
	w.r += n
	return n, nil
}

// fails has x/crypto learn by write that it writes in vain, before it learns that reading has failed: in between it would take a
// request for a channel, and have it wait for ever (Link.opened): 2 requests did, of those to some 15 000 links that a server ended
// while channels were asked for.
func (w *wire) fails(write func()) {
	w.mu.Lock()
	w.write = write
	failed := w.err != nil
	w.mu.Unlock()
	if failed {
		write()
	}
}

// why is what ended the connection: err, or that the kernel had lost patience before (userTimeout), of which x/crypto makes an io.EOF.
func (w *wire) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if failed, is := errors.AsType[net.Error](w.err); is && failed.Timeout() {
		return w.err
	}
	return err
}

// said returns the server's first bytes.
func (w *wire) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.head)
}

// Write takes p over; an error of the connection is returned by a later call.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) >= wireWrite && w.err == nil {
		w.room.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.out = append(w.out, p...)
	w.work.Signal()
	return len(p), nil
}

// flush writes what has been gathered, in one call each time, until the connection ends.
func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.out) == 0 && w.err == nil {
			w.work.Wait()
		}
		if w.err != nil {
			return
		}
		p := w.out
		w.out = w.spare[:0]
		w.mu.Unlock()
		_, err := w.Conn.Write(p)
		w.mu.Lock()
		w.spare = p
		if err != nil {
			w.fail(err)
		}
		w.room.Broadcast()
	}
}

// fail is called with mu held.
func (w *wire) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.work.Broadcast()
	w.room.Broadcast()
}

// Close ends the connection for the server too where a forked child still holds it. TLS's own
// farewell is left out: it might wait for a dead network, and SSH has its own.
func (w *wire) Close() error {
	w.mu.Lock()
	w.fail(net.ErrClosed)
	w.mu.Unlock()
	if tcp, ok := w.socket.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	return w.socket.Close()
}
