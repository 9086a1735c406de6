// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// link is what the supervisor needs of an SSH connection.
type link interface {
	Slots() (n int, exclusive bool)                          // how many nginx sends visitors to; exclusive: who has it keeps it
	Take(ctx context.Context, slot int, look bool) error     // listens there; errNewer if look is asked for and shows a newer tunnel
	Give(slot int)                                           // stops listening, keeps the connections
	Dial(ctx context.Context, addr string) (net.Conn, error) // from the proxy
	Stats() (open int, bytes int64)                          // of the visitors' connections
	Done() <-chan struct{}                                   // closed when the link has ended
	Err() error                                              // why it did
	Close() error                                            // ends it; nothing is left when it returns
}

// errNewer: the slot is a newer tunnel's.
var errNewer = errors.New("a newer tunnel answers there")

// slotLink is a link that takes any of a tunnel's slots: those of a prepared proxy, unix sockets that sshd gives to the
// link that asked last (StreamLocalBindUnlink), or the one of a plain proxy.
type slotLink struct {
	*sshlink.Link
	slots   []net.Addr
	tasks   *guard.Group
	deliver func(net.Conn)
	take    func(ctx context.Context, slot int) (*sshlink.Listener, error)
	look    func(ctx context.Context, over link, slot int, wait time.Duration) sight
	trip    time.Duration // a round trip, as measured at the login

	mu    sync.Mutex
	taken map[int]*sshlink.Listener
}

// Slots implements link.
func (p *slotLink) Slots() (n int, exclusive bool) {
	return len(p.slots), p.slots[0].Network() == "tcp"
}

const (
	leastLook = 300 * time.Millisecond // for the question that comes before a take: a socket of a link that is gone does not answer
	lookTrips = 3
)

// Take implements link.
func (p *slotLink) Take(ctx context.Context, slot int, look bool) error {
	if look && p.look(ctx, p, slot, max(leastLook, lookTrips*p.trip)) == newer {
		return errNewer
	}
	l, err := p.take(ctx, slot)
	if err != nil {
		return err
	}
	p.mu.Lock()
	had := p.taken[slot] == l
	p.taken[slot] = l
	p.mu.Unlock()
	if !had {
		p.tasks.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p.deliver(c)
			}
		})
	}
	return nil
}

// Give implements link.
func (p *slotLink) Give(slot int) {
	p.mu.Lock()
	l := p.taken[slot]
	delete(p.taken, slot)
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}
