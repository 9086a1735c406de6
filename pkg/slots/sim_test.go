// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The table of slots is simulated, in virtual time: tunnels of one name and a proxy with its sockets and sshd processes.
// What happens to them is a story (story_test.go), and every delay is drawn from a seed. Rules are held
// to as the time passes (judge_test.go). FoundationDB and TigerBeetle test such code so.

const (
	simDial    = 2 * time.Second        // the longest login
	simSilence = 2 * time.Second        // a tunnel notices so soon that a link has gone silent
	simStale   = 75 * time.Second       // sshd does so late
	simFirst   = 300 * time.Millisecond // for how long one waits that comes before a take
	simAsk     = 3 * time.Second        // for how long a question waits (probe.Question.Timeout)
)

// world is the proxy, and the time.
type world struct {
	*rand.Rand
	now      time.Duration
	due      []event // a heap
	orders   int
	port     bool // one exclusive slot
	slots    []simSlot
	tunnels  []*simTunnel
	slow     time.Duration // until then everything takes long
	blind    time.Duration // until then it cannot be asked who answers
	denied   time.Duration // until then sshd refuses every request
	foreign  time.Duration // until then nginx leads elsewhere
	judged   judged
	visitors visitors
	trace    func(format string, args ...any) // nil: none
}

// simSlot is who gets the visitors of a slot. The zero value: nobody, and nginx answers 502.
type simSlot struct {
	tunnel *simTunnel
	link   *simLink
	since  time.Duration
}

// nobody reports whether no process listens there.
func (s simSlot) nobody() bool { return s.link == nil || !s.link.server }

// silent reports whether what is sent there arrives nowhere, for now.
func (s simSlot) silent() bool { return s.link.silent > 0 || s.tunnel.isStopped() }

type event struct {
	at    time.Duration
	order int
	do    func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// after has do called after that time. container/heap would allocate for each.
func (w *world) after(d time.Duration, do func()) {
	w.orders++
	w.due = append(w.due, event{w.now + d, w.orders, do})
	for i := len(w.due) - 1; i > 0 && w.due[i].before(&w.due[(i-1)/2]); i = (i - 1) / 2 {
		w.due[i], w.due[(i-1)/2] = w.due[(i-1)/2], w.due[i]
	}
}

// next returns what is due next.
func (w *world) next() event {
	first, last := w.due[0], len(w.due)-1
	w.due[0] = w.due[last]
	w.due[last] = event{}
	w.due = w.due[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if w.due[c].before(&w.due[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		w.due[i], w.due[least] = w.due[least], w.due[i]
		i = least
	}
}

// run runs what is due until then, and judges it.
func (w *world) run(until time.Duration) {
	for w.judged.wrong == "" {
		at := min(until, w.judged.next)
		if len(w.due) > 0 && w.due[0].at <= at {
			e := w.next()
			w.now = e.at
			e.do()
			continue
		}
		w.now = at
		if at == w.judged.next {
			w.judgeAll()
			w.judged.next += judgeEvery
		} else {
			return
		}
	}
}

var epoch = time.Unix(1e9, 0)

func (w *world) clock() time.Time { return epoch.Add(w.now) }

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.Int64N(int64(1+most-least)))
}

// trip is how long a message is on the way.
func (w *world) trip() time.Duration {
	if w.now < w.slow {
		return w.between(time.Millisecond, simAsk)
	}
	return w.between(time.Millisecond, 150*time.Millisecond)
}

func (w *world) say(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%9.3f ", w.now.Seconds())+format, args...)
	}
}

// serve is what sshd does with a request. What was sent before a link went silent arrives. held: the tunnel had slots
// then.
func (t *simTunnel) serve(a Act, l *simLink, sent time.Duration, held bool) {
	if !l.server || l.silent > 0 && l.silent < sent {
		return
	}
	own, how := &t.slots[a.Slot], Took
	switch {
	case a.Give:
		l.listens[a.Slot] = 0
		if own.link == l {
			*own = simSlot{}
			t.judgeAll()
		}
	case t.now < t.denied:
		how = Refused
	case t.port && !own.nobody() && own.link != l:
		how = Refused
		switch { // its mark says whose it is: it is ended, or asked to leave, and the port asked for again
		case own.tunnel == t && !own.link.client:
			t.kill(own.link)
			t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.serve(a, l, sent, held) })
			return
		case own.tunnel != t && t.newerThan(own.tunnel):
			own.tunnel.hears(own.link)
			t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.serve(a, l, sent, held) })
			return
		case own.tunnel.newerThan(t):
			how = NotTaken
		}
	default:
		t.judgeTurn(a.Slot, l, sent, held)
		*own = simSlot{t, l, t.now}
		t.judgeAll()
	}
	t.answer(a, l, how)
}

// see is who answers at a slot, and whether that is another tunnel, which learns of this one so.
func (t *simTunnel) see(slot int) (seen Sight, another bool) {
	own := t.slots[slot]
	switch {
	case t.now < t.blind:
		return Unknown, false
	case own.nobody() || t.now < t.foreign:
		t.learns() // nginx tells the time
		if t.now < t.foreign {
			return Foreign, false
		}
		return Nobody, false
	case own.silent():
		t.judged.tardy = t.now
		if own.tunnel.isStopped() { // the question waits there
			own.tunnel.runs(func() {
				if own.link.server && own.link.silent == 0 && own.tunnel != t {
					own.tunnel.isAsked()
				}
			})
		}
		return Silent, false
	case own.tunnel == t:
		t.learns()
		return Ours, false
	}
	t.after(0, func() {
		own.tunnel.runs(func() {
			own.tunnel.isAsked()
			t.missed = slices.DeleteFunc(t.missed, func(o *simTunnel) bool { return o == own.tunnel })
			own.tunnel.missed = slices.DeleteFunc(own.tunnel.missed, func(o *simTunnel) bool { return o == t })
		})
	})
	knew := t.knows > 0
	t.learns()
	switch {
	case !knew || own.tunnel.knows == 0:
		t.judged.tardy = t.now
		return Unknown, true
	case own.tunnel.newerThan(t):
		return Newer, true
	}
	return Older, true
}

// isAsked: a question of another tunnel has come.
func (t *simTunnel) isAsked() {
	t.memory.Share(t.clock())
	t.table.Asked(t.clock())
}
