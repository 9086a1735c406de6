// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

const (
	bannerTimeout = 10 * time.Second // for the server's first word
	// loginTimeout is for key exchange and login, where the caller's context sets no end: sshd's own limit (sshd_config(5),
	// LoginGraceTime). A directory service that it asks may take most of it, and a network that has died meanwhile is noticed
	// by TCP's keepalive.
	loginTimeout = 2 * time.Minute
)

var past = time.Unix(1, 0)

// handshake runs from banner to login. x/crypto knows no context: closing the connection is
// what ends it early.
func (l *Link) handshake(ctx context.Context, algorithms []string, login *sshauth.Login, start time.Time) (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	var hostKey error
	var banner string
	var shown time.Time
	trusted := false
	auth := login.Begin()
	cfg := &ssh.ClientConfig{
		User: l.cfg.User,
		AuthCallback: func(asks *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			if l.trip == 0 { // since the host key, the login was asked for, and then refused to no key at all
				l.trip = time.Since(shown) / 2
			}
			return auth(asks)
		},
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(addr string, remote net.Addr, key ssh.PublicKey) error {
			shown = time.Now()
			hostKey = l.cfg.HostKeys.Check(addr, remote, key)
			trusted = hostKey == nil
			if cert, ok := key.(*ssh.Certificate); ok {
				key = cert.Key
			}
			l.shown = ssh.FingerprintSHA256(key)
			return hostKey
		},
		BannerCallback: func(message string) error { banner = message; return nil }, // the last one: PAM's words come after /etc/issue.net's
		ClientVersion:  "SSH-2.0-taipy-tunnel",
	}
	l.within(ctx, bannerTimeout)
	l.wire.spoke = func() { l.within(ctx, loginTimeout) }
	stop := context.AfterFunc(ctx, func() { _ = l.wire.SetDeadline(past) })
	defer stop()
	conn, chans, reqs, err := ssh.NewClientConn(l.wire, l.cfg.keyAddr(), cfg)
	if err == nil && !stop() {
		_ = conn.Close()
		err = ctx.Err()
	}
	if err == nil {
		_ = l.wire.SetDeadline(time.Time{})
		l.ssh = conn
		l.wire.fails(func() { l.writeInVain(conn) })
		l.key = login.Accepted()
		return chans, reqs, nil
	}
	if context.Cause(ctx) == context.Canceled {
		return nil, nil, context.Canceled
	}
	if hostKey != nil {
		return nil, nil, hostKey
	}
	if trusted {
		return nil, nil, l.classifyLogin(err, login, banner, time.Since(start))
	}
	return nil, nil, l.classify(err, time.Since(start))
}

// vainFor is how long a write may take that fails.
const vainFor = 100 * time.Millisecond

// writeInVain has x/crypto learn that it writes in vain. While keys are exchanged it may wait for their end, and so for what we read.
func (l *Link) writeInVain(conn ssh.Conn) {
	wrote := make(chan struct{})
	if l.opens.Go(func() { defer close(wrote); _, _, _ = conn.SendRequest(keepalive, false, nil) }) {
		select {
		case <-wrote:
		case <-time.After(vainFor):
		}
	}
}

// within bounds what the server takes, by ctx as well. loginTimeout is for a ctx that has no end.
func (l *Link) within(ctx context.Context, most time.Duration) {
	deadline := time.Now().Add(most)
	if d, ok := ctx.Deadline(); ok && (most == loginTimeout || d.Before(deadline)) {
		deadline = d
	}
	_ = l.wire.SetDeadline(deadline)
	if ctx.Err() != nil {
		_ = l.wire.SetDeadline(past)
	}
}

// classifyLogin tells why a login failed. banner is what the server said during it (RFC 4252, section 5.4), "": nothing.
func (l *Link) classifyLogin(err error, login *sshauth.Login, banner string, waited time.Duration) error {
	user, addr := l.cfg.User, l.cfg.Addr()
	switch {
	case login.Unsigned(): // the server may have given up meanwhile, or we
	case fault.IsTimeout(err):
		return fault.LoginSilent(user, addr, waited, banner)
	case isNetwork(err):
		return fault.LoginDropped(user, addr, banner, err)
	}
	return login.Refused(user, addr, banner, err)
}

func isNetwork(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// classify tells why a handshake failed before the login, by how far it came.
func (l *Link) classify(err error, waited time.Duration) error {
	addr, said := l.cfg.Addr(), l.cfg.Via.Hide(l.wire.said())
	negotiation, isNegotiation := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	switch {
	// sshd.c of OpenSSH sends these lines in place of its banner: until 9.7 the first, for want of room; since 9.8 the
	// second, for that and for a penalty alike.
	case strings.Contains(said, "Exceeded MaxStartups"):
		return fault.Full(addr, said)
	case strings.Contains(said, "Not allowed at this time"):
		return fault.Patience(addr, said)
	case said == "" && fault.IsTimeout(err):
		return fault.NoBanner(addr, waited)
	case said == "" && l.cfg.TLS == nil && l.cfg.Via == nil:
		return fault.Overload(fault.DroppedAtOnce(addr, err))
	case said == "" && l.cfg.TLS == nil:
		return fault.DroppedAtOnce(addr, err)
	case said == "":
		return fault.Dropped(addr, err)
	case !strings.HasPrefix(said, "SSH-") && !strings.Contains(said, "\nSSH-"): // RFC 4253, section 4.2
		return l.notSSH(addr, said)
	case isNegotiation && negotiation.What == "host key":
		return fault.HostKeyNone(addr, negotiation.SupportedAlgorithms, negotiation.RequestedAlgorithms, err)
	case isNegotiation:
		return fault.NoCommon(addr, negotiation.What, negotiation.RequestedAlgorithms, err)
	case fault.IsTimeout(err):
		return fault.HandshakeSilent(addr, waited)
	case isNetwork(err):
		return fault.Dropped(addr, err)
	default:
		return fault.Handshake(addr, err)
	}
}

// notSSH tells what is there in place of SSH.
func (l *Link) notSSH(addr, said string) error {
	page := strings.HasPrefix(said, "<") || strings.HasPrefix(said, "HTTP/")
	switch {
	case l.cfg.Via != nil && l.cfg.TLS == nil && page:
		return fault.ViaPage(l.cfg.Via.String(), addr, said)
	case l.cfg.TLS != nil:
		return fault.NotSSHInTLS(addr, said)
	case strings.HasPrefix(said, "\x15\x03"): // an alert (RFC 8446, section 5.1)
		return fault.NotSSHButTLS(addr)
	default:
		return fault.NotSSH(addr, said)
	}
}
