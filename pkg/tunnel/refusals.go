// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A key that has logged in before may be refused for a moment: its file is being written, a home or a directory
// service is away. It is tried again, but seldom, and by one link for all: sshd from 9.8 on shuts out an
// address after four refused logins in a row (sshd_config(5), PerSourcePenalties: each adds authfail, 5 s, and
// more than min, 15 s, is enforced), and fail2ban after five in ten minutes.
const (
	refusalsMost   = 4 // logins that may be refused in refusalsWithin
	refusalsWithin = 10 * time.Minute
	turnLasts      = 20 * time.Second // the longest that one login may take
	turnSpread     = time.Second      // of those who wait for the same moment
)

// refusalWaits are the waits after the first refusal in a row, after the second, and after all others.
var refusalWaits = []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute}

// refusals are those of one user on a server. All tunnels of the process that log in there share them.
type refusals struct {
	mu    sync.Mutex
	row   int         // refusals since a login, those of one moment counted once
	next  time.Time   // when the next login may be; zero: now
	times []time.Time // of the last refusals
	turn  *retry      // the tunnel that logs in while the others wait; nil: none does
	until time.Time   // …which ends then at the latest
}

// refusalsTable holds the refusals of a process by user and server.
type refusalsTable struct {
	mu sync.Mutex
	of map[string]*refusals
}

var processRefusals refusalsTable

// at returns the refusals at a server, "user@host:port".
func (t *refusalsTable) at(server string) *refusals {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*refusals{}
	}
	if t.of[server] == nil {
		t.of[server] = &refusals{}
	}
	return t.of[server]
}

// ask gives r the turn to log in (0), or says how long to wait before it asks again.
func (f *refusals) ask(r *retry) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	switch {
	case f.row == 0: // the one whose turn it was has logged in
		return 0
	case now.Before(f.next):
		return f.wait(now)
	case f.turn != nil && now.Before(f.until):
		return turnSpread + rand.N(turnSpread)
	}
	f.turn, f.until = r, now.Add(turnLasts)
	return 0
}

func (f *refusals) wait(now time.Time) time.Duration { return f.next.Sub(now) + rand.N(turnSpread) }

// add notes that a login was refused, and returns how long to wait. A login that is refused before the next one
// is due had begun before the first refusal was known: it changes nothing.
func (f *refusals) add() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.times = append(f.times, now)
	f.times = f.times[max(0, len(f.times)-refusalsMost):]
	if !now.Before(f.next) {
		f.row++
		f.next = now.Add(refusalWaits[min(f.row, len(refusalWaits))-1])
		if full := f.times[0].Add(refusalsWithin); len(f.times) == refusalsMost && f.next.Before(full) {
			f.next = full
		}
	}
	return f.wait(now)
}

// accepted: a key has logged in.
func (f *refusals) accepted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row, f.next, f.turn = 0, time.Time{}, nil
}

// leave: the attempt of r has ended, whatever came of it.
func (f *refusals) leave(r *retry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.turn == r {
		f.turn = nil
	}
}

// hurry: the next login is due now.
func (f *refusals) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.turn = time.Time{}, nil
}
