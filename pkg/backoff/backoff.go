// SPDX-License-Identifier: Apache-2.0

// Package backoff says how long one link waits before the next attempt.
//
//	var b backoff.Backoff
//	wait := b.Lost(lived, all) // a link that had lived that long is gone
//	wait = b.Unconnected()     // there was no TCP connection
//	wait = b.Overloaded()      // the server had no room for a login
//	wait = b.TurnedAway()      // the server refused the connection and did not say why
//	wait = b.Refused()         // the server refused what was asked
//	wait = b.Failed()          // anything else
//	b.Reset()                  // the owner asks for a link now
//
// A wait follows from what an attempt costs. A connect that fails costs nothing, so it is
// repeated every second or two. A login that an overloaded sshd drops bans no one either: it is
// repeated soon, at a random moment, and the herd thins out. Everything else doubles the wait.
// Failures are forgotten with the next link; links that die young are not, so that one
// that flaps every 200 ms makes at most ten logins a minute on average.
package backoff

import (
	"math/rand/v2"
	"time"
)

const (
	// Spread is the longest wait before the first attempt after a loss.
	Spread = 50 * time.Millisecond
	// Herd takes its place when all links ended: then the proxy's machine or its sshd has
	// probably ended, and the notebooks of all its users have learnt it in the same instant.
	Herd = 500 * time.Millisecond
	// Base is the nominal wait after the first failure; each further one doubles it.
	Base = time.Second
	// Cap is the nominal wait that is not exceeded.
	Cap = 15 * time.Second
	// Stable is how long a link must have lived for its loss to start the schedule over.
	Stable = 10 * time.Second
	// Eager is for how long a connect that fails is repeated every one to two seconds.
	Eager = 5 * time.Minute

	// The waits of an overload are random between overloadLeast and a limit that doubles from
	// overloadFirst to overloadMost. 40 clients of a real sshd that takes 10 logins at a time were all
	// back within 3 s; with 15 to 30 s half of them were away for 20 s.
	overloadLeast = 300 * time.Millisecond
	overloadFirst = 1500 * time.Millisecond
	overloadMost  = 5 * time.Second
	overloads     = 100 // in a row, about four minutes: what lasts longer is no overload

	// Until then a server that turns connections away is taken for overloaded. sshd enforces no
	// shorter penalty (sshd_config(5), PerSourcePenalties, min).
	shortestPenalty = 15 * time.Second
)

// Backoff counts what went wrong in a row. The zero value is ready. It is not safe for
// concurrent use: the supervisor's goroutine owns it.
type Backoff struct {
	young       int       // links lost since the last stable one, that one included
	failures    int       // since the last link, as all that follows
	overloads   int       //
	unconnected time.Time // when the connects began to fail
	turnedAway  time.Time // when the server began to refuse connections
}

// Lost returns the wait after the loss of a link that had been up for lived. all: the tunnel has
// no other link.
func (b *Backoff) Lost(lived time.Duration, all bool) time.Duration {
	if lived >= Stable {
		b.young = 0
	}
	*b = Backoff{young: b.young + 1}
	switch {
	case b.young > 1:
		return equal(doubled(Base, b.young-2, Cap))
	case all:
		return rand.N(Herd)
	default:
		return rand.N(Spread)
	}
}

// Failed returns the wait after a failed attempt: nominally 1, 2, 4, 8, 15, 15, … s.
func (b *Backoff) Failed() time.Duration {
	b.failures++
	return equal(doubled(Base, b.failures-1, Cap))
}

// Unconnected returns the wait after an attempt that came to no TCP connection: 1 to 2 s for five
// minutes, then 7.5 to 15 s.
func (b *Backoff) Unconnected() time.Duration {
	if b.unconnected.IsZero() {
		b.unconnected = time.Now()
	}
	if time.Since(b.unconnected) < Eager {
		return Base + rand.N(Base)
	}
	return equal(Cap)
}

// Overloaded returns the wait after the server had no room for a login (sshd_config(5),
// MaxStartups): 0.3 to 1.5 s, then to 3 s, then to 5 s; after a hundred of them 7.5 to 15 s.
func (b *Backoff) Overloaded() time.Duration {
	if b.overloads++; b.overloads > overloads {
		return equal(Cap)
	}
	return overloadLeast + rand.N(doubled(overloadFirst, b.overloads-1, overloadMost)-overloadLeast)
}

// TurnedAway returns the wait after the server refused the connection before a word of SSH. Since
// 9.8 sshd says "Not allowed at this time" for an overload and for a penalty alike, and a connection
// that it drops so adds nothing to a penalty (sshd.c, drop_connection: no child is started, and only the end
// of one counts). So it is Overloaded at first, and Refused once that lasts longer than an overload does.
func (b *Backoff) TurnedAway() time.Duration {
	if b.turnedAway.IsZero() {
		b.turnedAway = time.Now()
	}
	if time.Since(b.turnedAway) < shortestPenalty {
		return b.Overloaded()
	}
	return b.Refused()
}

// Refused returns the wait after the server refused what it may grant later: 15 to 30 s.
func (b *Backoff) Refused() time.Duration { return Cap + rand.N(Cap) }

// Reset starts the schedule over.
func (b *Backoff) Reset() { *b = Backoff{} }

// doubled is d, doubled so often, and at most most.
func doubled(d time.Duration, times int, most time.Duration) time.Duration {
	return min(d<<min(times, 10), most)
}

// equal is equal jitter: half of the wait is fixed and half random. In a simulated herd of 500 notebooks
// against MaxStartups 30 that cost 659 refusals, no jitter 3920.
func equal(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }
