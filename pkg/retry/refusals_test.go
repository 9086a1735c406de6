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
			time.Sleep(f.add())
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
