// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	tick        = 100 * time.Millisecond
	interval    = 5  // ticks without a byte received before a keepalive is sent
	patience    = 15 // ticks without progress, a keepalive being unanswered, before the link is dead
	farPatience = 60 // the same for a link by way of a bastion or an egress proxy

	// The same until the server has sent a first byte after the login, where the way to it is open. sshd says that the account is in, and
	// answers nothing before PAM's session modules have returned: a home directory that is mounted, or pam_systemd, take seconds.
	loginPatience = 150

	// The kernel's own patience, where the watch gets no processor. It is the longest, for the kernel counts while the
	// window of the other end has less room than what is to be sent next, although bytes pass: 2 s cut busy links of 100 KiB/s, and 10 s
	// one of 1 MiB/s on a machine with a load of 20.
	userTimeout = time.Minute
)

// watch ends the link when neither a byte arrived nor one was acknowledged for 1.5 s while a
// keepalive (keepalive@openssh.com, which servers answer whether they know it or not: RFC 4254,
// section 4) is unanswered. A late answer alone means nothing: on a saturated 1 MiB/s link it
// took 0.4 to 5.5 s. Time is counted in ticks, and ticks that nobody took are not made up for:
// a process that was stopped for a minute gets as many ticks to hear from its link as any other.
//
// A server that has said nothing since the login is given loginPatience, but only while its kernel acknowledges all that it is sent.
//
// By way of a bastion no acknowledgement is seen, only the answer counts, and 5.5 s were the longest
// that one took. Of the bastion's own end such a link learns from the one that carries it, in 1.5 s.
// By way of an egress proxy the acknowledgements are that proxy's, which may hold megabytes for the
// server; its own end shows by that, too.
func (l *Link) watch() {
	patience, far := patience, l.under != nil || l.cfg.Via != nil
	if far {
		patience = farPatience
	}
	var (
		ticker   = time.NewTicker(tick)
		answered chan error // of the keepalive under way
		read     = l.wire.read.Load()
		ackd     = acked(l.wire.socket)
		fresh    = true // no byte has arrived since the login
		idle     int    // ticks since a byte arrived
		still    int    // ticks since progress of any kind, or since the keepalive
	)
	defer ticker.Stop()
	for {
		select {
		case <-l.done:
			return
		case err := <-answered:
			answered = nil
			if err != nil {
				l.fail(fault.LinkLost(l.wire.why(err)))
				return
			}
			continue
		case <-ticker.C:
		}
		l.look()
		r := l.wire.read.Load()
		if idle, still = idle+1, still+1; r != read {
			read, idle, still, fresh = r, 0, 0, false
		}
		if answered == nil && idle >= interval {
			answered = l.keepalive()
			ackd, idle, still = acked(l.wire.socket), 0, 0
		}
		if answered == nil {
			continue
		}
		if a := acked(l.wire.socket); a != ackd {
			ackd, still = a, 0
		}
		if fresh && (far || allAcked(l.wire.socket)) {
			if still >= loginPatience {
				l.fail(fault.Mute(l.cfg.Addr(), loginPatience*tick))
				return
			}
			continue
		}
		if still >= patience {
			l.fail(fault.NoProgress(time.Duration(patience) * tick))
			return
		}
	}
}

// keepalive is a request that servers answer whether they know it or not.
const keepalive = "keepalive@openssh.com"

// keepalive asks the server for an answer, of whatever content.
func (l *Link) keepalive() chan error {
	answered := make(chan error, 1)
	l.tasks.Go(func() {
		_, _, err := l.ssh.SendRequest(keepalive, true, nil)
		answered <- err
	})
	return answered
}

// Answers returns nil when the server has answered a question of the link's own. What it sent before, for visitors or others,
// has arrived by then: a link that is full answers late. Otherwise ctx's error, or why the link ended.
func (l *Link) Answers(ctx context.Context) error {
	select {
	case err := <-l.keepalive():
		return err
	case <-l.done: // before the question was on its way, perhaps
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
