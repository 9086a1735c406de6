// SPDX-License-Identifier: Apache-2.0

// Package retry decides when the links of a tunnel are tried again, and what ends that, by what an error means and by the
// tunnel's history. It makes no link and waits for nothing.
//
//	r := retry.New(retry.At("me@proxy.example.com:22"))
//	if wait, why := r.Ready(link); wait > 0 { … } // not yet; why is nil where the cause is as before
//	r.Up()                                        // the attempt made a link,
//	wait, permanent := r.Failed(link, err, others) // or it did not, while so many others are up
//	wait := r.Lost(link, lived, others)
//
// Promises. A key that is refused for a moment is tried again so seldom that neither sshd nor fail2ban shuts its address
// out, and by one link for all tunnels of the process. Links that are lost in one instant come back spread out.
package retry

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Policy decides when the links of one tunnel are tried again, and what ends it. The run loop owns it: it
// hears what became of each link, and is asked before each attempt.
//
// What is permanent follows from the error's class and the tunnel's history: a proxy that once granted what it refuses
// now may grant it again. A host key that is not the known one is refused by us, and stays permanent.
type Policy struct {
	refusals *Refusals // shared with other tunnels of the process
	links    map[int]*attempts
	worked   bool         // a link was up
	refusal  *fault.Error // why a key is refused that had worked; nil: it is not. While it is, one link alone tries
}

// attempts are those to make one link.
type attempts struct {
	backoff backoff.Backoff
	herd    time.Duration // to wait in addition, for all links ended just after this one
	first   bool          // the next attempt is the first since the loss
}

// New makes the policy of a tunnel, which shares what is known of refused logins: see At.
func New(f *Refusals) *Policy { return &Policy{refusals: f, links: map[int]*attempts{}} }

func (r *Policy) link(i int) *attempts {
	if r.links[i] == nil {
		r.links[i] = &attempts{}
	}
	return r.links[i]
}

// Ready is asked when an attempt is due. It returns how much longer to wait, and why if that is news.
func (r *Policy) Ready(link int) (wait time.Duration, why *fault.Error) {
	a := r.link(link)
	if wait, a.herd, a.first = a.herd, 0, false; wait > 0 {
		return wait, nil
	}
	if r.refusal != nil {
		return r.refusals.ask(r), r.refusal
	}
	return 0, nil
}

// Never is the wait of a link that is not tried again by itself while others are up.
const Never time.Duration = math.MaxInt64

// Lost notes that a link has ended that had been up for lived, while so many others are up. It returns the wait before the first attempt.
func (r *Policy) Lost(link int, lived time.Duration, others int) time.Duration {
	if others == 0 { // and those that ended just before it have not been tried yet
		for _, a := range r.links {
			if a.first {
				a.herd = rand.N(backoff.Herd)
			}
		}
	}
	a := r.link(link)
	a.first = true
	return a.backoff.Lost(lived, others == 0)
}

// Up notes that an attempt has made a link.
func (r *Policy) Up() {
	r.worked, r.refusal = true, nil
	r.refusals.accepted()
}

// Failed notes that an attempt has failed while so many others are up. It returns the wait before the next one, which may be
// Never, or that the tunnel has failed.
func (r *Policy) Failed(link int, err error, others int) (wait time.Duration, permanent bool) {
	b := &r.link(link).backoff
	r.refusals.leave(r)
	switch {
	case errors.Is(err, fault.ErrReplaced):
		return 0, true
	case r.worked && fault.IsPermanent(err) && errors.Is(err, fault.ErrAuth):
		r.refusal = fault.From(err)
		return r.refusals.add(), false
	case fault.IsPermanent(err) && r.granted(err):
		return b.Failed(), false
	case fault.IsPermanent(err) && others > 0 && (errors.Is(err, fault.ErrHostKey) || errors.Is(err, fault.ErrPassword)):
		return Never, false // the other end may be an attacker's; and wrong passwords lock an account
	case fault.IsPermanent(err) && others > 0: // what is left serves
		return b.Refused(), false
	case fault.IsPermanent(err):
		return 0, true
	case errors.Is(err, fault.ErrUnconnected):
		return b.Unconnected(), false
	case errors.Is(err, fault.ErrOverload) && others > 0: // a standby that one connection too many is for
		return b.Failed(), false
	case errors.Is(err, fault.ErrOverload):
		return b.Overloaded(), false
	case errors.Is(err, fault.ErrPatience) && r.refusal != nil: // it has been told of our key often enough
		return b.Refused(), false
	case errors.Is(err, fault.ErrPatience):
		return b.TurnedAway(), false
	default:
		return b.Failed(), false
	}
}

// granted reports whether err refuses a forward that worked before: it was not forbidden since. An account that may
// forward no other port looks the same while a stale link holds it.
func (r *Policy) granted(err error) bool {
	return r.worked && (errors.Is(err, fault.ErrForward) || errors.Is(err, fault.ErrHop) && !errors.Is(err, fault.ErrPassword))
}

// Refused reports whether a key is refused that has logged in before.
func (r *Policy) Refused() bool { return r.refusal != nil }

// Reset has the links made now, as their owner asks.
func (r *Policy) Reset() {
	clear(r.links)
	if r.refusal != nil {
		r.refusals.hurry()
	}
}

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

// Refusals are those of one user on a server. All tunnels of the process that log in there share them.
type Refusals struct {
	mu    sync.Mutex
	row   int         // refusals since a login, those of one moment counted once
	next  time.Time   // when the next login may be; zero: now
	times []time.Time // of the last refusals
	turn  *Policy     // the tunnel that logs in while the others wait; nil: none does
	until time.Time   // …which ends then at the latest
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

// ask gives r the turn to log in (0), or says how long to wait before it asks again.
func (f *Refusals) ask(r *Policy) time.Duration {
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

func (f *Refusals) wait(now time.Time) time.Duration { return f.next.Sub(now) + rand.N(turnSpread) }

// add notes that a login was refused, and returns how long to wait. A login that is refused before the next one
// is due had begun before the first refusal was known: it changes nothing.
func (f *Refusals) add() time.Duration {
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
func (f *Refusals) accepted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row, f.next, f.turn = 0, time.Time{}, nil
}

// leave: the attempt of r has ended, whatever came of it.
func (f *Refusals) leave(r *Policy) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.turn == r {
		f.turn = nil
	}
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
