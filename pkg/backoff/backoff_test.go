// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: waited %v, want %v to %v", what, got, low, high)
	}
}

const s = time.Second

// waits checks a row of waits against nominal ones, each between least and most of them.
func waits(t *testing.T, what string, next func() time.Duration, low, high func(time.Duration) time.Duration, nominal ...time.Duration) {
	t.Helper()
	for i, n := range nominal {
		within(t, fmt.Sprint(what, " ", i+1), next(), low(n), high(n))
	}
}

func half(d time.Duration) time.Duration  { return d / 2 }
func whole(d time.Duration) time.Duration { return d }
func least(time.Duration) time.Duration   { return overloadLeast }

func TestSchedule(t *testing.T) {
	for range 200 {
		var b Backoff
		within(t, "first loss", b.Lost(time.Hour, false), 0, Spread)
		waits(t, "failure", b.Failed, half, whole, s, 2*s, 4*s, 8*s, 15*s, 15*s, 15*s)
		waits(t, "overload", b.Overloaded, least, whole, 1500*time.Millisecond, 3*s, 5*s, 5*s, 5*s)
		within(t, "loss after a stable link", b.Lost(Stable, false), 0, Spread)
		within(t, "loss of a young link", b.Lost(Stable-1, false), s/2, s)
		waits(t, "failure after a link", b.Failed, half, whole, s, 2*s)
		waits(t, "overload after a link", b.Overloaded, least, whole, 1500*time.Millisecond)
		within(t, "second young link", b.Lost(0, false), s, 2*s)
		for range 100 {
			within(t, "many young links", b.Lost(0, true), s, Cap)
		}
		within(t, "refusal", b.Refused(), Cap, 2*Cap)
		for range overloads {
			within(t, "overload", b.Overloaded(), overloadLeast, overloadMost)
		}
		within(t, "overload that does not end", b.Overloaded(), Cap/2, Cap)
		b.Reset()
		within(t, "after reset", b.Lost(0, true), 0, Herd)
	}
}

// Connects go on every second or two for five minutes, and begin to again after a link.
func TestConnectsAreCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		for round := range 2 {
			for begin := time.Now(); time.Since(begin) < Eager; {
				wait := b.Unconnected()
				within(t, "connect", wait, s, 2*s)
				time.Sleep(wait)
			}
			for range 100 {
				wait := b.Unconnected()
				within(t, "connect after five minutes", wait, Cap/2, Cap)
				time.Sleep(wait)
			}
			within(t, fmt.Sprint("lost ", round), b.Lost(Stable, false), 0, Spread)
		}
	})
}

// A server that turns connections away is overloaded first, and punishes then.
func TestTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		for begin := time.Now(); time.Since(begin) < shortestPenalty; {
			wait := b.TurnedAway()
			within(t, "at first", wait, overloadLeast, overloadMost)
			time.Sleep(wait)
		}
		waits(t, "then", b.TurnedAway, whole, func(d time.Duration) time.Duration { return 2 * d }, Cap, Cap, Cap)
	})
}

func TestFirstAttemptEverFails(t *testing.T) {
	var b Backoff
	within(t, "first failure", b.Failed(), Base/2, Base)
}

// A link that dies 200 ms after each login costs ten logins a minute on average; the shortest
// jitter throughout would make it twelve.
func TestFlappingLinkIsBounded(t *testing.T) {
	const runs = 200
	total := 0
	for range runs {
		var b Backoff
		logins, clock := 0, time.Duration(0)
		for clock < time.Minute {
			logins++
			clock += 200*time.Millisecond + b.Lost(200*time.Millisecond, false)
		}
		if total += logins; logins > 12 {
			t.Fatalf("%d logins in a minute, want at most 12", logins)
		}
	}
	if total > 10*runs {
		t.Fatalf("%.1f logins a minute on average, want at most 10", float64(total)/runs)
	}
}

func TestJitterSpreads(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 50 {
		var b Backoff
		seen[b.Failed()] = true
	}
	if len(seen) < 25 {
		t.Errorf("50 waits took only %d values", len(seen))
	}
}
