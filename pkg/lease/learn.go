// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

const (
	learnFor  = 15 * time.Second // that a mark may take to show
	learnWait = 500 * time.Millisecond
)

// ErrNotShown is within an error of Learn that may be withdrawn: there was no mark in time, as where start-up files take long.
var ErrNotShown = errors.New("what it began there did not show in time: its start-up files take long or wait for something, or its own processes do not show there")

// Learn reads the first mark of this tunnel, for the time in it: later this machine may have been suspended, which its
// clock does not count. The error, a fault.NoMarks, says that links of this account cannot be ended by their marks; where the link or ctx ends first, that is
// not known. What was learnt so of an earlier link is asked again, for it may be mended.
func (c *Lease) Learn(ctx context.Context, proxy Machine) error {
	ctx, cancel := context.WithTimeout(ctx, c.learnFor)
	defer cancel()
	for !c.learnt() || c.Unread() != nil {
		listing, err := proxy.Script(ctx, listMarks)
		now, marks := parseMarks(listing, c.slot)
		if m := c.own(now, marks); m != nil {
			return c.mayEnd(ctx, proxy, m)
		}
		switch {
		case errors.Is(err, sshlink.ErrNoSession):
			return c.cannotRead(err)
		case err != nil && ctx.Err() == nil: // the link has ended
			return nil
		}
		select {
		case <-time.After(learnWait):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return c.cannotRead(ErrNotShown)
			}
			return nil
		}
	}
	return nil
}

func (c *Lease) learnt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since != 0
}

func (c *Lease) cannotRead(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread = fault.NoMarks(c.slot, why)
	return c.unread
}

// Unread is why links cannot be ended by their marks, as Learn saw last, a *fault.Error; nil: they can, or that is not known.
func (c *Lease) Unread() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread == nil {
		return nil
	}
	return c.unread
}

// mayEnd sees whether the account may end its own links: of Dropbear's the process is root's.
func (c *Lease) mayEnd(ctx context.Context, proxy runner, m *mark) error {
	said, err := proxy.Script(ctx, fmt.Sprintf("kill -0 %d || echo no", m.holder))
	switch {
	case err != nil:
		return nil
	case strings.TrimSpace(string(said)) == "no":
		return c.cannotRead(errors.New("the server's process for it is not this account's"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread = nil
	return nil
}

// own takes the time from a mark of this tunnel, which it returns, nil for none. now is the proxy's, in the listing that has it.
func (c *Lease) own(now int64, marks []mark) *mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range marks {
		if m.tunnel != c.tunnel {
			continue
		}
		if c.since == 0 {
			c.since, c.least = m.since, min(m.since, now-c.age())
		}
		return &m
	}
	return nil
}
