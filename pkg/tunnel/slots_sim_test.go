// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The table of slots is simulated: tunnels of one name, a proxy with its sockets and sshd processes, and what
// happens to them, in virtual time, from a seed. FoundationDB and TigerBeetle test such code so.

// world is the proxy, and the time.
type world struct {
	*rand.Rand
	now     time.Time
	due     events
	sockets []socketOwner // by slot
	tunnels []*simTunnel
	port    bool // one exclusive slot
	takes   int
	removed int
	log     []func() string
}

// socketOwner is who gets the visitors of a slot. The zero value: nobody, and nginx answers 502.
type socketOwner struct {
	tunnel *simTunnel
	link   linkID
}

type simTunnel struct {
	*world
	name    int
	exposed int64 // by the proxy's clock
	knows   bool  // its own time
	closed  bool
	stopped time.Time // until then the process does not run
	table   slotTable
	links   map[linkID]*simLink
	last    linkID
}

type simLink struct {
	index  int
	client bool // the tunnel has it
	server bool // the sshd process lives
	silent bool // nothing passes
	order  time.Time
}

type event struct {
	at time.Time
	do func()
}
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) { heap.Push(&w.due, event{w.now.Add(d), do}) }

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.Int64N(int64(1+most-least)))
}

func (w *world) say(format string, args ...any) {
	at := w.now.Sub(epoch).Seconds()
	w.log = append(w.log, func() string { return fmt.Sprintf("\n%8.3f ", at) + fmt.Sprintf(format, args...) })
}

var epoch = time.Unix(1e9, 0)

// run runs what is due until then.
func (w *world) run(until time.Time) {
	for len(w.due) > 0 && !w.due[0].at.After(until) {
		e := heap.Pop(&w.due).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// expose opens a tunnel.
func (w *world) expose() *simTunnel {
	t := &simTunnel{world: w, name: len(w.tunnels), exposed: w.now.UnixMilli(), links: map[linkID]*simLink{}}
	t.table = slotTable{exclusive: w.port, up: make([]linkID, 2), slots: make([]slot, len(w.sockets))}
	w.tunnels = append(w.tunnels, t)
	w.say("expose %d", t.name)
	t.dial(0)
	t.dial(1)
	return t
}

// runs calls f in t's process, later if that is stopped, never if it has ended.
func (t *simTunnel) runs(f func()) {
	switch {
	case t.closed:
	case t.now.Before(t.stopped):
		t.after(t.stopped.Sub(t.now), func() { t.runs(f) })
	default:
		f()
		t.tick()
	}
}

func (t *simTunnel) dial(index int) {
	t.after(t.between(50*time.Millisecond, 2*time.Second), func() {
		t.runs(func() {
			if t.table.replaced || t.table.up[index] != 0 {
				return
			}
			t.last++
			id := t.last
			t.links[id] = &simLink{index: index, client: true, server: true}
			t.do(t.table.linkUp(index, id, t.now))
		})
	})
}

// tick has the run loop look at its timers.
func (t *simTunnel) tick() {
	if t.table.looks(t.now) {
		t.look()
	}
	at := t.table.wake()
	if t.table.watches() && !t.table.looking && (at.IsZero() || t.table.lookAt.Before(at)) {
		at = t.table.lookAt
	}
	if !at.IsZero() {
		t.after(max(at.Sub(t.now), time.Millisecond), func() {
			t.runs(func() { t.do(t.table.settle(t.now)) })
		})
	}
}

func (t *simTunnel) do(acts []act) {
	for _, a := range acts {
		l := t.links[a.link]
		t.takes++
		at := t.now.Add(t.between(time.Millisecond, 150*time.Millisecond))
		if at.Before(l.order) {
			at = l.order // of one connection nothing overtakes anything
		}
		l.order = at
		if a.look {
			at = at.Add(t.between(time.Millisecond, 300*time.Millisecond))
			t.after(at.Sub(t.now), func() {
				if t.see(a.slot) == newer {
					t.answer(a, l, notTaken)
				} else {
					t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.serve(a, l) })
				}
			})
			continue
		}
		t.after(at.Sub(t.now), func() { t.serve(a, l) })
	}
}

// serve is what sshd does with a request.
func (t *simTunnel) serve(a act, l *simLink) {
	if !l.server || l.silent {
		return
	}
	own := &t.sockets[a.slot]
	how := took
	switch {
	case a.give && own.tunnel == t && own.link == a.link:
		*own = socketOwner{}
	case a.give:
	case t.port && own.tunnel != nil && own.tunnel.links[own.link].server:
		how = refused
		if own.tunnel != t && t.newerThan(own.tunnel) { // its mark: it is ended
			own.tunnel.kill(own.link)
			t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.serve(a, l) })
			return
		}
		if own.tunnel == t && !own.tunnel.links[own.link].client { // our own stale link
			own.tunnel.kill(own.link)
			t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.serve(a, l) })
			return
		}
		if own.tunnel.newerThan(t) {
			how = notTaken
		}
	default:
		*own = socketOwner{t, a.link}
	}
	t.answer(a, l, how)
}

func (t *simTunnel) answer(a act, l *simLink, how outcome) {
	t.after(t.between(time.Millisecond, 150*time.Millisecond), func() {
		t.runs(func() {
			switch {
			case l.silent || !l.client:
			case a.give:
				t.do(t.table.given(a.slot, a.link, t.now))
			default:
				t.do(t.table.answered(a.slot, a.link, how, t.now))
			}
		})
	})
}

// see is who answers at a slot.
func (t *simTunnel) see(slot int) sight {
	own := t.sockets[slot]
	switch {
	case own.tunnel == nil:
		return nobody
	case !own.tunnel.links[own.link].server:
		return nobody
	case own.tunnel.links[own.link].silent, t.now.Before(own.tunnel.stopped):
		return silent
	case own.tunnel == t:
		return ours
	}
	t.after(0, func() { own.tunnel.runs(func() { own.tunnel.table.asked(t.now) }) })
	switch {
	case !t.knows || !own.tunnel.knows:
		return unknown
	case own.tunnel.newerThan(t):
		return newer
	}
	return older
}

func (t *simTunnel) newerThan(o *simTunnel) bool {
	return t.exposed > o.exposed || t.exposed == o.exposed && t.name > o.name
}

func (t *simTunnel) look() {
	began, seen := t.now, make([]sight, len(t.sockets))
	over := slices.ContainsFunc(t.table.up, func(l linkID) bool { return l != 0 && !t.links[l].silent })
	took := t.between(2*time.Millisecond, time.Second)
	for i := range seen {
		t.after(t.between(time.Millisecond, took), func() { seen[i] = t.see(i) })
	}
	t.after(took+time.Millisecond, func() {
		t.runs(func() {
			t.knows = t.knows || over
			if !over {
				clear(seen)
			}
			t.do(t.table.looked(began, seen, t.now))
		})
	})
}

// kill ends a link, of which both ends learn.
func (t *simTunnel) kill(id linkID) {
	l := t.links[id]
	l.server = false
	for i, own := range t.sockets {
		if own.tunnel == t && own.link == id {
			t.sockets[i] = socketOwner{t, id} // the file stays, and nobody answers
		}
	}
	t.after(t.between(time.Millisecond, 100*time.Millisecond), func() { t.runs(func() { t.lose(id) }) })
}

func (t *simTunnel) lose(id linkID) {
	l := t.links[id]
	if !l.client {
		return
	}
	l.client = false
	t.do(t.table.linkLost(id, t.now))
	if !t.table.replaced {
		t.dial(l.index)
	}
}

// mute has a link go silent: the tunnel notices in two seconds, sshd much later.
func (t *simTunnel) mute(id linkID) {
	l := t.links[id]
	if l.silent || !l.client {
		return
	}
	l.silent = true
	t.after(2*time.Second, func() { t.runs(func() { t.lose(id) }) })
	t.after(75*time.Second, func() { l.server = false })
}

func (t *simTunnel) close() {
	t.say("close %d", t.name)
	t.closed = true
	for id, l := range t.links {
		l.client, l.server = false, false
		for i, own := range t.sockets {
			if own.tunnel == t && own.link == id && t.port {
				t.sockets[i] = socketOwner{}
			}
		}
	}
}

func (t *simTunnel) anyLink() linkID {
	up := slices.DeleteFunc(slices.Clone(t.table.up), func(l linkID) bool { return l == 0 })
	if len(up) == 0 {
		return 0
	}
	return up[t.IntN(len(up))]
}

// happen has something happen.
func (w *world) happen() {
	t := w.tunnels[w.IntN(len(w.tunnels))]
	switch id := t.anyLink(); w.IntN(9) {
	case 0, 1:
		if len(w.tunnels) < 3 {
			w.expose()
		}
	case 2, 3:
		if id != 0 && !t.closed {
			w.say("kill %d.%d", t.name, id)
			t.kill(id)
		}
	case 4:
		if id != 0 && !t.closed {
			w.say("mute %d.%d", t.name, id)
			t.mute(id)
		}
	case 5:
		if w.removed++; w.removed < 3 && !w.port {
			w.say("sockets removed")
			clear(w.sockets)
		}
	case 6:
		if w.IntN(3) == 0 {
			t.close()
		}
	case 7:
		if !t.closed {
			if until := w.now.Add(w.between(time.Second, 20*time.Second)); until.After(t.stopped) {
				t.stopped = until
			}
			w.say("stop %d until %.3f", t.name, t.stopped.Sub(epoch).Seconds())
		}
	case 8:
		if id != 0 && !t.closed { // reconnect(): another link in the place of one that is still there
			index := t.links[id].index
			w.say("renew %d.%d", t.name, id)
			t.after(w.between(50*time.Millisecond, 2*time.Second), func() {
				t.runs(func() {
					if t.table.up[index] != id || t.table.replaced {
						return
					}
					t.last++
					t.links[t.last] = &simLink{index: index, client: true, server: true}
					t.do(t.table.linkUp(index, t.last, t.now))
					t.after(5*time.Second, func() {
						t.links[id].server = false
						t.runs(func() {
							t.links[id].client = false
							t.do(t.table.linkLost(id, t.now))
						})
					})
				})
			})
		}
	}
}

// simulate runs one history and returns what is wrong at its end.
func simulate(seed uint64) (w *world, wrong string) {
	w = &world{Rand: rand.New(rand.NewPCG(seed, 1)), now: epoch}
	w.sockets = make([]socketOwner, 1+w.IntN(4))
	if w.port = w.IntN(4) == 0; w.port {
		w.sockets = w.sockets[:1]
	}
	w.expose()
	for range 1 + w.IntN(12) {
		w.run(w.now.Add(w.between(0, []time.Duration{200 * time.Millisecond, 3 * time.Second, 15 * time.Second}[w.IntN(3)])))
		w.happen()
	}
	last := w.now
	for _, t := range w.tunnels {
		if t.stopped.After(last) {
			last = t.stopped
		}
	}
	w.run(last.Add(2*time.Second + 2*time.Second + time.Second + 10*time.Second)) // a silent link is noticed, another one made, its slots taken; then
	if wrong = w.judge(); wrong != "" {
		return w, wrong
	}
	before, takes := slices.Clone(w.sockets), w.takes
	w.run(w.now.Add(100 * time.Second))
	if wrong = w.judge(); wrong == "" && (!slices.Equal(before, w.sockets) || w.takes-takes > 2*len(w.sockets)) {
		wrong = fmt.Sprintf("the slots are not left alone: %d requests in 100 s", w.takes-takes)
	}
	return w, wrong
}

// judge compares what is with what should be.
func (w *world) judge() string {
	var newest *simTunnel
	for _, t := range w.tunnels {
		if !t.closed && !t.table.replaced {
			newest = t
		}
	}
	for _, t := range w.tunnels {
		if t.table.replaced && t == w.tunnels[len(w.tunnels)-1] {
			return fmt.Sprintf("tunnel %d, the newest of all, is replaced", t.name)
		}
		if !t.closed && !t.table.replaced && t != newest {
			return fmt.Sprintf("tunnel %d does not know that it is replaced", t.name)
		}
	}
	if newest == nil {
		return ""
	}
	for i, own := range w.sockets {
		if own.tunnel != newest || !newest.links[own.link].server || newest.links[own.link].silent {
			return fmt.Sprintf("slot %d is not the newest tunnel's (%d): %+v", i, newest.name, newest.table)
		}
		if s := newest.table.slots[i]; s.holder != own.link || s.seen.astray() {
			return fmt.Sprintf("slot %d is %d's by link %d, and it knows of link %d, seen %d", i, newest.name, own.link, s.holder, s.seen)
		}
	}
	return ""
}

// After whatever happened the newest tunnel has every slot within 10 s, the others know that they are replaced, and
// nothing is taken by turns. TAIPY_TUNNEL_SEEDS says how many histories to run, "from-to" or one.
func TestSlotsSimulated(t *testing.T) {
	from, to := uint64(0), uint64(10_000)
	if text := os.Getenv("TAIPY_TUNNEL_SEEDS"); text != "" {
		first, last, both := strings.Cut(text, "-")
		from, _ = strconv.ParseUint(first, 10, 64)
		if to = from + 1; both {
			to, _ = strconv.ParseUint(last, 10, 64)
		}
	}
	bad := 0
	for seed := from; seed < to; seed++ {
		if w, wrong := simulate(seed); wrong != "" {
			story := ""
			for _, line := range w.log {
				story += line()
			}
			t.Errorf("seed %d: %s%s", seed, wrong, story)
			if bad++; bad == 3 {
				return
			}
		}
	}
}
