// SPDX-License-Identifier: Apache-2.0

package tunnel

import "time"

// Which link serves which slot. Each keeper has slots of its own, which its link takes as it comes;
// while it has none, another's link serves them: visitors come in through all slots all the time.

// handOver is how long the link that had a slot keeps listening after another one has taken it: those
// who were waiting in its queue are still served. Giving it back at once lost 106 of 7000.
const handOver = 200 * time.Millisecond

// own reports whether a slot is one of k's own.
func (s *supervisor) own(k *keeper, slot int) bool { return slot%len(s.keepers) == k.index }

// arrange takes it that k's new link serves k's own slots, and has it serve those that nobody does. The
// first link tells how many there are, and so how many links to hold.
func (s *supervisor) arrange(k *keeper, l link) {
	if s.slots == nil {
		s.slots = make([]*keeper, l.Slots())
		for len(s.keepers) < s.t.cfg.connections(len(s.slots)) {
			other := newKeeper(s, len(s.keepers))
			s.keepers = append(s.keepers, other)
			defer other.attempt()
		}
	}
	for slot, before := range s.slots {
		switch {
		case s.own(k, slot):
			s.slots[slot] = k
			if before != nil && before != k {
				s.giveSoon(slot, before, before.link)
			}
		case before == nil:
			s.slots[slot] = k
			l.Take(slot)
		}
	}
}

// giveSoon has a link give back a slot that another one has taken.
func (s *supervisor) giveSoon(slot int, k *keeper, l link) {
	time.AfterFunc(handOver, func() {
		s.tell(func() {
			now := s.slots[slot]
			if now == k || now == nil || l == nil || s.draining || s.yielded {
				return
			}
			if k.link == l {
				l.Give(slot)
			}
			now.link.Take(slot) // again: l may have asked for it first and been given it last
		})
	})
}

// takeOver has another link serve the slots of k, which has none any more.
func (s *supervisor) takeOver(k *keeper) {
	var other *keeper
	for _, o := range s.keepers {
		if o.link != nil {
			other = o
			break
		}
	}
	for slot, serving := range s.slots {
		if serving != k || s.draining {
			continue
		}
		s.slots[slot] = other
		if other != nil && !s.yielded {
			other.link.Take(slot)
		}
	}
}

// yield leaves the slots to another tunnel of this process: until resume nothing is taken and no link
// is made. A port is given back; the next sshd process can have it when yield returns. A socket
// needs no giving back: it goes to the link that asks last, without a gap.
func (t *Tunnel) yield() {
	var holding []link
	t.sup.tell(func() {
		s := t.sup
		s.yielded = true
		s.loop.Stop()
		for _, k := range s.keepers {
			k.retry.Stop()
			if k.trying != nil {
				k.trying()
			}
			if k.link != nil && t.Addr().Network() == "tcp" {
				holding = append(holding, k.link)
			}
		}
	})
	for _, l := range holding {
		l.Withdraw()
	}
}

// resume takes the slots again that yield left, and returns when that was done, or tried.
func (t *Tunnel) resume() {
	var asked []link
	t.sup.tell(func() {
		s := t.sup
		if !s.yielded {
			return
		}
		s.yielded = false
		if s.draining || s.failed != nil {
			return
		}
		for slot, k := range s.slots {
			if k != nil && k.link != nil {
				k.link.Take(slot)
				asked = append(asked, k.link)
			}
		}
		for _, k := range s.keepers {
			k.attempt()
		}
		if t.Addr().Network() == "unix" {
			s.astray = 0
			s.loop.Reset(loopCheck)
		}
	})
	for _, l := range asked {
		select {
		case <-l.Settled():
		case <-l.Done():
		}
	}
}
