// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"testing"
	"time"
)

func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: waited %v, want %v to %v", what, got, low, high)
	}
}

func TestSchedule(t *testing.T) {
	const s = time.Second
	for range 200 {
		var b Backoff
		within(t, "first loss", b.Lost(time.Hour), 0, Spread)
		for i, nominal := range []time.Duration{s, 2 * s, 4 * s, 8 * s, 15 * s, 15 * s, 15 * s} {
			within(t, "failure "+string(rune('1'+i)), b.Failed(), nominal/2, nominal)
		}
		within(t, "loss after a stable link", b.Lost(Stable), 0, Spread)
		within(t, "loss of a young link", b.Lost(Stable-1), s/2, s)
		within(t, "second young link", b.Lost(0), s, 2*s)
		within(t, "refusal", b.Refused(), Cap, 2*Cap)
		b.Reset()
		within(t, "after reset", b.Lost(0), 0, Spread)
	}
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
			clock += 200*time.Millisecond + b.Lost(200*time.Millisecond)
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
