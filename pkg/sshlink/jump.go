// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// bastion returns a link to the machine by way of which to connect, if there is one. It has a
// session too, while ours is made: without one sshd before 10.1 leaves Nagle's algorithm on for all
// that the inner link says (see Hold).
func (c *Config) bastion(ctx context.Context) (*Link, error) {
	if c.Jump == nil {
		return nil, nil
	}
	l, err := Dial(ctx, *c.Jump)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == context.Canceled {
		return nil, context.Canceled
	}
	if err != nil {
		return nil, fault.Hop(c.Jump.Addr(), err)
	}
	l.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bannerTimeout)
		defer cancel()
		_ = l.Hold(ctx, nil, nil)
	})
	return l, nil
}

// through connects from the bastion to the next machine.
func (l *Link) through(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := l.Dial(ctx, addr)
	if err == nil {
		return c, nil
	}
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	switch {
	case ok && refused.Reason == ssh.Prohibited:
		return nil, fault.HopForbidden(l.cfg.Addr(), addr, err)
	case ok || errors.Is(err, context.DeadlineExceeded):
		return nil, fault.HopConnect(l.cfg.Addr(), addr, err)
	default:
		return nil, fault.Hop(l.cfg.Addr(), fault.LinkLost(err))
	}
}

// lost reports whether the connection has ended, even if the link does not know it yet.
func (l *Link) lost() bool { return l.host.lost.Load() || isDone(l.done) }
