// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// link is what the supervisor needs of an SSH connection that holds slots.
type link interface {
	Accept() (net.Conn, error)                               // the slots' next connection
	Dial(ctx context.Context, addr string) (net.Conn, error) // from the proxy
	Stats() (open int, bytes int64)                          // accepted connections
	Slots() int                                              // how many nginx sends visitors to
	Take(slot int)                                           // besides those that it came with; it is done in the background
	Give(slot int)                                           // back, after what was asked before; keeps its connections
	Settled() <-chan struct{}                                // closed when all that was asked before is done
	Withdraw()                                               // gives all slots back, keeps their connections
	Done() <-chan struct{}                                   // closed when the link has ended
	Err() error                                              // why it did
	Close() error                                            // ends it; nothing is left when it returns
}

// connector makes one link, once: that of the keeper with the given index. It comes with the slots
// of that keeper.
type connector func(ctx context.Context, index int) (link, error)

// connecting makes the links of a tunnel.
type connecting struct {
	t     *Tunnel
	ssh   sshlink.Config
	claim *claim
	links int // that were tried, on a plain proxy

	before  *Tunnel // the one in whose place t is opened; nil: none
	yielded bool    // it has left its slots

	// Of a prepared proxy, where several links are made at a time.
	held  atomic.Bool // slots
	doubt atomic.Bool // it refused a slot that its description names: that may have changed
}

// newConnecting reads what is known of host keys, once; keys are read again for each login. before is
// the tunnel in whose place t is opened, nil for none.
func newConnecting(t, before *Tunnel) (*connecting, error) {
	cfg := &t.cfg
	ssh, err := t.server.SSH()
	if err != nil {
		return nil, err
	}
	ssh.Bound = !cfg.Raw && !t.listens // only the gate asks for room
	c := &connecting{t: t, ssh: ssh, claim: newClaim(cfg.slot(), ssh.Keys.ID()), before: before}
	c.claim.turn = c.turn
	if before != nil && before.links != nil {
		c.claim.spared = before.links.claim.tunnel
	}
	return c, nil
}

// turn comes when a link has logged in and is about to take its slots: the tunnel before leaves them.
func (c *connecting) turn() {
	if c.before != nil && !c.yielded {
		c.yielded = true
		c.before.yield()
	}
}

// giveBack has the tunnel before serve again, if no link of this one does.
func (c *connecting) giveBack() {
	if open, _ := c.t.sup.alive(); c.yielded && open == 0 {
		c.yielded = false
		c.before.resume()
	}
}

// connect is a connector. Until one link has learnt what the proxy is, it is called for one only.
func (c *connecting) connect(ctx context.Context, index int) (link, error) {
	l, err := sshlink.Dial(ctx, c.ssh)
	if err != nil {
		return nil, err
	}
	made, err := c.serve(ctx, l, index)
	if err != nil {
		c.giveBack()
		_ = l.Close()
		return nil, err
	}
	return made, nil
}

// serve has a link that has logged in take its slots.
func (c *connecting) serve(ctx context.Context, l *sshlink.Link, index int) (link, error) {
	p, err := c.place(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := c.t.door.open(ctx, c.ssh.Keys); err != nil {
		return nil, err
	}
	if p.prepared {
		return c.takePrepared(ctx, l, p, index)
	}
	c.links++
	c.claim.key = l.Key() // of several, the one that the server took
	c.claim.newer = func(ctx context.Context) bool { return c.t.newer(ctx, l.Dial) }
	slot, err := c.claim.take(ctx, l, c.links)
	if err != nil {
		return nil, err
	}
	c.claim.held, c.claim.taken = true, nil
	made := newSlotLink(c.t, l, p.slots)
	made.has(0, slot)
	return made, nil
}

// place is where visitors arrive; the first link finds out.
func (c *connecting) place(ctx context.Context, l *sshlink.Link) (*place, error) {
	known := c.t.place.Load()
	if known.known && !c.doubt.Load() {
		return known, nil
	}
	p, err := c.t.cfg.find(ctx, l, c.t.server)
	if err != nil {
		return nil, err
	}
	if known.known && !known.same(p) {
		return nil, fault.DescriptionChanged(c.t.server.String())
	}
	c.doubt.Store(false)
	c.t.arriveAt(p)
	return p, nil
}

// takePrepared takes every slot that is for the keeper with the given index. A tunnel that held them
// before, and has no link that holds them still, does not take them from a newer one.
func (c *connecting) takePrepared(ctx context.Context, l *sshlink.Link, p *place, index int) (link, error) {
	if open, _ := c.t.sup.alive(); c.held.Load() && open == 0 && c.t.newer(ctx, l.Dial) {
		return nil, fault.Replaced(p.slots[0], time.Time{})
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := l.Hold(ctx, ""); err != nil { // the session that has sshd turn Nagle's algorithm off
		return nil, err
	}
	c.turn()
	made := newSlotLink(c.t, l, p.slots)
	for slot := index; slot < len(p.slots); slot += c.t.cfg.connections(len(p.slots)) {
		if err := made.take(ctx, slot); err != nil {
			open, _ := c.t.sup.alive()
			c.doubt.Store(open == 0 && errors.Is(err, fault.ErrForward))
			return nil, err
		}
	}
	c.held.Store(true)
	return made, nil
}

// connections is how many links to hold for so many slots.
func (cfg *Config) connections(slots int) int {
	if cfg.Connections == 0 {
		return min(defaultConnections, slots)
	}
	return min(cfg.Connections, slots)
}

const defaultConnections = 2
