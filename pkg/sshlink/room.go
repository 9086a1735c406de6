// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"sync"
	"time"
)

// x/crypto takes up to 2 MiB of each channel from the server, read or not (its channelWindowSize;
// nothing public changes it): 2000 uploads that an app does not read were 4 GB of this process. So
// only so many connections at a time may have something unread, 68 MiB in all:
const (
	insideMost = 12 // a new channel counts as one until its first bytes were read
	spareMost  = 6  // channels that are accepted when those are stuck: most carry requests that hold nothing, and the others are told
	overMost   = 16 // connections that were open before; if there are more, those that nobody reads are cut
	overEver   = 64 // if there are more, those that are read too slowly, too

	uploadsMost = overMost // whose app may leave them all unread
)

const (
	stuckAfter = time.Second      // without a place taken or given back, those inside are not being read
	noneEnds   = 3 * time.Second  // without the end of an upload, none is hoped for
	queueFor   = 30 * time.Second // how long a channel or an upload waits at most

	// In ticks:
	restTicks  = 2  // a read that waits for so long has nothing to read
	stillTicks = 3  // a connection that is not read for so long may hold a window
	cutTicks   = 10 // one that is over for so long is cut, if too many are
)

// place is where a connection counts that may have something unread.
type place int

const (
	nowhere place = iota // all was read
	inside
	spare
	over
)

// room bounds what connections hold unread. There is one for the process, for its memory is one.
type room struct {
	mu     sync.Mutex
	taken  [over + 1]int
	moved  time.Time     // when a place inside was taken or given back last
	change chan struct{} // closed when a place is given back; nil: nobody waits

	uploads int
	ended   time.Time // when one began or ended last
}

var process room

// take is for what has come already.
func (r *room) take() place {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[inside] < insideMost {
		return r.put(nowhere, inside)
	}
	return r.put(nowhere, over)
}

// move has a connection count elsewhere.
func (r *room) move(from, to place) place {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(from, to)
}

// put is move with mu held.
func (r *room) put(from, to place) place {
	if from == to {
		return to
	}
	if from != nowhere {
		r.taken[from]--
		r.changed()
	}
	if to != nowhere {
		r.taken[to]++
	}
	if from == inside || to == inside {
		r.moved = time.Now()
	}
	return to
}

// changed wakes those who wait. mu is held.
func (r *room) changed() {
	if r.change != nil {
		close(r.change)
		r.change = nil
	}
}

// cuts reports whether there are too many for a connection that is over: still says that nobody reads it.
func (r *room) cuts(still bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[over] > overEver || still && r.taken[over] > overMost
}

// free reports whether one more may be inside. mu is held.
func (r *room) free() bool { return r.taken[inside] < insideMost && r.taken[over] <= overMost }

// stuck reports whether there is no place inside, and has been none for long. mu is held.
func (r *room) stuck() bool {
	return !r.free() && time.Since(r.moved) >= stuckAfter
}

// enter finds a place for a channel that came at since and has not been accepted, so that it costs
// nothing while it waits. It returns nowhere if there is none in time, or one of the others is closed.
func (r *room) enter(since time.Time, closed, done <-chan struct{}) place {
	for {
		r.mu.Lock()
		late := time.Since(since) >= queueFor
		switch {
		case r.free():
			defer r.mu.Unlock()
			return r.put(nowhere, inside)
		case (late || r.stuck()) && r.taken[spare] < spareMost:
			defer r.mu.Unlock()
			return r.put(nowhere, spare)
		case late:
			r.mu.Unlock()
			return nowhere
		}
		if !r.await(r.moved.Add(stuckAfter), closed, done) {
			return nowhere
		}
	}
}

// await waits for a change, or until then. It is called with mu held, and releases it. It reports
// whether it is worth looking again.
func (r *room) await(then time.Time, closed, done <-chan struct{}) bool {
	if r.change == nil {
		r.change = make(chan struct{})
	}
	change, wait := r.change, time.Until(then)
	if wait <= 0 {
		wait = stuckAfter
	}
	r.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-change:
	case <-timer.C:
	case <-closed:
		return false
	case <-done:
		return false
	}
	return true
}

// seat is a connection's part in it.
type seat struct {
	room *room // nil: it has none

	mu      sync.Mutex
	at      place
	reading bool // from the channel
	waiting bool // for a place, so nobody reads
	empty   bool // the last read left nothing
	refused bool // nobody will read what comes but to throw it away
	upload  bool // it has room for one
	left    bool
	ticks   int // since reading changed
	age     int // ticks since it came to its place
}

// begin notes that the channel is being read, again if it was.
func (s *seat) begin() {
	if s.room == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.ticks = true, 0
	if s.empty && !s.refused {
		s.move(nowhere)
	}
}

// end notes what came of it. A buffer that came full says that there may be more.
func (s *seat) end(full bool) {
	if s.room == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.ticks, s.empty = false, 0, !full
	if full && s.at == nowhere && !s.left {
		s.take()
	}
}

// take is called with mu held.
func (s *seat) take() { s.at, s.age = s.room.take(), 0 }

// move is called with mu held.
func (s *seat) move(to place) {
	if s.at != to {
		s.at, s.age = s.room.move(s.at, to), 0
	}
}

// leave gives the place back for good.
func (s *seat) leave() {
	if s.room == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	s.move(nowhere)
}

// look is called each tick. It sees what no read tells: one that waits has nothing to read, and where
// there is none the channel may be filling up. It returns true for a connection that is to be cut.
func (s *seat) look() bool {
	if s.room == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticks++
	s.age++
	switch {
	case s.left || s.waiting:
		return false
	case s.reading && s.ticks >= restTicks && !s.refused:
		s.move(nowhere)
	case !s.reading && s.ticks >= stillTicks && s.at == nowhere:
		s.take()
	case !s.reading && s.ticks >= stillTicks && s.at == spare:
		s.move(over) // others need to be told as well
	}
	return s.at == over && s.age >= cutTicks && !s.upload && s.room.cuts(!s.reading && s.ticks >= cutTicks)
}

// admit finds room for an upload on a connection; none is told by nil. It waits as long as others end.
func (s *seat) admit(stop <-chan struct{}) (end func()) {
	if s.room == nil {
		return func() {}
	}
	s.set(func() { s.waiting = true })
	may := s.room.upload(stop)
	s.set(func() { s.waiting, s.ticks, s.upload, s.refused = false, 0, may, !may })
	if !may {
		return nil
	}
	return sync.OnceFunc(func() {
		s.set(func() { s.upload = false })
		s.room.uploaded()
	})
}

func (s *seat) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// upload takes one of the places for uploads, and reports false if none ends for long.
func (r *room) upload(stop <-chan struct{}) bool {
	for since := time.Now(); ; {
		r.mu.Lock()
		switch {
		case r.uploads < uploadsMost:
			r.uploads++
			r.ended = time.Now()
			r.mu.Unlock()
			return true
		case time.Since(r.ended) >= noneEnds, time.Since(since) >= queueFor:
			r.mu.Unlock()
			return false
		}
		if !r.await(r.ended.Add(noneEnds), stop, nil) {
			return false
		}
	}
}

func (r *room) uploaded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uploads--
	r.ended = time.Now()
	r.changed()
}
