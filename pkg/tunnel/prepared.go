// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"sync"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// preparedLink is a link to a prepared proxy, which takes any of the tunnel's slots: unix sockets,
// which sshd gives to whoever asks last (StreamLocalBindUnlink).
type preparedLink struct {
	*sshlink.Link
	t     *Tunnel
	slots []net.Addr
	conns chan net.Conn
	work  chan func() // what was asked of it, in that order

	mu    sync.Mutex
	taken map[int]*sshlink.Listener
}

// mostWork is how much may be asked of a link that does not answer; it ends then.
const mostWork = 256

func newPreparedLink(t *Tunnel, l *sshlink.Link, slots []net.Addr) *preparedLink {
	p := &preparedLink{Link: l, t: t, slots: slots, conns: make(chan net.Conn), work: make(chan func(), mostWork), taken: map[int]*sshlink.Listener{}}
	t.tasks.Go(func() {
		for {
			select {
			case do := <-p.work:
				do()
			case <-l.Done():
				return
			}
		}
	})
	return p
}

// take takes a slot, at once for all visitors who come from now on.
func (p *preparedLink) take(ctx context.Context, slot int) error {
	listener, err := p.ListenUnix(ctx, p.slots[slot].String())
	if err != nil {
		return err
	}
	p.mu.Lock()
	has := p.taken[slot] == listener
	p.taken[slot] = listener
	p.mu.Unlock()
	if !has {
		p.t.tasks.Go(func() { p.accept(listener) })
	}
	return nil
}

func (p *preparedLink) accept(l *sshlink.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case p.conns <- c:
		case <-p.Done():
			_ = c.Close()
		}
	}
}

// Accept implements link.
func (p *preparedLink) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.Done():
		return nil, net.ErrClosed
	}
}

// Slots implements link.
func (p *preparedLink) Slots() int { return len(p.slots) }

// ask queues work. Its order matters: giving a slot back takes it away from this link altogether.
func (p *preparedLink) ask(do func()) {
	select {
	case p.work <- do:
	default: // nothing was answered for very long
		p.t.tasks.Go(func() { _ = p.Close() })
	}
}

// Take implements link.
func (p *preparedLink) Take(slot int) {
	p.ask(func() {
		ctx, cancel := context.WithTimeout(p.t.life, stepTimeout)
		defer cancel()
		if err := p.take(ctx, slot); err != nil {
			p.t.log.Warn("a slot could not be taken over", "slot", p.slots[slot].String(), "error", err.Error())
		}
	})
}

// Give implements link.
func (p *preparedLink) Give(slot int) {
	p.ask(func() {
		p.mu.Lock()
		l := p.taken[slot]
		delete(p.taken, slot)
		p.mu.Unlock()
		if l != nil {
			_ = l.Close()
		}
	})
}

// Withdraw implements link.
func (p *preparedLink) Withdraw() {
	done := make(chan struct{})
	p.ask(func() {
		defer close(done)
		p.mu.Lock()
		taken := p.taken
		p.taken = map[int]*sshlink.Listener{}
		p.mu.Unlock()
		for _, l := range taken {
			_ = l.Close()
		}
	})
	select {
	case <-done:
	case <-p.Done():
	}
}
