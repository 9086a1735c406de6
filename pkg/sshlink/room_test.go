// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func fill(r *room) {
	for range insideMost {
		r.take()
	}
}

// A channel waits for one that is being read, is let in beside those that are not, and is refused when
// nothing else is left.
func TestRoomForChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		enters := func(want place, after time.Duration) {
			t.Helper()
			start := time.Now()
			if got := r.enter(start, nil, nil); got != want || time.Since(start) != after {
				t.Errorf("place %d after %v, want %d after %v", got, time.Since(start), want, after)
			}
		}
		for range insideMost {
			enters(inside, 0)
		}
		time.AfterFunc(stuckAfter/2, func() { r.move(inside, nowhere) })
		enters(inside, stuckAfter/2)
		enters(spare, stuckAfter)
		for range spareMost - 1 {
			enters(spare, 0)
		}
		enters(nowhere, queueFor)
		time.AfterFunc(stuckAfter/2, func() { r.move(spare, nowhere) })
		enters(spare, stuckAfter/2)
		stop := make(chan struct{})
		time.AfterFunc(time.Millisecond, func() { close(stop) })
		if got := r.enter(time.Now(), nil, stop); got != nowhere {
			t.Errorf("after the end of its link: %d", got)
		}
	})
}

// An upload waits as long as others end.
func TestRoomForUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		full := func() *seat { return &seat{room: r, at: r.take()} }
		var ends []func()
		for range uploadsMost {
			ends = append(ends, full().admit(nil))
		}
		start, c := time.Now(), full()
		if c.admit(nil) != nil || time.Since(start) != noneEnds || !c.refused {
			t.Errorf("one more than there may be is admitted, or told after %v", time.Since(start))
		}
		if c.admit(nil) != nil || time.Since(start) != noneEnds {
			t.Error("the next one is not told at once")
		}
		ends[0]()
		ends[0]() // as often as one likes
		var waiting sync.WaitGroup
		for i := range 4 * int(noneEnds/time.Second) {
			time.AfterFunc(time.Duration(i)*time.Second, ends[i+1])
			waiting.Go(func() {
				if end := full().admit(nil); end == nil {
					t.Errorf("number %d is refused, and one ended each second", i)
				}
			})
		}
		waiting.Wait()
	})
}

// A known fault (docs/known-faults.md): uploads that wait for their visitors, with nothing unread, take the places of others.
func TestSlowUploadsKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		for range uploadsMost {
			(&seat{room: r}).admit(nil)
		}
		if (&seat{room: r}).admit(nil) != nil {
			t.Error("it is mended: take it off the list")
		}
	})
}

// What a connection holds is known by its reads, and by what they do not tell.
func TestSeat(t *testing.T) {
	r := &room{}
	s := &seat{room: r}
	at := func(when string, want place) {
		t.Helper()
		if s.at != want {
			t.Errorf("%s: %d, want %d", when, s.at, want)
		}
	}
	looks := func(n int) (cut bool) {
		for range n {
			cut = s.look()
		}
		return cut
	}
	s.begin()
	s.end(true)
	at("there may be more", inside)
	s.begin()
	s.end(false)
	at("all was read, but nobody reads on", inside)
	s.begin()
	at("it is read again", nowhere)
	s.end(false)
	looks(stillTicks)
	at("nobody reads", inside)
	s.begin()
	s.end(true)
	s.begin()
	looks(restTicks)
	at("there was no more", nowhere)
	fill(r)
	s.end(true)
	at("others are inside", over)
	if looks(10 * cutTicks) {
		t.Error("cut, although few are over")
	}
	for range overMost {
		r.take()
	}
	if !looks(cutTicks) {
		t.Error("not cut, although too many are over")
	}
	moves := func() (cut bool) {
		for range 2 * cutTicks {
			s.begin()
			s.end(true)
			cut = cut || s.look()
		}
		return cut
	}
	if moves() {
		t.Error("cut, although it is being read")
	}
	for range overEver - overMost {
		r.take()
	}
	if !moves() {
		t.Error("not cut, although far too many are over")
	}
	s.leave()
	s.end(true)
	at("it has gone", nowhere)
	if s.look() || r.taken != [4]int{0, insideMost, 0, overEver} {
		t.Errorf("left behind: %v", r.taken)
	}
}
