// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"slices"
	"strings"

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

// connector makes one link, once: that of the keeper with the given index.
type connector func(ctx context.Context, index int) (link, error)

// plainLink is a link to a plain proxy: one SSH connection, one slot.
type plainLink struct {
	*sshlink.Link
	slot *sshlink.Listener
}

func (p plainLink) Accept() (net.Conn, error) { return p.slot.Accept() }
func (p plainLink) Withdraw()                 { _ = p.slot.Close() }

// newConnector returns a connector for cfg. What is known of host keys is read here, once; keys are
// read again for each login. loggedIn is called after each login, before visitors can come; newer
// tells whether the URL leads to a newer tunnel.
func newConnector(cfg Config, srv server, loggedIn func(context.Context, *sshlink.Keys), newer func(context.Context, dialer) bool) (connector, error) {
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
	claim := newClaim(cfg.slot(), ssh.Keys.ID())
	links := 0
	return func(ctx context.Context, _ int) (link, error) {
		links++
		l, err := sshlink.Dial(ctx, ssh)
		if err != nil {
			return nil, err
		}
		claim.key = l.Key() // of several, the one that the server took
		claim.newer = func(ctx context.Context) bool { return newer(ctx, l.Dial) }
		loggedIn(ctx, ssh.Keys)
		slot, err := claim.take(ctx, l, links)
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
