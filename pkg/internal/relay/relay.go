// SPDX-License-Identifier: Apache-2.0

// Package relay is for tests: a way through TCP that can go silent.
//
//	r := relay.Start(t, server.Addr())
//	link, err := dial(r.Addr())
//	r.Mute() // nothing comes through what is open now, and neither end is told; new connections pass
//
// So does a NAT or a firewall that has lost its state. A process that is killed is another fault: its kernel
// tells everybody at once.
package relay

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay passes connections on.
type Relay struct {
	to       string
	listener net.Listener
	tasks    sync.WaitGroup

	mu    sync.Mutex
	pairs map[*pair]struct{} // that pass, or are silent
	ended bool
}

// pair is a connection and the one to which it is passed on.
type pair struct {
	*Relay
	near, far *net.TCPConn
	silent    bool // under the relay's mu
}

// Start starts a relay to an address, which ends with the test.
func Start(t testing.TB, to string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{to: to, listener: l, pairs: map[*pair]struct{}{}}
	r.tasks.Go(r.serve)
	t.Cleanup(r.end)
	return r
}

// Addr is where it listens, "127.0.0.1:port".
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Mute has every connection that is open say nothing more, as long as the relay lives.
func (r *Relay) Mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.silent = true
		_, _ = p.near.SetDeadline(time.Unix(1, 0)), p.far.SetDeadline(time.Unix(1, 0)) // carry returns
	}
}

func (r *Relay) end() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for p := range r.pairs {
		_, _ = p.near.Close(), p.far.Close()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

func (r *Relay) serve() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.tasks.Go(func() {
			far, err := net.Dial("tcp", r.to)
			if err != nil {
				_ = near.Close()
				return
			}
			p := &pair{Relay: r, near: near.(*net.TCPConn), far: far.(*net.TCPConn)}
			if !p.add() {
				return
			}
			r.tasks.Go(func() { p.carry(p.far, p.near) })
			p.carry(p.near, p.far)
		})
	}
}

func (p *pair) add() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_, _ = p.near.Close(), p.far.Close()
		return false
	}
	p.pairs[p] = struct{}{}
	return true
}

// carry passes bytes on until an end, or an error, which both connections learn. Of one that is silent they
// learn nothing.
func (p *pair) carry(to, from *net.TCPConn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !p.isSilent() {
			if _, failed := to.Write(b[:n]); failed != nil {
				err = failed
			}
		}
		if err == nil {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.silent {
			delete(p.pairs, p)
			_, _ = to.Close(), from.Close()
		}
		return
	}
}

func (p *pair) isSilent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}
