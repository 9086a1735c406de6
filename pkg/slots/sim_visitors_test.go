// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// Visitors send what may not run twice (POST), nginx sends it again as site.conf has it, and the memory of each gate (pkg/internal/begun,
// the real one) says whether it begins. They come to sockets only: of a port nothing is remembered.

const (
	simKept    = 30 * time.Second            // keepalive_timeout of an upstream
	simMost    = 32                          // keepalive
	simLate    = 100 * time.Second           // proxyhost.RepeatWithin
	simLast    = 4                           // the number of @last
	simClock   = 2 * time.Second             // for which a gate waits for the proxy's time (clockWait)
	simClear   = 3 * time.Second             // what took longer does not tell the proxy's time (sameClock)
	simSettled = begun.Alone + 5*time.Second // after that a tunnel knows that it is alone
	simAlive   = 30 * time.Second            // ClientAliveInterval 1, ClientAliveCountMax 30: sshd ends the links of a process that was stopped
)

// visitors are those of one story, and nginx's connections. They have random numbers of their own: what befalls tunnels is the
// same without them.
type visitors struct {
	*rand.Rand
	conns  []*simConn // that nginx has, in the order of their last use
	alone  bool       // the story has one tunnel, of which only links come and go
	counts [len(countNames)]int64
}

const (
	came = iota
	ran
	ranAgain
	toldAway
	toldBegun
	neverBegun
	doubted
	gaps
	ranAlone
	refusedAlone
)

var (
	countNames = [...]string{"came", "ran", "ran when sent again", "told away", "told by nginx that they may have run", "of which never began", "refused by a gate and never began", "begun twice in the known gap", "ran when sent again, of a tunnel that is alone", "refused by one that is, and never began"}
	counted    [len(countNames)]atomic.Int64
)

// simPost is a request, as nginx knows it.
type simPost struct {
	id       string
	at       time.Duration
	passed   time.Duration // when it was first passed on, as nginx says
	location int           // 0: the first one, 1 to 3: @again and those after it, 4: @last
	sent     bool          // a link was sent some of it
	told     string        // "": not yet
	takes    time.Duration // in the app
	runs     []*simRun
	doubted  bool
}

// simRun is a request in an app.
type simRun struct {
	tunnel *simTunnel
	at     time.Duration
	done   bool
	waits  []*simConn
}

// simConn is a connection from nginx by an sshd process to a gate.
type simConn struct {
	tunnel *simTunnel
	link   *simLink
	slot   int
	post   *simPost      // for which nginx waits; nil: it is kept
	idle   time.Duration // since when
	open   bool          // the tunnel has accepted it. Until then sshd sends no data
	busy   bool          // the gate has a request of it
	closed bool          // by the gate
}

// arrives has visitors come until then.
func (w *world) arrives(until time.Duration) {
	v := &w.visitors
	most := time.Duration(1+v.IntN(9)) * 100 * time.Millisecond
	var next func()
	next = func() {
		if w.now > until {
			return
		}
		v.counts[came]++
		p := &simPost{id: strconv.FormatInt(v.counts[came], 10), at: w.now, passed: w.now - v.span(0, begun.ClockStep), takes: v.span(0, 5*time.Second)}
		switch v.IntN(20) {
		case 0:
			p.takes = time.Minute
		case 1, 2, 3, 4, 5, 6, 7:
			p.takes /= 50
		}
		w.pass(p)
		w.after(v.span(most/10, most), next)
	}
	w.after(0, next)
}

func (v *visitors) span(least, most time.Duration) time.Duration {
	return least + time.Duration(v.Int64N(int64(1+most-least)))
}

// way is how long something is on its way between proxy and tunnel.
func (w *world) way() time.Duration {
	if w.now < w.slow {
		return w.visitors.span(time.Millisecond, simAsk)
	}
	return w.visitors.span(time.Millisecond, 150*time.Millisecond)
}

// pass has nginx pass a request on, from its location on.
func (w *world) pass(p *simPost) {
	for v := &w.visitors; p.location <= simLast; p.location++ {
		if p.location > 0 && w.now-p.at >= simLate {
			break
		}
		first := v.IntN(len(w.slots))
		for i := range 2 * len(w.slots) { // each is listed twice
			slot := (first + i) % len(w.slots)
			if c := w.connect(slot, p.location%simLast == 0); c != nil {
				w.send(c, p)
				return
			}
		}
	}
	w.tell(p, map[bool]string{true: "begun", false: "away"}[p.sent])
}

// connect returns a connection to who has a slot, or one that was kept; nil: nobody is there.
func (w *world) connect(slot int, kept bool) *simConn {
	v := &w.visitors
	for i := len(v.conns) - 1; kept && i >= 0; i-- {
		if c := v.conns[i]; c.post == nil && c.slot == slot && w.now-c.idle < simKept {
			return c
		}
	}
	own := w.slots[slot]
	if own.nobody() || w.now < w.foreign {
		return nil
	}
	c := &simConn{tunnel: own.tunnel, link: own.link, slot: slot}
	v.conns = append(v.conns, c)
	return c
}

// send has a request go to a link. What is sent to a silent one arrives nowhere, and nginx waits until sshd has ended it.
func (w *world) send(c *simConn, p *simPost) {
	again := p.sent
	c.post, p.sent = p, true
	w.say("  %s goes to %d.%d by slot %d%s%s", p.id, c.tunnel.name, c.link.id, c.slot, map[bool]string{true: ", kept"}[c.open], map[bool]string{true: ", again"}[again])
	data := func() { w.toTunnel(c, func() { w.reach(c, p, again, w.now) }) }
	if c.open {
		data()
		return
	}
	w.toTunnel(c, func() { // the channel is opened
		if c.link.client && c.link.silent == 0 {
			w.after(w.way(), func() {
				if c.open = c.link.server && c.link.silent == 0; c.open {
					data()
				}
			})
		}
	})
}

// toTunnel has something go from sshd to the process of a tunnel, which reads it when it runs: what its kernel has is not lost with
// the link.
func (w *world) toTunnel(c *simConn, do func()) {
	if l := c.link; l.silent == 0 || l.deaf {
		w.after(w.way(), func() { c.tunnel.process.runs(w, do) })
	}
}

// runs calls f when the process is not suspended.
func (p *process) runs(w *world, f func()) {
	if w.now < p.stopped {
		w.after(p.stopped-w.now, func() { p.runs(w, f) })
		return
	}
	f()
}

func (w *world) drop(c *simConn) {
	w.visitors.conns = slices.DeleteFunc(w.visitors.conns, func(o *simConn) bool { return o == c })
}

// fails: nginx sees the end of a connection. What was under way there is sent again in the next location.
func (w *world) fails(c *simConn) {
	w.drop(c)
	if p := c.post; p != nil {
		c.post = nil
		p.location++
		w.pass(p)
	}
}

// reloads: nginx has other workers, which have kept nothing.
func (w *world) reloads() {
	w.visitors.conns = slices.DeleteFunc(w.visitors.conns, func(c *simConn) bool { return c.post == nil })
}

// ends ends the sshd process of a link, and with it nginx's connections.
func (t *simTunnel) ends(l *simLink) {
	if !l.server {
		return
	}
	if l.server = false; !t.marked() {
		t.gone = t.now
	}
	for _, c := range slices.Clone(t.visitors.conns) {
		if c.link == l {
			t.fails(c)
		}
	}
}

// tell: the visitor is told.
func (w *world) tell(p *simPost, what string) {
	w.say("  %s: %s", p.id, what)
	v := &w.visitors
	p.told = what
	switch {
	case what == "answered":
		v.counts[ran]++
	case what == "away":
		v.counts[toldAway]++
		if len(p.runs) > 0 {
			w.wrong("request %s was begun, and its visitor is told that it was not", p.id)
		}
	case what == "begun":
		v.counts[toldBegun]++
		if len(p.runs) == 0 {
			v.counts[neverBegun]++
		}
	case p.doubted && len(p.runs) == 0:
		v.counts[doubted]++
	}
}

// count adds what was counted in a story.
func (v *visitors) count() {
	for i, n := range v.counts {
		counted[i].Add(n)
	}
}

func countsText() (text string) {
	for i, name := range countNames {
		text += fmt.Sprintf("\n%9d %s", counted[i].Load(), name)
	}
	return text
}
