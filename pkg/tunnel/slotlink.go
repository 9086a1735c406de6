// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// slotLink is a link that takes any of the tunnel's slots: those of a prepared proxy, unix sockets
// that sshd gives to the link that asked last (StreamLocalBindUnlink), or the one of a plain proxy.
type slotLink struct {
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

func newSlotLink(t *Tunnel, l *sshlink.Link, slots []net.Addr) *slotLink {
	p := &slotLink{Link: l, t: t, slots: slots, conns: make(chan net.Conn), work: make(chan func(), mostWork), taken: map[int]*sshlink.Listener{}}
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
func (p *slotLink) take(ctx context.Context, slot int) error {
	listener, err := p.listen(ctx, p.slots[slot])
	if err == nil {
		p.has(slot, listener)
	}
	return err
}

// listen asks sshd for a slot; for a port again and again, since the link that gives it back may be
// about to.
func (p *slotLink) listen(ctx context.Context, slot net.Addr) (l *sshlink.Listener, err error) {
	port, isPort := slot.(*net.TCPAddr)
	if !isPort {
		return p.ListenUnix(ctx, slot.String())
	}
	for _, wait := range append([]time.Duration{0}, busyWaits...) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
		if l, err = p.Listen(ctx, port.Port); err == nil || !errors.Is(err, fault.ErrForward) || fault.IsPermanent(err) {
			break
		}
	}
	return l, err
}

// has notes that the link holds a slot, and accepts what comes there.
func (p *slotLink) has(slot int, l *sshlink.Listener) {
	p.mu.Lock()
	had := p.taken[slot] == l
	p.taken[slot] = l
	p.mu.Unlock()
	if !had {
		p.t.tasks.Go(func() { p.accept(l) })
	}
}

func (p *slotLink) accept(l *sshlink.Listener) {
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
func (p *slotLink) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.Done():
		return nil, net.ErrClosed
	}
}

// Slots implements link.
func (p *slotLink) Slots() int { return len(p.slots) }

// ask queues work. Its order matters: giving a slot back takes it away from this link altogether.
func (p *slotLink) ask(do func()) {
	select {
	case p.work <- do:
	default: // nothing was answered for very long
		p.t.tasks.Go(func() { _ = p.Close() })
	}
}

// Take implements link.
func (p *slotLink) Take(slot int) {
	p.ask(func() {
		ctx, cancel := context.WithTimeout(p.t.life, stepTimeout)
		defer cancel()
		err := p.take(ctx, slot)
		if err == nil {
			return
		}
		p.t.log.Warn("a slot could not be taken over", "slot", p.slots[slot].String(), "error", err.Error())
		if len(p.slots) == 1 { // without it this link serves nobody; the next one finds out who has it
			p.t.tasks.Go(func() { _ = p.Close() })
		}
	})
}

// Give implements link.
func (p *slotLink) Give(slot int) {
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

// Settled implements link.
func (p *slotLink) Settled() <-chan struct{} {
	settled := make(chan struct{})
	p.ask(func() { close(settled) })
	return settled
}

// Withdraw implements link.
func (p *slotLink) Withdraw() {
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
