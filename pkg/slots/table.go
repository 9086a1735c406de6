// SPDX-License-Identifier: Apache-2.0

// Package slots decides which link of a tunnel serves which slot. A slot is one listening end on the proxy to which nginx
// sends visitors. A tunnel knows of it what was answered and what was seen, never what it asked for.
//
//	t := slots.New(2, 2, false) // as many slots, and links that can serve them
//	acts := t.LinkUp(0, link, time.Now())
//	for _, a := range acts { … } // the link takes the slot, or gives it back, and reports:
//	acts = t.Answered(a.Slot, a.Link, slots.Took, time.Now())
//	if t.Looks(time.Now()) { … } // it is time to ask who answers at the slots:
//	acts = t.Looked(began, seen, time.Now())
//
// A table is a function of state and event: it has no clock and waits for nothing, so that it can be simulated. The run
// loop alone holds it, sends it each event and carries out the acts that come back; Wake and LookDue are when to call again.
//
// Promises. At most one request for a slot is under way, so that none overtakes another. The newest live tunnel has every
// slot within 10 s of the last event, and no two take one by turns.
package slots

import (
	"slices"
	"time"
)

// LinkID is the number of a link, from 1 on; 0 is none.
type LinkID int

// slot is what is known of one slot, and what was asked about it.
type slot struct {
	holder LinkID    // the link to which sshd granted it last, as far as this tunnel knows; 0: none of this tunnel's
	stale  []LinkID  // links that still listen there, and reach nobody new; not on a port
	op     op        // asked and not answered yet: one at a time, so that none overtakes another
	since  time.Time // of the last answer
	seen   Sight     // by the last look that saw anything
	silent int       // looks in a row that saw nothing
	again  bool      // it is to be taken although a link of ours has it: visitors are not led here
	tries  int       // of that, in a row
	fails  int       // refusals in a row
	next   time.Time // not before then
}

type op struct {
	link LinkID
	give bool
}

// Sight is what a look at a slot saw.
type Sight int

// The sights, from what says nothing to what leads visitors elsewhere.
const (
	Unknown Sight = iota // it could not be asked, or told
	Silent               // no answer in the time there was
	Ours                 // this tunnel
	Older                // another tunnel, exposed before this one
	Newer                // another tunnel, exposed after this one
	Nobody               // nginx itself: it reached no one there
	Foreign              // something else
)

// Astray reports whether visitors who come by that slot are not led here.
func (s Sight) Astray() bool { return s > Ours }

// Outcome is how a take ended.
type Outcome int

// The outcomes.
const (
	Took     Outcome = iota
	NotTaken         // a newer tunnel answers there
	Refused          // by sshd
)

// Act is what a link is to do.
type Act struct {
	Slot int
	Link LinkID
	Give bool // else it takes the slot
	Look bool // before it takes: a newer tunnel may have it, and an older one learns of this one so. Of slots that were never had, the first of several is taken without: some tunnel leads there soon
}

// HandOver is how long a link that had a slot keeps listening after another one has taken it: those who wait in its
// queue are still served. Giving it back at once lost 106 of 7000 requests.
const HandOver = 200 * time.Millisecond

const (
	// lookEvery: a tunnel that is replaced knows it within 10 s, and one whose slot was taken by an older one, too.
	lookEvery = 7 * time.Second
	// lookSoon is the wait before the look after a change, and before a second look that confirms a newer tunnel: the
	// first may have been of one that lived for a moment.
	lookSoon = time.Second
	// lookNow is the wait before a look that a request waits for: those that come meanwhile share it.
	lookNow = 100 * time.Millisecond
	// lookAgain is the wait after a look that saw nothing: an answer that does not come, or a tunnel that is just being opened.
	lookAgain = 2 * time.Second
	// fewTries is how many times a slot that does not lead here is taken again at once. Then there is a pause before each.
	fewTries = 2
	// mostRefusal is the longest wait before a slot is asked for again that sshd refuses: with a look and a login it is had
	// again within 10 s of the last refusal.
	mostRefusal = 8 * time.Second
	// mostPause is the longest wait before a slot is taken again that does not lead here in spite of it.
	mostPause = 120 * time.Second
)

// Table is the slots of a tunnel and the links that can serve them. The zero Table has none: they are not known yet.
type Table struct {
	exclusive bool     // a port: the link that has it gives it back before another can have it. A socket goes to the link that asks last (StreamLocalBindUnlink).
	up        []LinkID // by reconnector: its link
	slots     []slot
	held      bool      // a slot was had: a newer tunnel may have it since
	leaving   bool      // the slots are given back for good
	yielded   bool      // another tunnel is about to have the slots, or has them, and may give them back
	replaced  bool      // a newer tunnel has them: nothing is taken any more
	newer     time.Time // since when one has been seen, zero: none
	looking   bool
	lookAt    time.Time
}

// serves is the law: the link that is to serve a slot. Each link has slots of its own; while it is gone another one
// serves them. On a port the link that has it stays: any other is its standby.
func (t *Table) serves(i int) LinkID {
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

// New makes the table of so many slots, and of as many links as there are reconnectors. exclusive: a port, which sshd grants to
// one link at a time.
func New(count, links int, exclusive bool) Table {
	return Table{exclusive: exclusive, up: make([]LinkID, links), slots: make([]slot, count)}
}

// LinkUp notes that the reconnector with an index has another link than before, or its first.
func (t *Table) LinkUp(index int, l LinkID, now time.Time) []Act {
	t.up[index] = l
	for i := range t.slots {
		if s := &t.slots[i]; s.holder == 0 {
			s.next = time.Time{} // what was refused to another link may be granted to this one
		}
	}
	t.soon(now)
	return t.Settle(now)
}

// LinkLost notes that a link has ended.
func (t *Table) LinkLost(l LinkID, now time.Time) []Act {
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
	return t.Settle(now)
}

// forget: a link does not listen there any more.
func (s *slot) forget(l LinkID) {
	s.stale = slices.DeleteFunc(s.stale, func(o LinkID) bool { return o == l })
	if s.holder == l {
		s.holder, s.next = 0, time.Time{} // another one takes it at once
	}
}

// Answered notes how a take has ended.
func (t *Table) Answered(i int, l LinkID, how Outcome, now time.Time) []Act {
	s := &t.slots[i]
	if s.op != (op{link: l}) {
		return nil // the link has ended since
	}
	s.op, s.since = op{}, now
	switch how {
	case Took:
		if before := s.holder; before != l {
			s.forget(l)
			if before != 0 {
				s.stale = append(s.stale, before)
			}
		}
		if s.again {
			s.tries++
			t.lookBy(now.Add(HandOver))
		}
		s.holder, s.again, s.fails, s.next = l, false, 0, time.Time{}
		t.held = true
		t.soon(now)
	case NotTaken:
		s.seen, s.next = Newer, now.Add(2*lookSoon)
		t.sawNewer(now)
	case Refused:
		s.next = now.Add(min(time.Second<<s.fails, mostRefusal))
		s.fails = min(s.fails+1, 4)
	}
	return t.Settle(now)
}

// Given notes that a link does not listen at a slot any more.
func (t *Table) Given(i int, l LinkID, now time.Time) []Act {
	s := &t.slots[i]
	if s.op != (op{link: l, give: true}) {
		return nil
	}
	s.op, s.since = op{}, now
	s.forget(l)
	return t.Settle(now)
}

// Looked takes what a look saw that began then, by slot.
func (t *Table) Looked(began time.Time, seen []Sight, now time.Time) []Act {
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
		if what == Silent {
			if s.silent++; s.silent > 1 { // a link may have it that is gone while its process at the proxy is not
				t.takeAgain(s, Silent, Silent)
			}
		}
		if what <= Silent {
			t.lookBy(now.Add(lookAgain))
			continue
		}
		told = true
		before := s.seen
		s.seen, s.silent = what, 0
		switch what {
		case Ours:
			s.again, s.tries, s.next = false, 0, time.Time{}
		case Newer:
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
	return t.Settle(now)
}

// takeAgain has a slot taken again that a link of ours has and that does not lead here: at once where that was seen for
// the first time, or where an older tunnel answers, which gives up when it looks; otherwise after longer and longer pauses.
func (t *Table) takeAgain(s *slot, what, before Sight) {
	if what != before {
		s.tries = min(s.tries, 1)
	}
	if t.exclusive || s.holder == 0 {
		return
	}
	wait := time.Duration(0)
	if what != Older && s.tries >= fewTries {
		wait = min(lookEvery<<min(max(s.tries-fewTries-1, 0), 10), mostPause) // twice the shortest: it may have been lost again before a look saw it
	}
	if next := s.since.Add(wait); !s.again || next.Before(s.next) {
		s.again, s.next = true, next
	}
}

func (t *Table) sawNewer(now time.Time) {
	if t.newer.IsZero() {
		t.newer = now
	}
	t.replaced = t.replaced || !t.yielded && now.Sub(t.newer) >= lookSoon
	t.soon(now)
}

// Asked notes that another tunnel's question came in. Anybody can write one, so that it starts a look and no more.
func (t *Table) Asked(now time.Time) { t.soon(now) }

// Awaited notes that a request waits for a look. It reports whether one comes.
func (t *Table) Awaited(now time.Time) bool {
	t.lookBy(now.Add(lookNow))
	return t.watches()
}

// Yield leaves the slots to another tunnel, which may fail: until Resume nothing is taken. A port is given back. A
// socket needs no giving back: it goes to the link that asks last, without a gap.
func (t *Table) Yield(now time.Time) []Act {
	t.yielded = true
	return t.Settle(now)
}

// Leave gives all slots back.
func (t *Table) Leave(now time.Time) []Act {
	t.leaving = true
	return t.Settle(now)
}

// Resume takes the slots again.
func (t *Table) Resume(now time.Time) []Act {
	t.yielded, t.newer = false, time.Time{}
	for i := range t.slots {
		s := &t.slots[i]
		s.seen, s.again, s.next, s.tries = Unknown, !t.exclusive && s.holder != 0, time.Time{}, 0
	}
	t.soon(now)
	return t.Settle(now)
}

// soon has the next look be soon.
func (t *Table) soon(now time.Time) { t.lookBy(now.Add(lookSoon)) }

// lookBy has the next look be then, or before.
func (t *Table) lookBy(at time.Time) {
	if t.lookAt.IsZero() || t.lookAt.After(at) {
		t.lookAt = at
	}
}
