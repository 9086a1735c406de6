// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// A key that has logged in before may be refused for a moment: its file is being written, a home or a directory
// service is away. It is tried again, but seldom, and by one link for all: sshd from 9.8 on shuts out an
// address after four refused logins in a row (sshd_config(5), PerSourcePenalties: each adds authfail, 5 s, and
// more than min, 15 s, is enforced), and fail2ban after five in ten minutes.
//
// The first refusal is not known while it is under way. So until one login of those that begin together was granted,
// two are made at a time, the second after a head start, for the first may hang: two that are refused leave room for the tries after
// 15 and 75 s. Where the first was known before the second began, and no link serves, there is room for one after 5 s, too, when sshd's
// penalty for it is over: as many logins as before. To try after 2, 4 and 8 s would leave none until ten minutes are over.
const (
	refusalsMost   = 4 // logins that may be refused in refusalsWithin
	refusalsWithin = 10 * time.Minute
	unprovenMost   = 2                      // logins at a time while it is not known whether the key is granted
	unprovenWait   = 200 * time.Millisecond // for one of them, and as much again at random; also the head start
	provenFor      = 2 * time.Second        // after a login
	loginLasts     = 20 * time.Second       // at most
	turnSpread     = time.Second            // of those who wait for the same moment
)

// refusalWaits are the waits after the first refusal in a row, after the second, and after all others.
var refusalWaits = []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute}

// soonWaits are those of a row that has room for one more.
var soonWaits = append([]time.Duration{5 * time.Second, 10 * time.Second}, refusalWaits[1:]...)

// Refusals are those of one user on a server. All tunnels of the process that log in there share them.
type Refusals struct {
	mu     sync.Mutex
	row    int                 // refusals since a login, those of one moment counted once
	soon   bool                // the row has the waits for one more
	why    *fault.Error        // the last of them
	next   time.Time           // when the next login may be; zero: now
	times  []time.Time         // of the last refusals
	under  map[login]time.Time // logins under way, and when each has ended at the latest
	proven time.Time           // when a key has logged in last
}

// login is that of one link.
type login struct {
	by   *Policy
	link int
}

// refusalsTable holds the refusals of a process by user and server.
type refusalsTable struct {
	mu sync.Mutex
	of map[string]*Refusals
}

var process refusalsTable

// At returns the refusals at a server, "user@host:port", that all tunnels of this process share.
func At(server string) *Refusals { return process.at(server) }

// at returns those at a server.
func (t *refusalsTable) at(server string) *Refusals {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*Refusals{}
	}
	if t.of[server] == nil {
		t.of[server] = &Refusals{}
	}
	return t.of[server]
}

// ask lets a login begin (0), or says how long to wait before asking again, and why if a key is refused. knows: its tunnel has
// learnt that.
func (f *Refusals) ask(l login, knows bool) (wait time.Duration, why *fault.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.under == nil {
		f.under = map[login]time.Time{}
	}
	delete(f.under, l) // of an attempt that was given up
	maps.DeleteFunc(f.under, func(_ login, until time.Time) bool { return !now.Before(until) })
	most, left := 1, f.left(now)
	switch {
	case f.row > 0 && !knows && left > 0 && now.Sub(f.times[len(f.times)-1]) >= refusalWaits[0]:
		most = left // of another moment; its key may be another one
	case f.row > 0 && now.Before(f.next):
		return f.wait(now), f.why
	case f.row > 0:
	case now.Sub(f.proven) < provenFor:
		most = math.MaxInt
	case left > 1 && !f.begun(now.Add(-unprovenWait)):
		most = min(left, unprovenMost)
	}
	switch {
	case len(f.under) < most:
		f.under[l] = now.Add(loginLasts)
		return 0, nil
	case f.row > 0:
		return turnSpread + rand.N(turnSpread), f.why
	}
	return unprovenWait + rand.N(unprovenWait), nil
}

// left is how many more logins may be refused now.
func (f *Refusals) left(now time.Time) int {
	n := refusalsMost
	for _, at := range f.times {
		if now.Sub(at) < refusalsWithin {
			n--
		}
	}
	return n
}

// begun reports whether a login that is under way began after then.
func (f *Refusals) begun(after time.Time) bool {
	for _, until := range f.under {
		if until.Add(-loginLasts).After(after) {
			return true
		}
	}
	return false
}

func (f *Refusals) wait(now time.Time) time.Duration { return f.next.Sub(now) + rand.N(turnSpread) }

// add notes that a login was refused, and returns how long to wait. A login that is refused before the next one
// is due had begun before the first refusal was known: it is none in a row. away: its tunnel has no link.
func (f *Refusals) add(why *fault.Error, away bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.why, f.times = why, append(f.times, now)
	f.times = f.times[max(0, len(f.times)-refusalsMost):]
	switch {
	case !now.Before(f.next):
		f.row++
		if f.row == 1 {
			f.soon = away && f.left(now) == refusalsMost-1
		}
		waits := refusalWaits
		if f.soon {
			waits = soonWaits
		}
		f.next = now.Add(waits[min(f.row, len(waits))-1])
	case f.soon && f.row == 1: // the room is gone
		f.soon, f.next = false, now.Add(refusalWaits[0])
	}
	if full := f.times[0].Add(refusalsWithin); len(f.times) == refusalsMost && f.next.Before(full) {
		f.next = full
	}
	return f.wait(now)
}

// accepted: a key has logged in.
func (f *Refusals) accepted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row, f.why, f.next, f.proven = 0, nil, time.Time{}, time.Now()
	clear(f.under) // what is still under way is granted as well
}

// leave: a login has ended, or the attempt did not come to one.
func (f *Refusals) leave(l login) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.under, l)
}

// hurry: the next login is due now, or 15 s after the last refusal. Forty calls in four seconds had 26 logins refused.
func (f *Refusals) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.times) == 0 {
		f.next = time.Time{}
		return
	}
	if soonest := f.times[len(f.times)-1].Add(refusalWaits[0]); soonest.Before(f.next) {
		f.next = soonest
	}
}
