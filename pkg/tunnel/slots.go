// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"slices"
	"time"
)

// Which link serves which slot. A slot is one listening end on the proxy to which nginx sends visitors. A tunnel knows of
// it what was answered and what was seen, never what it asked for. The run loop alone holds the table; links listen, stop
// and report. The table is a function of state and event: it has no clock and waits for nothing, so that it can be simulated.

// linkID is the number of a link, from 1 on; 0 is none.
type linkID int

// slot is what is known of one slot, and what was asked about it.
type slot struct {
	holder linkID    // the link to which sshd granted it last, as far as this tunnel knows; 0: none of this tunnel's
	stale  []linkID  // links that still listen there, and reach nobody new; not on a port
	op     op        // asked and not answered yet: one at a time, so that none overtakes another
	since  time.Time // of the last answer
	seen   sight     // by the last look that saw anything
	silent int       // looks in a row that saw nothing
	again  bool      // it is to be taken although a link of ours has it: visitors are not led here
	tries  int       // of that, in a row
	fails  int       // refusals in a row
	next   time.Time // not before then
}

type op struct {
	link linkID
	give bool
}

// sight is what a look at a slot saw.
type sight int

const (
	unknown sight = iota // it could not be asked, or told
	silent               // no answer in the time there was
	ours
	older   // another tunnel, exposed before this one
	newer   // another tunnel, exposed after this one
	nobody  // nginx itself: it reached no one there
	foreign // something else
)

// astray: visitors who come by that slot are not led here.
func (s sight) astray() bool { return s > ours }

// outcome is how a take ended.
type outcome int

const (
	took     outcome = iota
	notTaken         // a newer tunnel answers there
	refused
)

// act is what a link is to do.
type act struct {
	slot int
	link linkID
	give bool // else it takes the slot
	look bool // before it takes: a newer tunnel may have it
}

const (
	// handOver is how long a link that had a slot keeps listening after another one has taken it: those who wait in
	// its queue are still served. Giving it back at once lost 106 of 7000 requests.
	handOver = 200 * time.Millisecond
	// lookEvery: a tunnel that is replaced knows it within 10 s, and one whose slot was taken by an older one, too.
	lookEvery = 7 * time.Second
	// lookSoon is the wait before the look after a change, and before a second look that confirms a newer tunnel: the
	// first may have been of one that lived for a moment.
	lookSoon = time.Second
	// lookAgain is the wait after a look that saw nothing: an answer that does not come, or a tunnel that is just being opened.
	lookAgain = 2 * time.Second
	// fewTries is how many times a slot that does not lead here is taken again at once. Then there is a pause before each.
	fewTries = 2
	// mostPause is the longest wait before a slot is taken again that does not lead here in spite of it.
	mostPause = 120 * time.Second
)

// slotTable is the slots of a tunnel and the links that can serve them.
type slotTable struct {
	exclusive bool     // a port: the link that has it gives it back before another can have it. A socket goes to the link that asks last (StreamLocalBindUnlink).
	up        []linkID // by reconnector: its link
	slots     []slot
	held      bool      // a slot was had: a newer tunnel may have it since
	leaving   bool      // the slots are given back for good
	yielded   bool      // another tunnel of this process is about to have the slots, or has them
	replaced  bool      // a newer tunnel has them: nothing is taken any more
	newer     time.Time // since when one has been seen, zero: none
	looking   bool
	lookAt    time.Time
}

// serves is the law: the link that is to serve a slot. Each link has slots of its own; while it is gone another one
// serves them. On a port the link that has it stays: any other is its standby.
func (t *slotTable) serves(i int) linkID {
	holder := t.slots[i].holder
	stays := holder != 0 && slices.Contains(t.up, holder)
	if t.exclusive && stays {
		return holder
	}
	if own := t.up[i%len(t.up)]; own != 0 {
		return own
	}
	if stays {
		return holder
	}
	return slices.Max(t.up)
}

// linkUp: the reconnector with an index has another link than before, or its first.
func (t *slotTable) linkUp(index int, l linkID, now time.Time) []act {
	t.up[index] = l
	for i := range t.slots {
		if s := &t.slots[i]; s.holder == 0 {
			s.next = time.Time{} // what was refused to another link may be granted to this one
		}
	}
	t.soon(now)
	return t.settle(now)
}

// linkLost: a link has ended.
func (t *slotTable) linkLost(l linkID, now time.Time) []act {
	if i := slices.Index(t.up, l); i >= 0 {
		t.up[i] = 0
	}
	for i := range t.slots {
		s := &t.slots[i]
		s.forget(l)
		if s.op.link == l {
			s.op = op{}
		}
	}
	t.soon(now)
	return t.settle(now)
}

// forget: a link does not listen there any more.
func (s *slot) forget(l linkID) {
	s.stale = slices.DeleteFunc(s.stale, func(o linkID) bool { return o == l })
	if s.holder == l {
		s.holder, s.next = 0, time.Time{} // another one takes it at once
	}
}

// answered: a take has ended.
func (t *slotTable) answered(i int, l linkID, how outcome, now time.Time) []act {
	s := &t.slots[i]
	if s.op != (op{link: l}) {
		return nil // the link has ended since
	}
	s.op, s.since = op{}, now
	switch how {
	case took:
		if before := s.holder; before != l {
			s.forget(l)
			if before != 0 {
				s.stale = append(s.stale, before)
			}
		}
		if s.again {
			s.tries++
			t.lookBy(now.Add(handOver))
		}
		s.holder, s.again, s.fails, s.next = l, false, 0, time.Time{}
		t.held = true
		t.soon(now)
	case notTaken:
		s.seen, s.next = newer, now.Add(2*lookSoon)
		t.sawNewer(now)
	case refused:
		s.next = now.Add(min(time.Second<<s.fails, 15*time.Second))
		s.fails = min(s.fails+1, 4)
	}
	return t.settle(now)
}

// given: a link does not listen at a slot any more.
func (t *slotTable) given(i int, l linkID, now time.Time) []act {
	s := &t.slots[i]
	if s.op != (op{link: l, give: true}) {
		return nil
	}
	s.op, s.since = op{}, now
	s.forget(l)
	return t.settle(now)
}

// looked: what a look saw that began then, by slot.
func (t *slotTable) looked(began time.Time, seen []sight, now time.Time) []act {
	t.looking = false
	if t.yielded {
		return nil
	}
	told, anyNewer := false, false
	for i, what := range seen {
		s := &t.slots[i]
		if s.op.link != 0 || s.since.After(began) {
			t.soon(now) // it changed meanwhile
			continue
		}
		if what == silent {
			if s.silent++; s.silent > 1 { // a link may have it that is gone while its process at the proxy is not
				t.takeAgain(s, silent, silent)
			}
		}
		if what <= silent {
			t.lookBy(now.Add(lookAgain))
			continue
		}
		told = true
		before := s.seen
		s.seen, s.silent = what, 0
		switch what {
		case ours:
			s.again, s.tries, s.next = false, 0, time.Time{}
		case newer:
			anyNewer = true
		default:
			t.takeAgain(s, what, before)
			if t.exclusive { // nothing is done about it here; it may have been one answer
				t.soon(now)
			}
		}
	}
	switch {
	case anyNewer:
		t.sawNewer(now)
	case told:
		t.newer = time.Time{}
	}
	return t.settle(now)
}

// takeAgain has a slot taken again that a link of ours has and that does not lead here: at once where that was seen for
// the first time, or where an older tunnel answers, which gives up when it looks; otherwise after longer and longer pauses.
func (t *slotTable) takeAgain(s *slot, what, before sight) {
	if what != before {
		s.tries = min(s.tries, 1)
	}
	if t.exclusive || s.holder == 0 {
		return
	}
	wait := time.Duration(0)
	if what != older && s.tries >= fewTries {
		wait = min(lookEvery<<min(s.tries-fewTries, 10), mostPause)
	}
	if next := s.since.Add(wait); !s.again || next.Before(s.next) {
		s.again, s.next = true, next
	}
}

func (t *slotTable) sawNewer(now time.Time) {
	if t.newer.IsZero() {
		t.newer = now
	}
	t.replaced = t.replaced || !t.yielded && now.Sub(t.newer) >= lookSoon
	t.soon(now)
}

// asked: another tunnel's question came in. Anybody can write one, so that it starts a look and no more.
func (t *slotTable) asked(now time.Time) { t.soon(now) }

// yield leaves the slots to another tunnel of this process: until resume nothing is taken. A port is given back. A
// socket needs no giving back: it goes to the link that asks last, without a gap.
func (t *slotTable) yield(now time.Time) []act {
	t.yielded = true
	return t.settle(now)
}

// leave gives all slots back.
func (t *slotTable) leave(now time.Time) []act {
	t.leaving = true
	return t.settle(now)
}

// resume takes the slots again.
func (t *slotTable) resume(now time.Time) []act {
	t.yielded, t.newer = false, time.Time{}
	for i := range t.slots {
		s := &t.slots[i]
		s.seen, s.again, s.next, s.tries = unknown, !t.exclusive && s.holder != 0, time.Time{}, 0
	}
	t.soon(now)
	return t.settle(now)
}

// soon has the next look be soon.
func (t *slotTable) soon(now time.Time) { t.lookBy(now.Add(lookSoon)) }

// lookBy has the next look be then, or before.
func (t *slotTable) lookBy(at time.Time) {
	if t.lookAt.IsZero() || t.lookAt.After(at) {
		t.lookAt = at
	}
}

// takes returns the link that is to serve a slot, and whether it has to take it.
func (t *slotTable) takes(i int) (want linkID, takes bool) {
	if want = t.serves(i); want == 0 || t.yielded || t.replaced || t.leaving {
		return want, false
	}
	return want, t.slots[i].holder != want || t.slots[i].again
}

// settle returns what there is to do now.
func (t *slotTable) settle(now time.Time) (acts []act) {
	for i := range t.slots {
		s := &t.slots[i]
		if s.op.link != 0 {
			continue
		}
		want, takes := t.takes(i)
		switch {
		case s.holder != 0 && (t.leaving || t.replaced || t.exclusive && (takes || t.yielded)):
			s.op = op{link: s.holder, give: true}
		case takes && !now.Before(s.next) && s.holder == want && s.tries > 0 && (s.silent == 0 || s.tries >= fewTries): // or sshd would keep a listener for each try
			s.op = op{link: want, give: true}
		case takes && !now.Before(s.next):
			s.op = op{link: want}
		case len(s.stale) > 0 && !now.Before(s.since.Add(handOver)):
			s.op = op{link: s.stale[0], give: true}
		default:
			continue
		}
		acts = append(acts, act{slot: i, link: s.op.link, give: s.op.give, look: t.held && !s.op.give && !t.exclusive})
	}
	return acts
}

// wake is when settle has more to do; zero for never.
func (t *slotTable) wake() (at time.Time) {
	by := func(due time.Time) {
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	for i := range t.slots {
		s := &t.slots[i]
		if s.op.link != 0 {
			continue
		}
		if _, takes := t.takes(i); takes {
			by(s.next)
		}
		if len(s.stale) > 0 {
			by(s.since.Add(handOver))
		}
	}
	return at
}

// looks reports whether it is time to look at the slots, and that this is being done.
func (t *slotTable) looks(now time.Time) bool {
	if !t.watches() || t.looking || now.Before(t.lookAt) {
		return false
	}
	t.looking, t.lookAt = true, now.Add(lookEvery)
	return true
}

// watches reports whether there is a reason to look.
func (t *slotTable) watches() bool {
	return !t.yielded && !t.replaced && !t.leaving && t.held && slices.ContainsFunc(t.up, func(l linkID) bool { return l != 0 })
}

// uses reports whether a slot needs a link, or was asked of it.
func (t *slotTable) uses(l linkID) bool {
	return slices.ContainsFunc(t.slots, func(s slot) bool { return s.holder == l || s.op.link == l || slices.Contains(s.stale, l) })
}

// holds reports whether a link has a slot.
func (t *slotTable) holds(l linkID) bool {
	return slices.ContainsFunc(t.slots, func(s slot) bool { return s.holder == l })
}

// quiet reports whether everything was answered that was asked.
func (t *slotTable) quiet() bool {
	return !slices.ContainsFunc(t.slots, func(s slot) bool { return s.op.link != 0 })
}

// holding counts the slots that links of this tunnel have, and those of them that were seen not to lead here.
func (t *slotTable) holding() (held, astray int) {
	for i := range t.slots {
		if s := &t.slots[i]; s.holder != 0 {
			held++
			if s.seen.astray() {
				astray++
			}
		}
	}
	return held, astray
}
