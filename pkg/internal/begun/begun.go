// SPDX-License-Identifier: Apache-2.0

// Package begun knows which unsafe requests an app has begun (RFC 9110, section 9.2.1: those that may change something), so
// that none is begun twice, however late and by whichever way a proxy sends it again.
//
// A proxy sends one again when the link broke by which it had sent it. The tunnel that it comes to may be another one
// than the first time, which knows nothing of it. What that one may have begun is told by when the proxy first passed the
// request on, and whether it has sent it before.
//
//	m := begun.NewMemory(time.Now(), func(d time.Duration, f func()) { time.AfterFunc(d, f) })
//	if m.Enter(id, begun.Arrival{Passed: passed, Now: time.Now()}) == begun.New {
//		…
//		m.End(id)
//	}
//
// A memory has no clock: times are given, all by that of one machine. It can be simulated so (pkg/slots).
package begun

import (
	"crypto/sha256"
	"maps"
	"math"
	"sync"
	"time"
)

const (
	// Kept is how long, at least, a request is known after its end. When a link goes silent under it, the proxy may
	// learn that from sshd after 67 to 77 s only, and asks again over another link. An unsafe request it sends again until
	// 100 s after its beginning (proxyhost.RepeatWithin), to one socket after the other for 10 s (proxy_next_upstream_timeout).
	Kept = 150 * time.Second
	// Tick is what that is counted in. Ticks that a process missed while it stood still are not made up for: the
	// repetition may have waited in its buffers all that time.
	Tick  = 10 * time.Second
	Ticks = int(Kept/Tick) + 1 // the first of them is shorter
	// Most is how many are known; 1300 a second have as many.
	Most = 200000
	// Fresh is how old a request may be that is not known, unless the link lives by which it came. One that waited for longer may have
	// been on a link that was not served: if this process stood still, the proxy may have asked another tunnel meanwhile, which
	// it does when the link has ended: 2 s after it went silent at least (proxyhost's program that ends stale links). By a
	// full link one took 5.5 s to come, and the answer whether the link lives takes as long again.
	Fresh = 6 * time.Second
	// Shared is for how long requests may go to another tunnel, once it was seen: by connections that the proxy kept, until
	// that tunnel has learnt that it is replaced or, if it cannot, until sshd has ended its links.
	Shared = 45 * time.Second
	// Alone is for how long they may when none was seen, and it is not clear that none was there before: one that has lost its slots
	// has connections that the proxy keeps. It looks within this time, and asks.
	Alone = 10 * time.Second
	// Unseen is how long after a look it is not clear any more who is there. There is one each 7 s, which may take as long.
	Unseen = 15 * time.Second
	// Wait is how long one that the proxy sends again may wait for a look that begins when it has come. By a full link one may take longer;
	// the look before counts then: where there is no room for uploads, all that are refused by one link are sent again to another.
	Wait = 3 * time.Second
	// ClockStep is how late a proxy may read its clock: nginx does once for all that comes at a time.
	ClockStep = 100 * time.Millisecond
)

// Memory is the unsafe requests that one process has begun, each by its id with the tick at which it is forgotten; some 40
// bytes each.
type Memory struct {
	since time.Time // nothing is known that was begun before
	after func(time.Duration, func())

	mu      sync.Mutex
	shared  time.Time     // what was passed on before may have gone to another tunnel
	looked  time.Time     // when the last look began that saw no other
	news    chan struct{} // closed when one of these changes
	ids     map[[16]byte]int
	ticks   int
	ticking bool
}

// Arrival is what is told of a request that comes. The zero Passed: the proxy does not tell, or its clock is not known.
type Arrival struct {
	Passed time.Time // when the proxy first passed it on
	Now    time.Time // when it came
	Again  bool      // the proxy has sent it, or a part of it, before
	Lives  bool      // the link by which it came was there still when it had come: the proxy has asked nobody else
}

// Verdict is what may be done with a request.
type Verdict int

// The verdicts.
const (
	New   Verdict = iota // it may begin, and is known from now on
	Known                // it was begun here, or may have been begun elsewhere
	Full                 // too many are known: it has to wait
)

// NewMemory returns a memory of what comes since then. Another tunnel may be there until a look tells otherwise. after calls a function
// after a time, once.
func NewMemory(since time.Time, after func(time.Duration, func())) *Memory {
	return &Memory{since: since.Round(0), after: after, news: make(chan struct{})}
}

// Looked notes what a look saw that began then: that visitors are led here alone, or that something else has, or has had, a slot.
func (m *Memory) Looked(began time.Time, alone bool) {
	began = began.Round(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !alone || began.Sub(m.looked) > Unseen {
		m.share(began.Add(Alone))
	}
	if alone && began.After(m.looked) {
		m.looked = began
		m.tell()
	}
}

// Share notes that another tunnel is there.
func (m *Memory) Share(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share(now.Round(0).Add(Shared))
}

func (m *Memory) share(until time.Time) {
	if until.After(m.shared) {
		m.shared = until
		m.tell()
	}
}

// tell has those ask again that wait for news.
func (m *Memory) tell() {
	close(m.news)
	m.news = make(chan struct{})
}

// Unsure is for a request that the proxy sends again: another tunnel may have come, begun it, and gone since the last look. It returns what is
// closed by the next news of other tunnels if a look that begins now would tell, nil if it is clear whether the request may
// begin. Who waits, for no longer than Wait, then asks again.
func (m *Memory) Unsure(id string, a Arrival) (news <-chan struct{}) {
	key := keyOf(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.ids[key]; known || !a.Again || a.Passed.IsZero() || a.Passed.Before(m.shared) || m.looked.After(a.Now) {
		return nil
	}
	return m.news
}

// Enter says whether a request may begin. None is forgotten before its time: when there are too many, further ones have to wait.
func (m *Memory) Enter(id string, a Arrival) Verdict {
	key := keyOf(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch _, known := m.ids[key]; {
	case known, m.elsewhere(a):
		return Known
	case len(m.ids) >= Most:
		return Full
	}
	if !m.ticking {
		m.ids, m.ticking = map[[16]byte]int{}, true
		m.after(Tick, m.tick)
	}
	m.ids[key] = math.MaxInt
	return New
}

// elsewhere reports whether another tunnel may have begun a request that is not known here, or may begin it.
func (m *Memory) elsewhere(a Arrival) bool {
	if a.Passed.IsZero() {
		return a.Again
	}
	age := a.Now.Sub(a.Passed)
	if a.Again && (a.Passed.Before(m.shared) || a.Now.Sub(m.looked) > Unseen) {
		return true
	}
	return a.Passed.Before(m.since.Add(-ClockStep)) || age > Fresh && !a.Lives
}

// End has a request be forgotten in time.
func (m *Memory) End(id string) {
	key := keyOf(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids[key] != 0 {
		m.ids[key] = m.ticks + Ticks
	}
}

// Len is how many are known.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ids)
}

func (m *Memory) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ticks++
	maps.DeleteFunc(m.ids, func(_ [16]byte, until int) bool { return until <= m.ticks })
	if m.ticking = len(m.ids) > 0; m.ticking {
		m.after(Tick, m.tick)
		return
	}
	m.ids = nil
}

func keyOf(id string) [16]byte {
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:])
}
