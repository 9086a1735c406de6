// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// ErrHop is the class of errors of a machine on the way to the proxy (Config.Jump). That its host
// key or our login is refused there are ErrHostKey and ErrAuth.
var ErrHop = fault.ErrHop

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

// dialer returns a connector for cfg. What is known of host keys is read here, once; keys are read
// again for each login.
func dialer(cfg Config, srv server) (connector, error) {
	ssh, err := cfg.machine(srv, cfg.HostKey)
	if err != nil {
		return nil, err
	}
	onTheWay := cfg.HostKey
	if strings.HasPrefix(strings.TrimSpace(onTheWay), "SHA256:") {
		onTheWay = "" // a bastion with a fingerprint of its own could pass itself off as the server
	}
	at := &ssh
	for _, jump := range slices.Backward(srv.jumps) {
		hop, err := cfg.machine(jump, onTheWay)
		if err != nil {
			return nil, err
		}
		at.Jump = &hop
		at = &hop
	}
	claim := newClaim(cfg.Remote, ssh.Keys.ID())
	links := 0
	return func(ctx context.Context) (link, error) {
		links++
		l, err := sshlink.Dial(ctx, ssh)
		if err != nil {
			return nil, err
		}
		claim.key = l.Key() // of several, the one that the server took
		slot, err := takeSlot(ctx, l, claim, links, cfg.RemoteSocket)
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		claim.held, claim.taken = true, nil
		return plainLink{l, slot}, nil
	}, nil
}

// machine says how to log in to one machine.
func (cfg *Config) machine(s server, hostKey string) (sshlink.Config, error) {
	keys, err := sshlink.NewKeys(context.Background(), sshlink.KeySource{Key: cfg.Key, Passphrase: cfg.KeyPassphrase,
		Agent: cfg.agent(s.ssh), Files: s.ssh.IdentityFiles, Certificates: s.ssh.Certificates, IdentitiesOnly: s.ssh.IdentitiesOnly, Log: cfg.Log})
	if err != nil {
		return sshlink.Config{}, err
	}
	known, err := sshlink.NewHostKeys(hostKey, s.ssh.KnownHosts...)
	if err != nil {
		return sshlink.Config{}, err
	}
	return sshlink.Config{Host: s.host, Port: s.port, User: s.user, Keys: keys, HostKeys: known, HostKeyAlias: s.ssh.HostKeyAlias,
		Log: cfg.Log, Control: cfg.Control}, nil
}

// takeSlot takes the port of a claim by a link that has just logged in, if need be from a stale
// link of our own; or a socket, which a server that is set up for them gives to the newest anyway.
func takeSlot(ctx context.Context, l *sshlink.Link, c *claim, link int, socket string) (slot *sshlink.Listener, err error) {
	step := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		return f(ctx)
	}
	if err := step(func(ctx context.Context) error { return l.Hold(ctx, c.mark(link)) }); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err = step(func(ctx context.Context) (err error) {
			if socket != "" {
				slot, err = l.ListenUnix(ctx, socket)
			} else {
				slot, err = l.Listen(ctx, c.port)
			}
			return err
		})
		if err == nil || fault.IsPermanent(err) || !errors.Is(err, fault.ErrForward) {
			return slot, err
		}
		if try == lookAt && socket == "" {
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
