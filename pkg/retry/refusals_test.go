// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"testing"
	"testing/synctest"
	"time"
)

// Tunnels to other users and servers have nothing to do with it.
func TestRefusalsAreOfAUserOnAServer(t *testing.T) {
	var table refusalsTable
	mine := table.at("me@proxy:22")
	if mine == table.at("me@proxy:2222") || mine == table.at("you@proxy:22") || mine != table.at("me@proxy:22") {
		t.Error("shared with others, or not with themselves")
	}
}

// A key that is refused and taken by turns costs no more than one that stays refused.
func TestRefusedByTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Refusals{}
		var at []time.Time
		for i := range 100 {
			at = append(at, time.Now())
			time.Sleep(f.add(errRefused, true))
			if i%2 == 1 {
				f.accepted()
				time.Sleep(time.Second)
			}
		}
		for ; len(at) > refusalsMost; at = at[1:] {
			if d := at[refusalsMost].Sub(at[0]); d < refusalsWithin {
				t.Errorf("five within %v", d)
			}
		}
	})
}

// A tunnel that loses its links while another one's key is refused logs in at once, for its own key may be granted; not in
// the moment of the refusal, and not beyond the bound.
func TestRefusedToAnotherTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &Refusals{}
		refused, other, third := New(shared), New(shared), New(shared)
		for _, r := range []*Policy{refused, other, third} {
			r.Up()
		}
		time.Sleep(time.Hour)
		for range 3 { // at once, after 5 and 15 s; the next one is due after 75 s
			wait, _ := refused.Ready(0)
			time.Sleep(wait)
			wait, _ = refused.Failed(0, errRefused, 0)
			time.Sleep(min(wait, 80*time.Second))
		}
		if wait, why := other.Ready(0); wait != 0 {
			t.Errorf("waits %v: %v", wait, why)
		}
		if wait, _ := third.Ready(0); wait == 0 {
			t.Error("two logins at a time where one more may be refused")
		}
		if wait, _ := other.Failed(0, errRefused, 0); wait < time.Minute {
			t.Errorf("waits %v after the fourth refusal", wait)
		}
		if wait, why := third.Ready(0); wait < time.Minute || why == nil {
			t.Errorf("waits %v after the fourth refusal: %v", wait, why)
		}
	})
}

// A refusal that is known before another login begins has one try more than two that are refused together, after 5 s. With a
// link that serves there is no hurry. It is never more than four in ten minutes, and sshd's penalties (5 s for each, more than 15 s are enforced)
// never add up.
func TestRefusalsAreTriedAsOftenAsThereIsRoom(t *testing.T) {
	for name, c := range map[string]struct {
		together bool // the second login began before the first was refused
		others   int
		want     []time.Duration // when a login was refused, from the first on
	}{
		"one":           {false, 0, []time.Duration{0, 5 * time.Second, 15 * time.Second, 75 * time.Second, 10 * time.Minute}},
		"two":           {true, 0, []time.Duration{0, 0, 15 * time.Second, 75 * time.Second, 10 * time.Minute}},
		"beside a link": {false, 1, []time.Duration{0, 15 * time.Second, 75 * time.Second, 375 * time.Second, 675 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := New(&Refusals{})
				r.Up()
				time.Sleep(time.Hour)
				if wait, _ := r.Ready(0); wait > 0 {
					t.Fatalf("waits %v", wait)
				}
				if wait, _ := r.Ready(1); wait == 0 {
					t.Error("the second login has no wait")
				}
				time.Sleep(unprovenWait)
				if c.together {
					if wait, _ := r.Ready(1); wait > 0 {
						t.Fatalf("the second waits %v", wait)
					}
				}
				start, penalty, last := time.Now(), time.Duration(0), time.Now()
				for n, want := range c.want {
					now := time.Now()
					if at := now.Sub(start); at < want || at > want+5*time.Second {
						t.Errorf("%d: %v, want %v", n, at, want)
					}
					penalty = max(0, penalty-now.Sub(last)) + 5*time.Second
					if last = now; penalty > 15*time.Second {
						t.Errorf("%d: a penalty of %v", n, penalty)
					}
					wait, permanent := r.Failed(n%2, errRefused, c.others)
					if permanent {
						t.Fatal("it is given up")
					}
					for n > 0 || !c.together {
						time.Sleep(wait)
						if wait, _ = r.Ready((n + 1) % 2); wait == 0 {
							break
						}
					}
				}
			})
		})
	}
}
