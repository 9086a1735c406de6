// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// link is what the supervisor needs of an SSH connection that holds its slot.
type link interface {
	Accept() (net.Conn, error)                               // the slot's next connection
	Dial(ctx context.Context, addr string) (net.Conn, error) // from the proxy
	Stats() (open int, bytes int64)                          // accepted connections
	Withdraw()                                               // gives the slot back, keeps its connections
	Done() <-chan struct{}                                   // closed when the link has ended
	Err() error                                              // why it did
	Close() error                                            // ends it; nothing is left when it returns
}

// connector makes one link, once.
type connector func(ctx context.Context) (link, error)

// plainLink is a link to a plain proxy: one SSH connection, one TCP port.
type plainLink struct {
	*sshlink.Link
	slot *sshlink.Listener
}

func (p plainLink) Accept() (net.Conn, error) { return p.slot.Accept() }
func (p plainLink) Withdraw()                 { _ = p.slot.Close() }

// stepTimeout bounds each request on a link that is up.
const stepTimeout = 5 * time.Second

// busyWaits are the waits before a port that is in use is asked for again on the same link: the
// sshd process of a link that has just ended needs a moment to give it back. After the try with
// the index lookAt it is looked up who holds it.
var busyWaits = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond, 300 * time.Millisecond, time.Second}

const lookAt = 2

// dialer returns a connector for cfg. What it reads from files is read here, once.
func dialer(cfg Config, srv server) (connector, error) {
	keys, err := sshlink.LoadKeys(cfg.Key, cfg.KeyPassphrase)
	if err != nil {
		return nil, err
	}
	known, err := sshlink.NewHostKeys(cfg.HostKey)
	if err != nil {
		return nil, err
	}
	ssh := sshlink.Config{Host: srv.host, Port: srv.port, User: srv.user, Keys: keys, HostKeys: known, Log: cfg.Log,
		Control: cfg.Control}
	claim := newClaim(cfg.Remote, keys.ID())
	links := 0
	return func(ctx context.Context) (link, error) {
		links++
		l, err := sshlink.Dial(ctx, ssh)
		if err != nil {
			return nil, err
		}
		slot, err := takeSlot(ctx, l, claim, links)
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		claim.held, claim.taken = true, nil
		return plainLink{l, slot}, nil
	}, nil
}

// takeSlot takes the port of a claim by a link that has just logged in, if need be from a stale
// link of our own.
func takeSlot(ctx context.Context, l *sshlink.Link, c *claim, link int) (slot *sshlink.Listener, err error) {
	step := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		return f(ctx)
	}
	if err := step(func(ctx context.Context) error { return l.Hold(ctx, c.mark(link)) }); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err = step(func(ctx context.Context) (err error) { slot, err = l.Listen(ctx, c.port); return err })
		if err == nil || fault.IsPermanent(err) || !errors.Is(err, fault.ErrForward) {
			return slot, err
		}
		if try == lookAt {
			c.taken = step(func(ctx context.Context) error { return c.clear(ctx, l, link, err) })
		}
		if c.taken != nil {
			err = c.taken // says more
		}
		if try >= lookAt && c.taken != nil || try == len(busyWaits) {
			return nil, err
		}
		select {
		case <-time.After(busyWaits[try]):
		case <-ctx.Done():
			return nil, err
		}
	}
}
