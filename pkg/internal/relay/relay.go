// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package relay is for tests: a way through TCP that is long, narrow, silent or shut.
//
//	r := relay.Start(t, server.Addr())
//	r.Delay(50 * time.Millisecond) // each way: a round trip takes 100 ms
//	r.Rate(1 << 20)                // bytes a second each way, for all connections together
//	link, err := dial(r.Addr())
//	r.Mute()   // nothing comes through what is open now, and neither end is told; new connections pass
//	r.Hole()   // nor is anything acknowledged that comes there; r.HoleOne() is for one of them
//	r.Resume() // what Hole has silenced goes on
//	r.Drop()   // new connections get no answer, as from a firewall that drops packets
//	r.Refuse() // new connections are refused at once
//	r.Pass()   // new connections pass again
//
// Everything may be changed at any time. A way that is blocked is Hole and Drop: so does a firewall, or a NAT that
// has lost its state. A process that is killed is another fault: its kernel tells everybody at once.
// How Drop has no SYN answered is Linux's.
package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay passes connections on.
type Relay struct {
	t        testing.TB
	to       string
	addr     *net.TCPAddr
	up, down line
	done     chan struct{} // closed at the end of the test
	tasks    sync.WaitGroup

	changing sync.Mutex       // held while Pass, Drop or Refuse work
	listener *net.TCPListener // nil while connections are refused
	serving  sync.WaitGroup
	fillers  sync.Map // the connections that fill the listener's queue while others are dropped, by their address

	mu    sync.Mutex
	pairs map[*pair]struct{} // that pass, or are silent
	ended bool
}

// Start starts a relay to an address, which ends with the test.
func Start(t testing.TB, to string) *Relay {
	t.Helper()
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{t: t, to: to, listener: l, addr: l.Addr().(*net.TCPAddr), done: make(chan struct{}), pairs: map[*pair]struct{}{}}
	r.serving.Go(func() { r.serve(l) })
	t.Cleanup(r.end)
	return r
}

// Addr is where it listens, "127.0.0.1:port".
func (r *Relay) Addr() string { return r.addr.String() }

// Delay has every byte take d, each way, from now on: half a round trip. 0, as at first: none. A connection that is
// accepted is passed on after a round trip, which TCP's handshake would take.
func (r *Relay) Delay(d time.Duration) {
	r.up.setDelay(d)
	r.down.setDelay(d)
}

// Rate lets so many bytes a second through, each way, of all connections together, in the order in which they
// come. 0, as at first: as many as there are. Of connections that are made from now on little is held on the way, so those
// who send notice it.
func (r *Relay) Rate(bytes int) {
	r.up.setRate(bytes)
	r.down.setRate(bytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.widen()
	}
}

// Mute has every connection that is open say nothing more, as long as the relay lives.
func (r *Relay) Mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.mute()
	}
}

func (r *Relay) end() {
	close(r.done)
	r.Refuse()
	r.mu.Lock()
	r.ended = true
	for p := range r.pairs {
		p.close()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

// serve passes on what a listener accepts, until it is closed or has a deadline.
func (r *Relay) serve(l *net.TCPListener) {
	for {
		near, err := l.AcceptTCP()
		if err != nil {
			return
		}
		if _, ours := r.fillers.Load(near.RemoteAddr().String()); ours {
			_ = near.Close()
		} else if p := (&pair{Relay: r, near: near}); p.add() {
			r.tasks.Go(p.connect)
		}
	}
}

// pair is a connection and the one to which it is passed on.
type pair struct {
	*Relay
	near *net.TCPConn

	// Under the relay's mu.
	far    *net.TCPConn // nil until it is there
	silent bool
	held   chan struct{} // closed by Resume; nil: it is not in a Hole
	over   int           // directions that are at their end
}

func (p *pair) add() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = p.near.Close()
		return false
	}
	p.pairs[p] = struct{}{}
	return true
}

func (p *pair) connect() {
	p.wait(time.Now().Add(2 * p.up.now().delay))
	far, err := (&net.Dialer{Control: small}).Dial("tcp", p.to)
	p.mu.Lock()
	if err == nil {
		p.far = far.(*net.TCPConn)
	}
	if err != nil || p.ended {
		p.close()
		p.mu.Unlock()
		return
	}
	if p.silent {
		p.mute()
	}
	if p.held != nil {
		p.must(deafen(p.far))
	}
	p.widen()
	p.mu.Unlock()
	p.tasks.Go(func() { p.carry(&p.down, p.far, p.near) })
	p.carry(&p.up, p.near, p.far)
}

func (p *pair) close() {
	delete(p.pairs, p)
	_ = p.near.Close()
	if p.far != nil {
		_ = p.far.Close()
	}
}

// mute has carry return without a word.
func (p *pair) mute() {
	p.silent = true
	_ = p.near.SetDeadline(time.Unix(1, 0))
	if p.far != nil {
		_ = p.far.SetDeadline(time.Unix(1, 0))
	}
}

// widen lets the kernel hold a lot, where the way is not narrow.
func (p *pair) widen() {
	if p.up.now().rate > 0 {
		return
	}
	for _, c := range []*net.TCPConn{p.near, p.far} {
		if c != nil {
			_ = c.SetReadBuffer(1 << 20)
		}
	}
}

// carry passes bytes on until an end, or an error, which both connections learn. Of one that is silent they
// learn nothing.
func (p *pair) carry(l *line, from, to *net.TCPConn) {
	queue := make(chan piece, pieces)
	p.tasks.Go(func() { p.arrive(queue, to) })
	defer close(queue)
	b := make([]byte, 32<<10)
	for {
		room := b
		if l.now().rate > 0 {
			room = b[:4<<10]
		}
		n, err := from.Read(room)
		if n > 0 {
			left, arrives := l.send(n)
			p.wait(left)
			queue <- piece{bytes: append([]byte(nil), b[:n]...), at: arrives}
		}
		if err != nil {
			_, arrives := l.send(0)
			queue <- piece{err: err, at: arrives}
			return
		}
	}
}

// arrive writes what was sent when its time has come.
func (p *pair) arrive(queue <-chan piece, to *net.TCPConn) {
	for next := range queue {
		p.wait(next.at)
		if !p.speaks() {
			continue
		}
		err := next.err
		if err == nil {
			_, err = to.Write(next.bytes)
		}
		if err != nil {
			p.finish(to, err)
		}
	}
}

// finish passes on the end of one direction; an error ends both.
func (p *pair) finish(to *net.TCPConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		return
	}
	if !errors.Is(err, io.EOF) {
		_, _ = p.near.SetLinger(0), p.far.SetLinger(0) // they are reset, too
		p.close()
	} else if p.over++; p.over == 2 {
		p.close()
	} else {
		_ = to.CloseWrite()
	}
}

// speaks reports whether anything still comes through, as soon as that does which was held.
func (p *pair) speaks() bool {
	for {
		p.mu.Lock()
		silent, held := p.silent, p.held
		p.mu.Unlock()
		if silent || held == nil {
			return !silent
		}
		select {
		case <-held:
		case <-p.done:
			return false
		}
	}
}

// wait returns at a time, or at the end of the test.
func (r *Relay) wait(until time.Time) {
	d := time.Until(until)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.done:
	}
}

func (r *Relay) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
