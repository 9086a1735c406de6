// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"slices"
	"time"
)

// How simulated tunnels leave a port to each other, which one link has at a time.

// cedes leaves a port to a newer tunnel, until that one stands, or has gone.
func (t *simTunnel) cedes() {
	if t.ended > 0 || t.closing || t.table.replaced {
		return
	}
	t.do(t.table.Yield(t.clock()))
	if t.ceding {
		return
	}
	t.say("%d cedes", t.name)
	t.ceding = true
	most := t.now + keepsSim
	var look func()
	look = func() {
		var keeper *simTunnel
		for _, o := range t.tunnels {
			if o.newerThan(t) && o.marked() {
				keeper = o
			}
		}
		switch {
		case !t.ceding:
		case keeper == nil:
			t.ceding = false
			t.resumes()
		case keeper.table.held || t.now > most:
			t.say("%d is replaced", t.name)
			t.ceding = false
			t.table.Replace()
			t.do(t.table.Settle(t.clock()))
		default:
			t.after(t.between(500*time.Millisecond, time.Second), func() { t.runs(look) })
		}
	}
	t.after(t.between(time.Millisecond, time.Second), func() { t.runs(look) })
}

// keepsSim is how long a newer tunnel may take to stand, where it cannot say so.
const keepsSim = 5 * time.Second

// marked reports whether a process of sshd shows that the tunnel is there.
func (t *simTunnel) marked() bool {
	return slices.ContainsFunc(t.links[1:], func(l *simLink) bool { return l.server })
}

// hears: a newer tunnel wants a port that a link of this one has. Who does not answer is ended.
func (t *simTunnel) hears(l *simLink) {
	if l.hears {
		return
	}
	l.hears = true
	t.after(t.between(time.Millisecond, 100*time.Millisecond), func() {
		if l.silent == 0 {
			t.runs(t.cedes)
		}
	})
	t.after(asksSim, func() {
		l.hears = false
		if l.server && slices.ContainsFunc(t.slots, func(s simSlot) bool { return s.link == l }) {
			t.kill(l)
		}
	})
}

const asksSim = 2500 * time.Millisecond
