// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"context"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// unanswered is how long a connection to this machine waits that gets no answer; others are there within a
// millisecond.
const unanswered = 250 * time.Millisecond

// listen takes a port below those that the kernel hands out itself (ip(7), ip_local_port_range): while connections
// are refused it belongs to nobody, and is to be had again.
func listen() (l *net.TCPListener, err error) {
	for range 100 {
		if l, err = listenAt(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10000 + rand.IntN(2000)}); err == nil {
			break
		}
	}
	return l, err
}

func listenAt(addr *net.TCPAddr) (*net.TCPListener, error) {
	l, err := (&net.ListenConfig{Control: small}).Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Refuse has new connections refused, until Pass or Drop. What is open goes on.
func (r *Relay) Refuse() {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.listener != nil {
		_ = r.listener.Close() // those in its queue are reset
		r.listener = nil
	}
	r.unfill()
	r.serving.Wait()
}

// Drop has new connections get no answer at all, until Pass or Refuse: those who connect wait, and ask again after
// 1, 3, 7 … s (tcp(7), tcp_syn_retries). What is open goes on. A listener whose queue is full does that.
func (r *Relay) Drop() {
	r.t.Helper()
	r.changing.Lock()
	defer r.changing.Unlock()
	r.rest()
	r.backlog(0)
	for {
		c, err := net.DialTimeout("tcp", r.Addr(), unanswered)
		if err != nil {
			return
		}
		r.fillers.Store(c.LocalAddr().String(), c)
	}
}

// Pass has new connections passed on, as at first; also those that ask again after Drop.
func (r *Relay) Pass() {
	r.t.Helper()
	r.changing.Lock()
	defer r.changing.Unlock()
	r.rest()
	r.unfill()
	r.backlog(4096)
	l := r.listener
	r.must(l.SetDeadline(time.Time{}))
	r.serving.Go(func() { r.serve(l) })
}

// rest has it listen, also after Refuse, and accept nothing.
func (r *Relay) rest() {
	r.t.Helper()
	if r.listener == nil {
		l, err := listenAt(r.addr)
		r.must(err)
		r.listener = l
	}
	r.must(r.listener.SetDeadline(time.Unix(1, 0)))
	r.serving.Wait()
}

// unfill ends the connections that fill the queue.
func (r *Relay) unfill() {
	r.fillers.Range(func(_, c any) bool { _ = c.(net.Conn).Close(); return true })
}

// backlog is the length of the listener's queue, less one (listen(2) again changes it).
func (r *Relay) backlog(n int) {
	r.t.Helper()
	raw, err := r.listener.SyscallConn()
	r.must(err)
	var failed error
	r.must(raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), n) }))
	r.must(failed)
}
