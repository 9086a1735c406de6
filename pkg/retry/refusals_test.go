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
			time.Sleep(f.add(errRefused))
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
		for range 3 { // the next one is due after 375 s
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
