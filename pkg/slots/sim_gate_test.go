// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"slices"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// The gate of a simulated tunnel: what it knows, and what it begins.

// simGate is what a simulated tunnel has for its visitors.
type simGate struct {
	memory  *begun.Memory
	timed   bool          // the proxy's time is known
	late    time.Duration // how much later than it was a time of the proxy's is taken for
	drained bool          // it is replaced or closes
	made    time.Duration // since when the memory is
	back    time.Duration // when it last had a link after none
	has     time.Duration // when it last had a slot after that
	missed  []*simTunnel  // that could not be asked when this one came, and did not meet it since
	gone    time.Duration // when it last had none any more
}

// reach: a request is at a gate, since then. The gate waits for the proxy's time.
func (w *world) reach(c *simConn, p *simPost, again bool, since time.Duration) {
	t := c.tunnel
	if t.ended > 0 || c.closed || !c.link.client && !c.busy {
		return
	}
	c.busy = true
	if !t.timed && w.now-since < simClock {
		w.later(t, func() { w.reach(c, p, again, since) })
		return
	}
	if i := slices.IndexFunc(p.runs, func(u *simRun) bool { return u.tunnel == t }); i >= 0 {
		if u := p.runs[i]; u.done {
			w.answer(c, p, "answered")
		} else {
			u.waits = append(u.waits, c)
		}
		return
	}
	came := begun.Arrival{Now: w.clock(), Again: again}
	if t.timed {
		came.Passed = epoch.Add(p.passed + t.late)
	}
	w.enter(c, p, came)
}

// enter has a gate begin a request, or not. What nginx sends again waits for a look.
func (w *world) enter(c *simConn, p *simPost, came begun.Arrival) {
	t := c.tunnel
	if t.ended > 0 {
		return
	}
	if t.memory.Unsure(p.id, came) != nil && w.clock().Sub(came.Now) < begun.Wait && t.table.Awaited(w.clock()) {
		t.tick()
		w.later(t, func() { w.enter(c, p, came) })
		return
	}
	came.Now = w.clock()
	came.Lives = c.link.server && c.link.client && c.link.silent == 0
	if t.memory.Enter(p.id, came) != begun.New {
		w.judgeDoubt(t, p)
		w.answer(c, p, "refused")
		return
	}
	w.judgeBegins(t, p)
	w.say("  %s begins at %d", p.id, t.name)
	u := &simRun{tunnel: t, at: w.now, waits: []*simConn{c}}
	if p.runs = append(p.runs, u); came.Again {
		w.visitors.counts[ranAgain]++
		if w.visitors.alone && p.passed > t.made+simSettled {
			w.visitors.counts[ranAlone]++
		}
	}
	w.after(p.takes, func() {
		t.runs(func() {
			u.done = true
			t.memory.End(p.id)
			for _, c := range u.waits {
				w.answer(c, p, "answered")
			}
		})
	})
}

// later calls f a little later in the process of a tunnel, which waits for something.
func (w *world) later(t *simTunnel, f func()) {
	w.after(100*time.Millisecond, func() { t.process.runs(w, f) })
}

// answer has an answer go to nginx, which keeps the connection then.
func (w *world) answer(c *simConn, p *simPost, what string) {
	c.busy = false
	last := c.tunnel.drained || c.link.leaves
	if c.closed = c.closed || last; !c.link.client || c.link.silent > 0 {
		return
	}
	w.after(w.way(), func() {
		if !c.link.server || c.post != p {
			return
		}
		w.tell(p, what)
		w.drop(c)
		if c.post, c.idle = nil, w.now; !last {
			w.visitors.conns = append(w.visitors.conns, c)
		}
		kept := 0
		for i := len(w.visitors.conns) - 1; i >= 0; i-- { // the one that was not used for longest
			if w.visitors.conns[i].post == nil {
				if kept++; kept > simMost {
					w.drop(w.visitors.conns[i])
				}
			}
		}
	})
}

// opens makes the gate, when the first link has logged in.
func (t *simTunnel) opens() {
	if !t.marked() {
		t.back = t.now
	}
	if t.memory != nil {
		return
	}
	if t.heir != nil && t.heir.memory != nil {
		t.memory = t.heir.memory
		return
	}
	t.made = t.now
	for _, o := range t.tunnels {
		if o != t && o.memory != nil && o.ended == 0 && (o.isStopped() || !slices.ContainsFunc(o.links[1:], func(l *simLink) bool { return l.server && l.silent == 0 })) {
			t.missed = append(t.missed, o)
		}
	}
	t.memory = begun.NewMemory(t.clock(), func(d time.Duration, f func()) {
		t.after(d, func() { t.process.runs(t.world, f) })
	})
}

// hasSeen: an answer of nginx's check port is here, which told then who has a slot.
func (t *simTunnel) hasSeen(seen Sight, another bool, then time.Duration) {
	if (seen != Unknown && seen != Silent || another) && (!t.timed || t.now-then < simClear) {
		t.timed, t.late = true, t.now-then+t.visitors.span(0, begun.ClockStep)
	}
	if another {
		t.memory.Share(t.clock())
	}
}

// hasLooked: a look has ended that began then.
func (t *simTunnel) hasLooked(began time.Duration, seen []Sight) {
	if _, astray := t.table.Holding(); astray > 0 || slices.Contains(seen, Ours) {
		t.memory.Looked(epoch.Add(began), astray == 0)
	}
}

// drains: a tunnel that is replaced or closes ends what is idle.
func (t *simTunnel) drains() {
	was := t.drained
	if t.drained = t.closing || t.table.replaced; was || !t.drained {
		return
	}
	for _, c := range t.visitors.conns {
		if c.tunnel == t && !c.busy && c.open {
			c.closed = true
			t.after(t.way(), func() {
				if c.link.server && c.link.silent == 0 {
					t.fails(c)
				}
			})
		}
	}
}

// judgeBegins: t is about to begin a request.
func (w *world) judgeBegins(t *simTunnel, p *simPost) {
	switch {
	case p.told == "away":
		w.wrong("request %s begins at tunnel %d, and its visitor was told that it did not", p.id, t.name)
	case len(p.runs) == 0:
	case p.runs[0].tunnel.cameAndWent(t, p.runs[0].at), t.hasMissed(p.runs[0].tunnel), w.blind > 0 && w.now < w.blind+simSettled:
		w.visitors.counts[gaps]++
	default:
		w.wrong("request %s, which tunnel %d has begun, begins at tunnel %d, too", p.id, p.runs[0].tunnel.name, t.name)
	}
}

// cameAndWent is a gap that docs/known-faults.md tells of, as it does of the time in which nobody can ask: t has begun something while an older tunnel had no link, and was
// gone, or about to give the slots back, when that one had a link again. Nothing tells it.
func (t *simTunnel) cameAndWent(o *simTunnel, then time.Duration) bool {
	return t.newerThan(o) && !t.marked() && o.has > then && (o.back > t.gone || t.closing)
}

// hasMissed is that gap, too: one of the two came while the other one could not be asked, and they have not met since.
func (t *simTunnel) hasMissed(o *simTunnel) bool {
	return slices.Contains(t.missed, o) || slices.Contains(o.missed, t)
}

// judgeDoubt: a gate refuses a request that may never have begun.
func (w *world) judgeDoubt(t *simTunnel, p *simPost) {
	p.doubted = true
	if w.visitors.alone && len(p.runs) == 0 && p.passed > t.made+simSettled {
		w.visitors.counts[refusedAlone]++
	}
}
