// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"slices"
	"time"
)

// A simulated tunnel: its table of slots is the real one, its links and timers are not.

// process is what can be suspended. Tunnels that are opened in the place of each other share one.
type process struct{ stopped time.Duration }

type simTunnel struct {
	*world
	*process
	name      int
	exposed   int64         // by the proxy's clock
	knows     time.Duration // since when it knows that; 0: not yet
	closing   bool
	reopening bool          // another one is being opened in its place, or has it
	ceding    bool          // the slots are left to a newer one, which may fail
	ended     time.Duration // 0: not yet
	before    *simTunnel    // in whose place this one is being opened
	table     Table
	links     []*simLink // by linkID; the first is none
	asked     []LinkID   // by slot, of which link an answer is waited for
	planned   time.Duration
	wake      func()
	heir      *simTunnel // whose gate's memory this one has
	simGate
	wrongs
}

type simLink struct {
	id      LinkID
	index   int
	up      time.Duration // since when
	client  bool          // the tunnel has it
	leaves  bool          // another one has its place
	hears   bool          // a newer tunnel has asked at it
	server  bool          // the sshd process lives
	silent  time.Duration // since then nothing passes; 0: never
	deaf    bool          // what the proxy sends does arrive in spite of it
	order   time.Duration // when the last request that was sent arrives
	listens []int         // by slot: the listeners that sshd keeps for it
}

// expose opens a tunnel, as a process of its own unless one is given.
func (w *world) expose(p *process) *simTunnel {
	t := &simTunnel{world: w, process: p, name: len(w.tunnels), exposed: w.now.Milliseconds(), links: make([]*simLink, 1), asked: make([]LinkID, len(w.slots))}
	t.table = Table{exclusive: w.port, up: make([]LinkID, 2), slots: make([]slot, len(w.slots))}
	t.wake = func() { t.planned = 0; t.runs(func() { t.do(t.table.Settle(t.clock())) }) }
	t.wrongs = wrongs{robbed: make([]int, len(w.slots)), requests: make([]int, len(w.slots)), granted: make([]time.Duration, len(w.slots))}
	w.tunnels = append(w.tunnels, t)
	return t
}

func (t *simTunnel) isStopped() bool { return t.now < t.stopped }

// lives reports whether the tunnel serves visitors, or would.
func (t *simTunnel) lives() bool {
	return t.ended == 0 && !t.closing && !t.table.replaced && (!t.table.yielded || t.ceding) && len(t.links) > 1
}

func (t *simTunnel) newerThan(o *simTunnel) bool {
	return t.exposed > o.exposed || t.exposed == o.exposed && t.name > o.name
}

// runs calls f in t's process, later if that is suspended, never if it has ended.
func (t *simTunnel) runs(f func()) {
	switch {
	case t.ended > 0:
	case t.isStopped():
		t.after(t.stopped-t.now, func() { t.runs(f) })
	default:
		f()
		t.tick()
	}
}

// dial logs in.
func (t *simTunnel) dial(index int, renews bool) {
	t.after(t.between(50*time.Millisecond, simDial), func() {
		t.runs(func() {
			if t.before != nil && !t.before.table.yielded && t.ended == 0 {
				t.before.leaves(func() { t.arrived(index, renews) })
			} else {
				t.arrived(index, renews)
			}
		})
	})
}

func (t *simTunnel) arrived(index int, renews bool) {
	old := t.table.up[index]
	if t.ended > 0 || t.closing || t.table.replaced || t.table.yielded || old != 0 && !renews {
		return
	}
	t.opens()
	l := &simLink{id: LinkID(len(t.links)), index: index, up: t.now, client: true, server: true, listens: make([]int, len(t.slots))}
	t.links = append(t.links, l)
	for _, o := range t.links[1:] {
		switch {
		case o.leaves && o.index == index && o.client: // one at a time
			t.ends(o)
			t.lose(o)
		case o.id == old:
			o.leaves = true
		}
	}
	t.say("%d.%d is up in the place of %d", t.name, l.id, old)
	clear(t.requests)
	t.do(t.table.LinkUp(index, l.id, t.clock()))
}

// tick has the run loop look at its timers.
func (t *simTunnel) tick() {
	if t.ended > 0 {
		return
	}
	if t.table.Looks(t.clock()) {
		t.look()
	}
	at := t.table.Wake()
	if t.table.watches() && !t.table.looking {
		if at.IsZero() || t.table.lookAt.Before(at) {
			at = t.table.lookAt
		}
	}
	if at.IsZero() {
		return
	}
	due := max(at.Sub(epoch), t.now+time.Millisecond)
	if t.planned == 0 || due < t.planned {
		t.planned = due
		t.after(due-t.now, t.wake)
	}
}

// do has the links do what the table says, and closes those that it does not need any more.
func (t *simTunnel) do(acts []Act) {
	t.drains()
	for _, a := range acts {
		t.asks(a)
	}
	for _, l := range t.links[1:] {
		if l.leaves && l.client && !t.table.Uses(l.id) {
			l.leaves = false
			t.after(t.between(0, 5*time.Second), func() { t.ends(l); t.runs(func() { t.lose(l) }) })
		}
	}
	if t.closing && t.table.Quiet() {
		t.after(t.between(0, time.Second), t.end)
	}
}

func (t *simTunnel) asks(a Act) {
	l, sent, held := t.links[a.Link], t.now, t.table.held
	t.judgeAct(a, l)
	t.asked[a.Slot] = a.Link
	l.order = max(l.order, t.now+t.trip()) // of one connection nothing overtakes anything
	t.say("%d.%d %s slot %d", t.name, a.Link, map[bool]string{true: "gives", false: "takes"}[a.Give], a.Slot)
	t.after(l.order-t.now, func() {
		if !a.Look {
			t.serve(a, l, sent, held)
			return
		}
		t.looksFirst(a, l, sent, held)
	})
}

// looksFirst asks who has a slot before it is taken: once more when the process was suspended meanwhile.
func (t *simTunnel) looksFirst(a Act, l *simLink, sent time.Duration, held bool) {
	t.after(t.between(time.Millisecond, simFirst), func() {
		seen, another := t.see(a.Slot)
		then := t.now
		back := t.between(time.Millisecond, 100*time.Millisecond)
		t.after(back/2, func() {
			t.runs(func() {
				if !l.client || l.silent > 0 {
					return
				}
				switch t.hasSeen(seen, another, then); {
				case seen == Newer:
					t.answer(a, l, NotTaken)
				case t.now-then > 2*simFirst:
					t.looksFirst(a, l, sent, held)
				default:
					t.after(back-back/2, func() { t.serve(a, l, sent, held) })
				}
			})
		})
	})
}

func (t *simTunnel) answer(a Act, l *simLink, how Outcome) {
	t.after(t.trip(), func() {
		t.runs(func() {
			if l.silent > 0 || !l.client {
				return
			}
			t.asked[a.Slot] = 0
			if a.Give {
				t.do(t.table.Given(a.Slot, a.Link, t.clock()))
				return
			}
			t.say("%d.%d is told %d of slot %d", t.name, a.Link, how, a.Slot)
			if how == Took {
				if t.granted[a.Slot] = t.now; t.has < t.back {
					t.has = t.now
				}
			}
			if how == NotTaken && t.port { // its mark is proof
				t.do(t.table.Answered(a.Slot, a.Link, Refused, t.clock()))
				t.cedes()
				return
			}
			t.do(t.table.Answered(a.Slot, a.Link, how, t.clock()))
			if how == Refused && !t.port { // the link is of no use
				t.ends(l)
				t.lose(l)
			}
		})
	})
}

func (t *simTunnel) learns() {
	if t.knows == 0 {
		t.knows = t.now
	}
}

func (t *simTunnel) look() {
	began, seen := t.now, make([]Sight, len(t.slots))
	var over *simLink
	for _, id := range t.table.up {
		if id != 0 {
			over = t.links[id]
		}
	}
	took := t.between(2*time.Millisecond, time.Second)
	if t.now < t.slow || over.silent > 0 {
		took = t.between(2*time.Millisecond, simAsk)
	}
	for i := range seen {
		t.after(t.between(time.Millisecond, took), func() {
			if over.silent == 0 && over.server {
				var another bool
				seen[i], another = t.see(i)
				then := t.now
				t.after(t.way(), func() {
					t.runs(func() {
						if over.client && over.silent == 0 {
							t.hasSeen(seen[i], another, then)
						}
					})
				})
			} else {
				t.hindered = t.now
			}
		})
	}
	t.after(took+time.Millisecond, func() {
		if slices.Contains(seen, Silent) {
			t.after(simAsk-took, func() { t.looked(began, seen) })
		} else {
			t.looked(began, seen)
		}
	})
}

func (t *simTunnel) looked(began time.Duration, seen []Sight) {
	t.runs(func() {
		t.say("%d has seen %v", t.name, seen)
		t.looking = began
		acts := t.table.Looked(epoch.Add(began), seen, t.clock())
		t.hasLooked(began, seen)
		t.do(acts)
		t.judgeReplaced()
	})
}

// kill ends a link, of which both ends learn. The file of a socket stays, and nobody answers there.
func (t *simTunnel) kill(l *simLink) {
	t.ends(l)
	t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.runs(func() { t.lose(l) }) })
}

// lose has the tunnel learn that a link has ended.
func (t *simTunnel) lose(l *simLink) {
	if !l.client {
		return
	}
	l.client = false
	for i, id := range t.asked {
		if id == l.id {
			t.asked[i] = 0
		}
	}
	t.say("%d.%d is lost", t.name, l.id)
	clear(t.requests)
	t.do(t.table.LinkLost(l.id, t.clock()))
	if t.before != nil && !slices.ContainsFunc(t.table.up, func(id LinkID) bool { return id != 0 }) {
		t.before.resumes()
	}
	if t.table.up[l.index] == 0 {
		t.dial(l.index, false)
	}
}

// leaves has a tunnel yield to another of its process, which goes on when it has, or after two seconds.
func (t *simTunnel) leaves(then func()) {
	t.say("%d yields", t.name)
	t.do(t.table.Yield(t.clock()))
	over := t.now + yieldSim
	var wait func()
	wait = func() {
		if held, _ := t.table.Holding(); t.ended > 0 || held == 0 || !t.port || t.now > over {
			then()
		} else {
			t.after(20*time.Millisecond, func() { t.runs(wait) })
		}
	}
	wait()
}

const yieldSim = 2 * time.Second

func (t *simTunnel) resumes() {
	if t.ended > 0 || t.closing || t.table.replaced || !t.table.yielded {
		t.table.yielded = false
		return
	}
	t.say("%d resumes", t.name)
	clear(t.granted)
	t.do(t.table.Resume(t.clock()))
	for index := range t.table.up {
		t.dial(index, false)
	}
	t.tick()
}

// close gives the slots back, and ends when that is done, or after a while.
func (t *simTunnel) close() {
	if !t.closing {
		t.closing = true
		t.after(5*time.Second, t.end)
		t.do(t.table.Leave(t.clock()))
	}
}

// end ends a tunnel and its links. The file of a socket stays.
func (t *simTunnel) end() {
	if t.ended > 0 {
		return
	}
	t.say("%d has ended", t.name)
	t.ended = t.now
	for _, l := range t.links[1:] {
		l.client = false
		t.ends(l)
	}
	if t.before != nil {
		t.before.runs(t.before.resumes)
	}
}
