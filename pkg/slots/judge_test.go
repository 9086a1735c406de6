// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"fmt"
	"time"
)

// What must hold of the simulated tunnels.

const (
	judgeEvery   = time.Second
	settled      = 10 * time.Second // within which everybody must know, and be led right
	tardily      = 10 * time.Second // longer where questions wait in vain, or a tunnel does not know its time yet
	mostTurns    = 4
	quietFor     = 100 * time.Second
	someRequests = 10 // for a slot at once
	mostListens  = 4
	quietActs    = 2 // requests per slot in that time
)

// judged is what a judge keeps.
type judged struct {
	wrong string
	next  time.Duration
	calm  time.Duration // from then on nothing happens any more, links that were lost are back
	tardy time.Duration // when a question last waited in vain
	wiped time.Duration
	lost  []time.Duration // by slot: since when it is not the newest tunnel's
	empty []time.Duration // since when nobody listens there
	acts  int
	last  time.Duration // when something happened
}

// wrongs is since when what is wrong with a tunnel.
type wrongs struct {
	requests []int           // by slot: since something happened, or a link came or went
	granted  []time.Duration // by slot: when it was last granted
	looking  time.Duration   // when the last look began that has ended
	shared   time.Duration
	robbed   []int // by slot: how often it was taken from a newer tunnel since something happened
	lying    time.Duration
	hindered time.Duration // when a link last was silent over which it looked
	unaware  time.Duration
	modest   time.Duration
}

func (w *world) wrong(format string, args ...any) {
	if w.judged.wrong == "" {
		w.judged.wrong = fmt.Sprintf("at %.3f: ", w.now.Seconds()) + fmt.Sprintf(format, args...)
		w.say("WRONG: "+format, args...)
	}
}

// tooLong reports whether something is bad for longer than it may be. Nothing counts that was so before from.
func (w *world) tooLong(bad bool, since *time.Duration, from time.Duration) bool {
	if !bad {
		*since = 0
		return false
	}
	if *since == 0 {
		*since = w.now
	}
	most := settled
	if w.judged.tardy > 0 && w.now-w.judged.tardy < 20*time.Second || w.now < w.slow+20*time.Second && w.slow > 0 {
		most += tardily
	}
	return w.now-max(*since, from) > most
}

// newest is the tunnel to which all visitors should be led; nil: none.
func (w *world) newest() *simTunnel {
	for i := len(w.tunnels) - 1; i >= 0; i-- {
		if t := w.tunnels[i]; t.lives() {
			return t
		}
	}
	return nil
}

// leads reports whether visitors who come by a slot are led to t.
func (t *simTunnel) leads(s simSlot) bool {
	return s.tunnel == t && s.link.server && s.link.silent == 0 && t.now >= t.foreign
}

// judgeAll holds the world to its rules.
func (w *world) judgeAll() {
	j, newest := &w.judged, w.newest()
	all := newest != nil
	for i, s := range w.slots {
		here := newest == nil || newest.leads(s)
		all = all && here
		if w.tooLong(!here, &j.lost[i], max(j.calm, w.foreign)) {
			w.wrong("slot %d is not tunnel %d's, the newest", i, newest.name)
		}
		if w.tooLong(newest != nil && s.nobody() && !newest.isStopped() && newest.able() && w.now >= max(w.blind, w.foreign, w.denied), &j.empty[i], max(j.wiped, w.blind, w.foreign, w.denied+mostRefusal)) {
			w.wrong("slot %d is nobody's, while tunnel %d has a link", i, newest.name)
		}
	}
	for _, t := range w.tunnels {
		if t.ended > 0 {
			continue
		}
		t.judge(newest, all)
	}
}

// able reports whether a link that serves has been up for as long as it may take.
func (t *simTunnel) able() bool {
	for _, id := range t.table.up {
		if id != 0 && t.links[id].silent == 0 && t.links[id].server && t.now-t.links[id].up > settled {
			return true
		}
	}
	return false
}

func (t *simTunnel) judge(newest *simTunnel, all bool) {
	w := t.world
	held, astray := t.table.Holding()
	lacks, _ := t.table.Lacking()
	up := t.lives() && held > 0 && astray == 0 && !lacks
	led := true
	for _, s := range t.slots {
		led = led && t.leads(s)
	}
	watching := !t.isStopped() && w.now >= w.blind
	if w.tooLong(watching && up && !led, &t.lying, max(t.hindered, w.denied)) {
		w.wrong("tunnel %d shows up, and not all its visitors are led to it", t.name)
	}
	if w.tooLong(watching && t == newest && led && (held == 0 || astray > 0), &t.modest, max(w.blind, w.judged.calm)) {
		w.wrong("tunnel %d does not show up, and all its visitors are led to it", t.name)
	}
	apart := false
	for i := range t.slots {
		l := t.table.up[i%len(t.table.up)]
		apart = apart || all && t == newest && !t.port && l != 0 && t.slots[i].link.id != l
	}
	if w.tooLong(watching && apart, &t.shared, w.judged.calm) {
		w.wrong("tunnel %d has two links, and one does not serve its own slots", t.name)
	}
	if w.tooLong(watching && all && t.lives() && t != newest && !newest.isStopped() && t.table.held, &t.unaware, w.judged.calm) {
		w.wrong("tunnel %d does not know that it is replaced", t.name)
	}
}

// judgeAct holds a tunnel to what it may ask for.
func (t *simTunnel) judgeAct(a Act, l *simLink) {
	t.judged.acts++
	t.requests[a.Slot]++
	s := &t.table.slots[a.Slot]
	stays := !t.closing && !t.table.replaced && !t.table.yielded
	switch {
	case t.asked[a.Slot] != 0:
		t.wrong("two requests for slot %d at a time", a.Slot)
	case t.requests[a.Slot] > someRequests+int((t.now-max(t.judged.last, l.up))/(lookEvery/2)):
		t.wrong("tunnel %d asks for slot %d again and again", t.name, a.Slot)
	case !a.Give && !stays:
		t.wrong("tunnel %d takes slot %d, which it has left", t.name, a.Slot)
	case !a.Give && (!l.client || t.table.up[l.index] != l.id):
		t.wrong("slot %d goes to link %d.%d, which is not up", a.Slot, t.name, l.id)
	case !a.Give && s.holder == l.id && t.looking < t.granted[a.Slot]:
		t.wrong("tunnel %d takes slot %d again for what was seen before it was granted", t.name, a.Slot)
	case a.Give && !t.port && t.leads(t.slots[a.Slot]) && t.slots[a.Slot].link == l && stays && s.tries == 0:
		t.wrong("tunnel %d gives slot %d back, which serves", t.name, a.Slot)
	case a.Give && t.port && t.table.up[l.index] == l.id && stays:
		t.wrong("tunnel %d gives its port back, though the link is up that has it", t.name)
	}
}

// judgeTurn: t is about to have a slot.
func (t *simTunnel) judgeTurn(slot int, l *simLink, sent time.Duration, held bool) {
	own := t.slots[slot]
	if l.listens[slot]++; l.listens[slot] > mostListens {
		t.wrong("sshd keeps %d listeners of link %d.%d for slot %d", l.listens[slot], t.name, l.id, slot)
	}
	if own.nobody() || t.now < t.foreign || !own.tunnel.newerThan(t) {
		return // while nginx leads elsewhere nobody is led to either
	}
	if t.robbed[slot]++; t.robbed[slot] > mostTurns {
		t.wrong("slot %d is taken by turns: %d times by tunnel %d, from a newer one", slot, t.robbed[slot], t.name)
	}
	told := t.knows > 0 && own.tunnel.knows > 0 && own.link.silent == 0 &&
		max(t.knows, own.tunnel.knows, own.since, t.blind, t.foreign, own.tunnel.stopped) < sent
	if held && told && !t.port {
		t.wrong("tunnel %d takes slot %d from a newer one, which would have told", t.name, slot)
	}
}

// judgeReplaced: a tunnel that has just found that it is replaced must have had a newer one for a second.
func (t *simTunnel) judgeReplaced() {
	if !t.table.replaced {
		return
	}
	first, last := t.now, time.Duration(0)
	for _, o := range t.tunnels {
		if o.newerThan(t) {
			first = min(first, time.Duration(o.exposed)*time.Millisecond)
			if last = max(last, o.ended); o.ended == 0 {
				last = t.now
			}
		}
	}
	if last-first < lookSoon && (!t.port || last == 0) { // the mark on a port is proof
		t.wrong("tunnel %d is replaced by one that lived %v", t.name, last-first)
	}
}

// forgive: something has happened, and slots may change hands.
func (w *world) forgive() {
	w.judged.last = w.now
	for _, t := range w.tunnels {
		clear(t.robbed)
		clear(t.requests)
		for _, l := range t.links[1:] {
			clear(l.listens)
		}
	}
}
