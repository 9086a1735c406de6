// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

const (
	// StepTimeout bounds each request on a link that is up.
	StepTimeout = 5 * time.Second
	// commandTimeout bounds a script on the proxy, where start-up files of the account's shell may take ten seconds once on
	// each link. An account that has never answered within it is given StepTimeout from then on: a command that the server
	// forces may never end.
	commandTimeout = 15 * time.Second
	// TakeTimeout bounds one that asks for a slot: on a link that visitors fill an answer took 5.5 s.
	TakeTimeout = 20 * time.Second
)

// busyWaits are the waits before a port that is in use is asked for again on the same link: the
// sshd process of a link that has just ended needs a moment to give it back. After the try with
// the index lookAt it is looked up who holds it.
var busyWaits = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond, 300 * time.Millisecond, time.Second}

const lookAt = 2

// Machine is what taking a slot needs of a link that has just logged in.
type Machine interface {
	Script(ctx context.Context, script string) ([]byte, error)
	Listen(ctx context.Context, port int) (*sshlink.Listener, error)
	ListenAgain(ctx context.Context, port int) (*sshlink.Listener, error)
	ListenUnix(ctx context.Context, path string) (*sshlink.Listener, error)
}

// Take takes the slot for the given link of this tunnel, if need be from a stale link of our own.
func (c *Lease) Take(ctx context.Context, l Machine, link int) (slot *sshlink.Listener, err error) {
	if c.slot.Network() == "unix" {
		slot, err = c.takeSocket(ctx, l, link)
	} else {
		slot, err = c.takePort(ctx, l, link)
	}
	if err == nil {
		c.had()
	}
	return slot, err
}

// command bounds one script on the proxy.
func (c *Lease) command(ctx context.Context, f func(context.Context) error) error {
	limit := commandTimeout
	if c.mute.Load() {
		limit = StepTimeout
	}
	bound, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(bound)
	if err == nil {
		c.mute.Store(false)
	} else if ctx.Err() == nil && bound.Err() != nil {
		c.mute.Store(true)
	}
	return err
}

// listen asks for the port once.
func (c *Lease) listen(ctx context.Context, ask func(context.Context, int) (*sshlink.Listener, error)) (*sshlink.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, TakeTimeout)
	defer cancel()
	return ask(ctx, c.slot.(*net.TCPAddr).Port)
}

// takePort takes a port. A refusal that looks permanent may be that of an account that may forward no other one.
func (c *Lease) takePort(ctx context.Context, l Machine, link int) (slot *sshlink.Listener, err error) {
	look := 0 // the try after which the marks are read: a port that was never ours is not one that is about to be free
	if c.holds() {
		look = lookAt
	}
	slot, refusal := c.listen(ctx, l.Listen)
	err = refusal
	for try := 0; errors.Is(err, fault.ErrForward); try++ {
		if try == look {
			slot, by := c.claim(ctx, l, link, refusal)
			if slot != nil || by != nil {
				return slot, by
			}
		}
		if try == len(busyWaits) {
			return nil, err
		}
		select {
		case <-time.After(busyWaits[try]):
			slot, err = c.listen(ctx, l.ListenAgain)
		case <-ctx.Done():
			return nil, err
		}
	}
	return slot, err
}

// takeSocket takes the path of a socket. A server with StreamLocalBindUnlink gives it to the link that
// asks last and tells no other, so who has it is looked up before, not after a refusal: a tunnel that was
// replaced does not ask. The stale links, whose visitors wait for ever, are ended once it has it.
// One of them may have been about to take the path too, and have done so last: it is taken again then.
func (c *Lease) takeSocket(ctx context.Context, l Machine, link int) (slot *sshlink.Listener, err error) {
	stale, err := c.look(ctx, l, link, false)
	if c.holds() && errors.Is(err, errSilent) { // a newer tunnel may have it
		return nil, fault.Silent("the question who has the socket", err)
	}
	if err != nil && !errors.Is(err, errNoMarks) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, TakeTimeout)
	defer cancel()
	path := c.slot.String()
	slot, err = l.ListenUnix(ctx, path)
	if errors.Is(err, fault.ErrForward) && c.there(ctx, l) {
		return nil, fault.SocketLeft(path)
	}
	if err == nil && len(stale) > 0 && c.outlast(ctx, l, link, stale) == nil {
		_, _ = l.ListenUnix(ctx, path)
	}
	return slot, err
}
