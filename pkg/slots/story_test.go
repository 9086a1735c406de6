// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// story is what happens to the simulated tunnels. As text it is one happening a line: "2.765s stop 0 5.1s".
type story struct {
	slots int // 0: a port
	all   []happening
}

type happening struct {
	at    time.Duration
	what  string
	on    int           // a tunnel, by its number
	link  int           // one of its links, by index
	lasts time.Duration // for those that last
}

// happenings: how often each is told of, and what comes after its name.
var happenings = []struct {
	what             string
	weight           int
	on, link, lasts  bool
	socket, exposing bool
}{
	{what: "expose", weight: 6, exposing: true},
	{what: "reopen", weight: 2, on: true, exposing: true},        // another tunnel is opened in its place
	{what: "reopen-fails", weight: 2, on: true, exposing: true},  // and fails after a while
	{what: "kill", weight: 6, on: true, link: true},              // both ends learn
	{what: "mute", weight: 4, on: true, link: true, lasts: true}, // nothing passes any more; sshd notices after that time
	{what: "reconnect", weight: 3, on: true},                     // new links take over from those that are there
	{what: "stop", weight: 4, on: true, lasts: true},             // the process is suspended
	{what: "close", weight: 2, on: true},
	{what: "die", weight: 1, on: true},
	{what: "wipe", weight: 3, socket: true},   // the files of the sockets are removed
	{what: "foreign", weight: 1, lasts: true}, // nginx leads elsewhere
	{what: "blind", weight: 1, lasts: true},   // it cannot be asked who answers
	{what: "deny", weight: 1, lasts: true},    // sshd refuses
	{what: "slow", weight: 1, lasts: true},    // everything takes up to 3 s
}

const mostTunnels = 4

// tell makes a story up.
func tell(seed uint64) (s story) {
	r := rand.New(rand.NewPCG(seed, 1))
	if s.slots = 1 + r.IntN(4); r.IntN(4) == 0 {
		s.slots = 0
	}
	s.all = append(s.all, happening{what: "expose"})
	weights, tunnels, at := 0, 1, time.Duration(0)
	for _, h := range happenings {
		weights += h.weight
	}
	for range 1 + r.IntN(12) {
		gap := []time.Duration{200 * time.Millisecond, 3 * time.Second, 15 * time.Second}[r.IntN(3)]
		at += time.Duration(r.Int64N(int64(gap))).Truncate(time.Millisecond)
		n, kind := r.IntN(weights), 0
		for n >= happenings[kind].weight {
			n -= happenings[kind].weight
			kind++
		}
		k := happenings[kind]
		h := happening{at: at, what: k.what}
		if k.exposing {
			if tunnels++; tunnels > mostTunnels {
				continue
			}
		}
		if k.socket && s.slots == 0 {
			continue
		}
		if k.on {
			h.on = r.IntN(min(tunnels, mostTunnels))
			if k.exposing {
				h.on = r.IntN(tunnels - 1)
			}
		}
		if k.link {
			h.link = r.IntN(2)
		}
		if k.lasts {
			h.lasts = time.Second + time.Duration(r.Int64N(int64(20*time.Second))).Truncate(time.Millisecond)
			if r.IntN(8) == 0 {
				h.lasts *= 10
			}
			if k.what == "stop" {
				h.lasts = min(h.lasts, 60*time.Second)
			}
			if k.what == "mute" {
				h.lasts = simStale
				if r.IntN(2) == 0 { // a program of root's ends it
					h.lasts = 2*time.Second + time.Duration(r.Int64N(int64(3*time.Second))).Truncate(time.Millisecond)
				}
			}
		}
		s.all = append(s.all, h)
	}
	return s
}

// kindOf finds what comes after the name of a happening.
func kindOf(what string) int {
	for i, k := range happenings {
		if k.what == what {
			return i
		}
	}
	panic(what)
}

func (s story) String() string {
	text := fmt.Sprintf("slots %d\n", s.slots)
	for _, h := range s.all {
		k := happenings[kindOf(h.what)]
		text += fmt.Sprintf("%v %s", h.at, h.what)
		if k.on {
			text += fmt.Sprintf(" %d", h.on)
		}
		if k.link {
			text += fmt.Sprintf(" %d", h.link)
		}
		if k.lasts {
			text += fmt.Sprintf(" %v", h.lasts)
		}
		text += "\n"
	}
	return text
}

// read reads what String writes.
func read(text string) (s story) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		words := strings.Fields(line)
		word := func() (next string) {
			next, words = words[0], words[1:]
			return next
		}
		number := func() int {
			n, err := strconv.Atoi(word())
			if err != nil {
				panic(err)
			}
			return n
		}
		duration := func() time.Duration {
			d, err := time.ParseDuration(word())
			if err != nil {
				panic(err)
			}
			return d
		}
		if words[0] == "slots" {
			word()
			s.slots = number()
			continue
		}
		h := happening{at: duration(), what: word()}
		k := happenings[kindOf(h.what)]
		if k.on {
			h.on = number()
		}
		if k.link {
			h.link = number()
		}
		if k.lasts {
			h.lasts = duration()
		}
		s.all = append(s.all, h)
	}
	return s
}

// play plays a story with delays from a seed, and returns what was wrong, "" for nothing.
func (s story) play(seed uint64, trace func(string, ...any)) string {
	n := max(s.slots, 1)
	w := &world{Rand: rand.New(rand.NewPCG(seed, 2)), now: time.Second, port: s.slots == 0, slots: make([]simSlot, n), trace: trace, due: make([]event, 0, 64)}
	w.judged = judged{next: w.now, lost: make([]time.Duration, n), empty: make([]time.Duration, n)}
	w.visitors.Rand = rand.New(rand.NewPCG(seed, 3))
	defer w.visitors.count()
	w.visitors.alone = !slices.ContainsFunc(s.all[min(1, len(s.all)):], func(h happening) bool { return h.what != "kill" && h.what != "mute" && h.what != "reconnect" })
	if s.slots > 0 {
		w.arrives(time.Second + s.all[len(s.all)-1].at + 10*time.Second)
	}
	for _, h := range s.all {
		w.run(time.Second + h.at)
		if w.judged.wrong != "" {
			return w.judged.wrong
		}
		w.happens(h)
	}
	w.run(w.judged.calm + settled + 2*tardily)
	if seed%4 != 0 { // what comes now takes most of the time
		return w.judged.wrong
	}
	w.judged.acts = 0
	w.run(w.now + quietFor)
	if w.judged.acts > quietActs*n {
		w.wrong("the slots are not left alone: %d requests in %v", w.judged.acts, quietFor)
	}
	return w.judged.wrong
}

// happens has something happen. It is over when the links that it costs are back.
func (w *world) happens(h happening) {
	over := simDial
	w.say("%s %d %d %v", h.what, h.on, h.link, h.lasts)
	w.forgive()
	var t *simTunnel
	if h.on < len(w.tunnels) {
		t = w.tunnels[h.on]
	}
	switch h.what {
	case "expose":
		t = w.expose(&process{})
		t.dial(0, false)
		t.dial(1, false)
	case "wipe":
		clear(w.slots)
		w.judged.wiped = w.now
	case "foreign":
		w.foreign, over = max(w.foreign, w.now+h.lasts), h.lasts
		w.reloads()
	case "blind":
		w.blind, over = max(w.blind, w.now+h.lasts), h.lasts
	case "deny":
		w.denied, over = max(w.denied, w.now+h.lasts), h.lasts+simDial+15*time.Second
	case "slow":
		w.slow, over = max(w.slow, w.now+h.lasts), h.lasts+2*simAsk
	default:
		if t == nil || t.ended > 0 {
			return
		}
		over = w.befalls(t, h)
	}
	if w.judged.calm < w.now+over {
		w.judged.calm = w.now + over
	}
}

// befalls has something happen to one tunnel, and returns when it is over.
func (w *world) befalls(t *simTunnel, h happening) time.Duration {
	id := t.table.up[h.link]
	switch h.what {
	case "kill":
		if id != 0 {
			t.kill(t.links[id])
		}
	case "mute":
		if l := t.links[id]; id != 0 && l.silent == 0 {
			l.silent = w.now
			w.after(simSilence, func() { t.runs(func() { t.lose(l) }) })
			l.deaf = w.visitors.IntN(3) == 0
			w.after(h.lasts, func() { t.ends(l) })
			return simSilence + simDial
		}
	case "reconnect":
		t.runs(func() {
			t.table.replaced, t.table.newer = false, time.Time{}
			t.dial(0, true)
			t.dial(1, true)
		})
	case "stop":
		t.stopped = max(t.stopped, w.now+h.lasts)
		until := t.stopped
		w.after(until-w.now, w.forgive)
		w.after(simAlive+w.visitors.span(0, 10*time.Second), func() { w.notices(t.process, until) })
		return h.lasts + simDial
	case "close":
		t.runs(t.close)
		return 5 * time.Second
	case "die":
		t.end()
	case "reopen", "reopen-fails":
		return w.reopens(t, h.what == "reopen")
	}
	return simDial
}

// notices: sshd has not heard of a process for long.
func (w *world) notices(p *process, until time.Duration) {
	for _, t := range w.tunnels {
		for _, l := range t.links[1:] {
			if t.process == p && w.now < until && l.server && l.up < w.now-simAlive {
				t.kill(l)
			}
		}
	}
}

// reopens opens a tunnel in the place of another. That it holds is seen after a while, or it fails then.
func (w *world) reopens(t *simTunnel, holds bool) time.Duration {
	if t.closing || t.isStopped() || t.reopening {
		return 0
	}
	next := w.expose(t.process)
	next.heir = t
	next.before, t.reopening = t, true
	if next.before.table.replaced {
		next.before = nil
	}
	next.dial(0, false)
	next.dial(1, false)
	w.after(w.between(simDial, 2*simDial), func() {
		next.runs(func() {
			held, _ := next.table.Holding()
			next.before = nil
			if holds && held > 0 {
				t.after(HandOver, func() { t.runs(t.close) })
				return
			}
			t.reopening = false
			next.do(next.table.Yield(next.clock()))
			t.runs(t.resumes)
			next.end()
		})
	})
	return 2*simDial + yieldSim + 5*time.Second
}

// A tunnel that came and went between two looks of an older one has begun a request, and the proxy sends it again by a
// connection to the older one that it has kept: that one looks before it begins any.
func TestATunnelBetweenTwoLooks(t *testing.T) {
	for _, seed := range []uint64{68479, 69060, 69337} {
		if wrong := tell(seed).play(seed, nil); wrong != "" {
			t.Errorf("seed %d: %s", seed, wrong)
		}
	}
}

// The newest tunnel gets every visitor, the others know that they are replaced, and no tunnel shows up while its visitors
// are elsewhere, whatever happens. TAIPY_TUNNEL_SEEDS says which stories are made up: "from-to", or one, which is traced.
func TestSlotsSimulated(t *testing.T) {
	from, to := uint64(0), uint64(10_000)
	if text := os.Getenv("TAIPY_TUNNEL_SEEDS"); text != "" {
		first, last, both := strings.Cut(text, "-")
		var err, err2 error
		if from, err = strconv.ParseUint(first, 10, 64); both {
			to, err2 = strconv.ParseUint(last, 10, 64)
		} else {
			to = from + 1
			t.Log(told(tell(from), from))
		}
		if err != nil || err2 != nil {
			t.Fatalf("TAIPY_TUNNEL_SEEDS=%q", text)
		}
	}
	var bad atomic.Int32
	shards := uint64(runtime.GOMAXPROCS(0))
	for shard := range shards {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for seed := from + shard; seed < to && bad.Load() < 3; seed += shards {
				if s := tell(seed); s.play(seed, nil) != "" {
					bad.Add(1)
					t.Errorf("seed %d: %s", seed, told(s, seed))
				}
			}
		})
	}
	t.Cleanup(func() {
		t.Log(countsText())
		ran, refused := counted[ranAlone].Load(), counted[refusedAlone].Load()
		if to-from >= 10_000 && (ran < 10 || refused > ran/2) { // it would be safe to begin nothing twice that way
			t.Errorf("of a tunnel that is alone %d ran when sent again, and %d were refused that never began", ran, refused)
		}
	})
}

// told is a story and what happened in it.
func told(s story, seed uint64) string {
	lines := []string{""}
	wrong := s.play(seed, func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
	return wrong + "\n" + s.String() + strings.Join(lines, "\n")
}
