// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"slices"
	"time"
)

// takes returns the link that is to serve a slot, and whether it has to take it.
func (t *Table) takes(i int) (want LinkID, takes bool) {
	if want = t.serves(i); want == 0 || t.yielded || t.replaced || t.leaving {
		return want, false
	}
	return want, t.slots[i].holder != want || t.slots[i].again
}

// Settle returns what there is to do now.
func (t *Table) Settle(now time.Time) (acts []Act) {
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
		case len(s.stale) > 0 && !now.Before(s.since.Add(HandOver)):
			s.op = op{link: s.stale[0], give: true}
		default:
			continue
		}
		acts = append(acts, Act{Slot: i, Link: s.op.link, Give: s.op.give, Look: (t.held || i > 0 || len(t.slots) == 1) && !s.op.give && !t.exclusive})
	}
	return acts
}

// Wake is when Settle has more to do; zero for never.
func (t *Table) Wake() (at time.Time) {
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
			by(s.since.Add(HandOver))
		}
	}
	return at
}

// Looks reports whether it is time to look at the slots, and that this is being done.
func (t *Table) Looks(now time.Time) bool {
	if !t.watches() || t.looking || now.Before(t.lookAt) {
		return false
	}
	t.looking, t.lookAt = true, now.Add(lookEvery)
	return true
}

// LookDue is when Looks is to be asked next; zero while there is nothing to look at, or one is under way.
func (t *Table) LookDue() time.Time {
	if !t.watches() || t.looking {
		return time.Time{}
	}
	return t.lookAt
}

// watches reports whether there is a reason to look.
func (t *Table) watches() bool {
	return !t.yielded && !t.replaced && !t.leaving && t.held && slices.ContainsFunc(t.up, func(l LinkID) bool { return l != 0 })
}

// Uses reports whether a slot needs a link, or was asked of it.
func (t *Table) Uses(l LinkID) bool {
	return slices.ContainsFunc(t.slots, func(s slot) bool { return s.holder == l || s.op.link == l || slices.Contains(s.stale, l) })
}

// Leads reports whether visitors may be led to a link by a slot, or are about to be.
func (t *Table) Leads(l LinkID) bool {
	return slices.ContainsFunc(t.slots, func(s slot) bool {
		return s.holder == l && !s.again || s.op == (op{link: l}) || slices.Contains(s.stale, l)
	})
}

// Serves reports whether a link has a slot, or stands by for another one that has the only slot.
func (t *Table) Serves(l LinkID) bool {
	has := slices.ContainsFunc(t.slots, func(s slot) bool { return s.holder == l })
	return has || len(t.slots) == 1 && t.slots[0].holder != 0 && slices.Contains(t.up, t.slots[0].holder)
}

// Quiet reports whether everything was answered that was asked.
func (t *Table) Quiet() bool {
	return !slices.ContainsFunc(t.slots, func(s slot) bool { return s.op.link != 0 })
}

// Holding counts the slots that links of this tunnel have, and those of them that were seen not to lead here.
func (t *Table) Holding() (held, astray int) {
	for i := range t.slots {
		if s := &t.slots[i]; s.holder != 0 {
			held++
			if s.seen.Astray() {
				astray++
			}
		}
	}
	return held, astray
}

// Known reports whether it is known how many slots there are.
func (t *Table) Known() bool { return t.up != nil }

// Len is how many slots there are, 0 while that is not known.
func (t *Table) Len() int { return len(t.slots) }

// Exclusive reports whether the slot is a port, which one link has at a time.
func (t *Table) Exclusive() bool { return t.exclusive }

// Holder is the link of this tunnel that has a slot, 0 if none does.
func (t *Table) Holder(i int) LinkID { return t.slots[i].holder }

// Had reports whether this tunnel ever had a slot.
func (t *Table) Had() bool { return t.held }

// Yielded reports whether the slots are left to another tunnel.
func (t *Table) Yielded() bool { return t.yielded }

// Replaced reports whether a newer tunnel has the slots.
func (t *Table) Replaced() bool { return t.replaced }

// Replace notes that a newer tunnel has the slots, which something else than a look told.
func (t *Table) Replace() { t.replaced, t.yielded = true, false }

// Revive takes back that a newer tunnel has the slots: they are taken from it.
func (t *Table) Revive() { t.replaced, t.newer = false, time.Time{} }

// Lacking reports whether a slot is nobody's since sshd refused it, and when it is asked for again.
func (t *Table) Lacking() (lacks bool, retryAt time.Time) {
	for i := range t.slots {
		if s := &t.slots[i]; s.holder == 0 && s.fails > 0 {
			lacks, retryAt = true, s.next
		}
	}
	return lacks, retryAt
}

// Elsewhere is what was seen at a slot by which visitors are not led here; Ours if there is none.
func (t *Table) Elsewhere() Sight {
	for i := range t.slots {
		if seen := t.slots[i].seen; seen.Astray() {
			return seen
		}
	}
	return Ours
}
