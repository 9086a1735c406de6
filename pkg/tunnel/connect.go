// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/lease"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// connecting makes the links of a tunnel.
type connecting struct {
	ssh     sshlink.Config
	life    context.Context
	lease   *lease.Lease
	tasks   *guard.Group
	arrival arrival
	look    func(ctx context.Context, over link, slot int, wait time.Duration) slots.Sight
	deliver func(net.Conn)
	asked   func(error)        // a newer tunnel has asked for the slot
	links   atomic.Int32       // that were made, on a plain proxy
	warn    func(*fault.Error) // that the next tunnel will not be able to end a link of this one; nil: that it will, or that is not known
	barred  func(*fault.Error) // that a link has no session, and may not be able to take the port; nil: that none is so
	log     *slog.Logger
	unread  sync.Once   // that is logged
	doubt   atomic.Bool // the proxy refused a slot that its description names: that may have changed

	mu      sync.Mutex
	before  predecessor  // the tunnel in whose place this one is opened; nil: none
	yielded bool         // it has left its slots
	living  int          // links of a plain proxy
	without int          // and those of them to which PAM seems to have opened no session
	single  *fault.Error // that it is so of some alone
}

// predecessor is a tunnel of this process that leaves its slots to another one, and can have them back.
type predecessor interface {
	yield()
	resume()
}

// arrival is where visitors arrive: what is known of it, and what to do when the first link has found out.
type arrival struct {
	known func() *endpoint
	find  func(ctx context.Context, l *sshlink.Link) (*endpoint, error)
	found func(ctx context.Context, p *endpoint, keys *sshauth.Keys) error
}

// turn comes when a link has logged in and is about to take slots: the tunnel before leaves them.
func (c *connecting) turn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before != nil && !c.yielded {
		c.yielded = true
		c.before.yield()
	}
}

// giveBack has the tunnel before serve again: this one has no link.
func (c *connecting) giveBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.yielded && c.before != nil {
		c.yielded = false
		c.before.resume()
	}
}

// alone: the tunnel before is closed. Its memory is not kept by each one after it.
func (c *connecting) alone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = nil
	c.lease.Spare(nil)
}

// connect is a connector. Until one link has learnt what the proxy is, it is called for one only.
func (c *connecting) connect(ctx context.Context, _ int) (link, error) {
	l, err := sshlink.Dial(ctx, c.ssh)
	if err != nil {
		return nil, err
	}
	made, err := c.prepare(ctx, l)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	c.turn()
	return made, nil
}

// prepare learns from a link that has logged in where visitors arrive, and opens the session that has sshd turn Nagle's
// algorithm off, or that holds the mark.
func (c *connecting) prepare(ctx context.Context, l *sshlink.Link) (*slotLink, error) {
	p, err := c.endpoint(ctx, l)
	if err != nil {
		return nil, err
	}
	made := &slotLink{Link: l, slots: p.slots, tasks: c.tasks, deliver: c.deliver, look: c.look, taken: map[int]*sshlink.Listener{}}
	if p.prepared {
		c.tasks.Go(func() { _ = hold(c.life, l, nil, nil) }) // nothing waits for it, and its failure is the link's
		made.take = func(ctx context.Context, slot int) (*sshlink.Listener, error) {
			ctx, cancel := context.WithTimeout(ctx, lease.TakeTimeout)
			defer cancel()
			listener, err := l.ListenUnix(ctx, p.slots[slot].String())
			if errors.Is(err, fault.ErrForward) {
				c.doubt.Store(true)
			}
			return listener, err
		}
		return made, nil
	}
	number := int(c.links.Add(1))
	made.take = func(ctx context.Context, _ int) (*sshlink.Listener, error) { return c.lease.Take(ctx, l, number) }
	c.tasks.Go(func() { <-l.Done(); c.lease.Ended(number) })
	made.show = func(ctx context.Context) error {
		mark := c.lease.LogsIn(l.Key(), number)
		return hold(ctx, l, mark, func(line string) {
			if err := c.lease.Hears(c.life, l, number, line); err != nil {
				c.asked(err)
			}
		})
	}
	if err := made.show(ctx); err != nil {
		return nil, err
	}
	c.tasks.Go(func() { c.learn(l) })
	c.tasks.Go(func() { c.heedSession(l) })
	return made, nil
}

// heedSession warns as long as PAM seems to have opened a session to one link, and to another none: it may permit one at a time (pam_limits(8),
// maxlogins). On a plain proxy alone: a prepared one limits nobody's sessions.
func (c *connecting) heedSession(l *sshlink.Link) {
	c.count(1, 0)
	select {
	case <-l.Unopened():
		c.count(0, 1)
		<-l.Done()
		c.count(-1, -1)
	case <-l.Done():
		c.count(-1, 0)
	}
}

// count counts links, and those without a session.
func (c *connecting) count(links, without int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.living, c.without = c.living+links, c.without+without
	switch one := 0 < c.without && c.without < c.living; {
	case one && c.single == nil:
		c.single = fault.OneSession(c.ssh.User)
	case !one:
		c.single = nil
	}
	c.barred(c.single)
}

// learnMost is how long a mark is looked for that has not shown in time, which is told meanwhile.
const learnMost = 2 * time.Minute

// learn reads a link's mark, which the next tunnel will have to, and tells whether that can be done.
func (c *connecting) learn(l *sshlink.Link) {
	for begin := time.Now(); ; {
		err := c.lease.Learn(c.life, l)
		again := errors.Is(err, lease.ErrNotShown) && time.Since(begin) < learnMost
		if c.tellUnread(!again); !again {
			return
		}
	}
}

// tellUnread tells what is known now; last: it is not looked for any more.
func (c *connecting) tellUnread(last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.lease.Unread()
	if err == nil {
		c.warn(nil)
		return
	}
	told := fault.From(err)
	c.warn(told)
	if last {
		c.unread.Do(func() { c.log.Warn(told.Error(), "hint", told.Hint) })
	}
}

func hold(ctx context.Context, l *sshlink.Link, command func() string, said func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, lease.StepTimeout)
	defer cancel()
	return l.Hold(ctx, command, said)
}

// endpoint is where visitors arrive; the first link finds out.
func (c *connecting) endpoint(ctx context.Context, l *sshlink.Link) (*endpoint, error) {
	known := c.arrival.known()
	if known.known && !c.doubt.Load() {
		return known, c.arrival.found(ctx, known, c.ssh.Keys)
	}
	p, err := c.arrival.find(ctx, l)
	if err != nil {
		return nil, err
	}
	if known.known && !known.same(p) {
		return nil, fault.DescriptionChanged(c.ssh.User + "@" + c.ssh.Addr())
	}
	c.doubt.Store(false)
	return p, c.arrival.found(ctx, p, c.ssh.Keys)
}

// slotLink is a link that takes any of a tunnel's slots: those of a prepared proxy, unix sockets that sshd gives to the
// link that asked last (StreamLocalBindUnlink), or the one of a plain proxy.
type slotLink struct {
	*sshlink.Link
	slots   []net.Addr
	tasks   *guard.Group
	deliver func(net.Conn)
	take    func(ctx context.Context, slot int) (*sshlink.Listener, error)
	show    func(ctx context.Context) error // its mark, on a plain proxy
	look    func(ctx context.Context, over link, slot int, wait time.Duration) slots.Sight

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
	for wait := max(leastLook, lookTrips*p.RoundTrip()); look; {
		asked := steady.Now()
		if p.look(ctx, p, slot, wait) == slots.Newer {
			return errNewer
		}
		look = steady.Now().Sub(asked) > 2*wait && ctx.Err() == nil // this process stood still: another tunnel may have come
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

// Show implements link.
func (p *slotLink) Show(ctx context.Context) {
	if err := p.show(ctx); err != nil {
		_ = p.Close() // others could not tell whose it is
	}
}

const (
	askPatience = 3 * time.Second        // for an answer, until the link itself is asked
	askGrace    = 300 * time.Millisecond // for one that sshd passes on while it answers that
	// askLegs is how often that is asked: a question to a slot of this link goes that way four times (two channels are opened, then
	// it is asked and answered), each time behind what visitors have sent.
	askLegs = 5
)

// Ask implements link. An answer took 5.5 s on a link that visitors filled. sshd answers in order, so what it was asked
// before it last answered the link is not on its way any more.
func (p *slotLink) Ask(ctx context.Context, question func(context.Context) probe.Finding) probe.Finding {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan probe.Finding, 1)
	p.tasks.Go(func() { found <- question(ctx) })
	wait := askPatience
	for leg := 0; ; leg++ {
		select {
		case f := <-found:
			return f
		case <-time.After(wait):
		case <-ctx.Done():
			return probe.Finding{Kind: probe.Unreachable, Err: ctx.Err()}
		}
		if leg == askLegs {
			return probe.Finding{Kind: probe.Unreachable, Err: errSilent}
		}
		if err := p.Answers(ctx); err != nil {
			return probe.Finding{Kind: probe.Unreachable, Err: err}
		}
		wait = askGrace / askLegs
	}
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
