// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ruled is a table whose events and answers are written as text: "1>0" is link 1 takes slot 0, "1?0" that it looks
// before, "1<0" that it gives it back.
type ruled struct {
	*testing.T
	Table
	now time.Time
}

func newRuled(t *testing.T, links, slots int) *ruled {
	return &ruled{t, Table{exclusive: slots == 0, up: make([]LinkID, links), slots: make([]slot, max(slots, 1))}, epoch}
}

func (r *ruled) acts(acts []Act, want string) {
	r.Helper()
	var got []string
	for _, a := range acts {
		sign := ">"
		if a.Give {
			sign = "<"
		} else if a.Look {
			sign = "?"
		}
		got = append(got, fmt.Sprintf("%d%s%d", a.Link, sign, a.Slot))
	}
	if text := strings.Join(got, " "); text != want {
		r.Fatalf("after %v: %q, want %q", r.now.Sub(epoch), text, want)
	}
}

func (r *ruled) up(index int, l LinkID, want string) {
	r.Helper()
	r.acts(r.LinkUp(index, l, r.now), want)
}
func (r *ruled) lost(l LinkID, want string)           { r.Helper(); r.acts(r.LinkLost(l, r.now), want) }
func (r *ruled) took(l LinkID, slot int, want string) { r.Helper(); r.told(l, slot, Took, want) }
func (r *ruled) gave(l LinkID, slot int, want string) {
	r.Helper()
	r.acts(r.Given(slot, l, r.now), want)
}
func (r *ruled) told(l LinkID, slot int, how Outcome, want string) {
	r.Helper()
	r.acts(r.Answered(slot, l, how, r.now), want)
}

// saw: a look began and ended.
func (r *ruled) saw(want string, seen ...Sight) {
	r.Helper()
	r.acts(r.Looked(r.now, seen, r.now), want)
}

// after: that time passes, and the run loop settles.
func (r *ruled) after(d time.Duration, want string) {
	r.Helper()
	r.now = r.now.Add(d)
	r.acts(r.Settle(r.now), want)
}

// served is a table of one link that has its slots, and was seen to.
func served(t *testing.T, slots int) *ruled {
	r := newRuled(t, 1, slots)
	want := "1>0"
	if slots == 1 { // by which alone another tunnel could learn of this one
		want = "1?0"
	}
	for i := 1; i < len(r.slots); i++ {
		want += fmt.Sprintf(" 1?%d", i)
	}
	r.up(0, 1, want)
	for i := range r.slots {
		r.took(1, i, "")
	}
	r.after(time.Minute, "")
	r.saw("", slices.Repeat([]Sight{Ours}, len(r.slots))...)
	return r
}

func TestRuleEachLinkHasItsOwnSlots(t *testing.T) {
	r := newRuled(t, 2, 4)
	r.up(0, 1, "1>0 1?1 1?2 1?3") // the first one serves all
	for i := range 4 {
		r.took(1, i, "")
	}
	r.up(1, 2, "2?1 2?3")
	r.took(2, 1, "")
	r.took(2, 3, "")
	r.after(HandOver-1, "") // the queue of the one before is served on
	r.after(1, "1<1 1<3")
	r.gave(1, 1, "")
	r.gave(1, 3, "")
	r.lost(1, "2?0 2?2")
	r.took(2, 0, "")
	r.lost(2, "") // and with it its request for slot 2
	r.up(1, 3, "3?0 3?1 3?2 3?3")
}

func TestRuleOneRequestForASlotAtATime(t *testing.T) {
	r := newRuled(t, 2, 1)
	r.up(1, 1, "1?0")
	r.up(0, 2, "")         // although the slot is its own
	r.told(2, 0, Took, "") // it was not asked
	r.took(1, 0, "2?0")
	r.told(1, 0, Refused, "") // an answer too many
	r.took(2, 0, "")
	r.after(HandOver, "1<0")
}

func TestRulePortIsGivenBackBeforeItIsTaken(t *testing.T) {
	r := newRuled(t, 2, 0)
	r.up(1, 1, "1>0")
	r.took(1, 0, "")
	r.up(0, 2, "") // the standby: who has the port stays
	r.lost(1, "2>0")
	r.took(2, 0, "")
	r.up(0, 3, "2<0") // reconnect(): another link in the place of the one that has it
	r.gave(2, 0, "3>0")
	r.took(3, 0, "")
	r.acts(r.Yield(r.now), "3<0")
	r.gave(3, 0, "")
	r.acts(r.Resume(r.now), "3>0")
}

func TestRuleRefusalsWait(t *testing.T) {
	r := newRuled(t, 1, 0)
	r.up(0, 1, "1>0")
	for _, wait := range []time.Duration{1, 2, 4, 8, 8, 8} {
		r.told(1, 0, Refused, "")
		r.after(wait*time.Second-1, "")
		r.after(1, "1>0")
	}
	r.told(1, 0, Refused, "")
	r.up(0, 2, "2>0") // what one link is refused another may be granted
}

// Slots that are taken, and do not lead here in spite of it.
func TestRuleTakenInVain(t *testing.T) {
	r := served(t, 1)
	r.saw("1?0", Foreign)
	r.took(1, 0, "")
	r.after(lookSoon, "")
	r.saw("1<0", Foreign) // or sshd would keep a listener for each
	r.gave(1, 0, "1?0")
	r.took(1, 0, "")
	for _, wait := range []time.Duration{7, 7, 14, 28, 56, 112, 120, 120} {
		r.after(1, "")
		r.saw("", Foreign)
		r.after(wait*time.Second-2, "")
		r.after(1, "1<0")
		r.gave(1, 0, "1?0")
		r.took(1, 0, "")
	}
	r.after(1, "")
	r.saw("", Foreign)
	r.after(lookEvery, "")
	r.saw("1<0", Nobody) // another sight, another cause
	r.gave(1, 0, "1?0")
	r.took(1, 0, "")
	r.after(1, "")
	r.saw("", Nobody)
	r.saw("", Ours) // it helped: what was planned is not done
	r.after(mostPause, "")
	r.saw("1?0", Nobody)
}

// vain: nginx leads elsewhere, and link 1 has taken slot 0 in vain as often as it does at once.
func (r *ruled) vain() {
	r.Helper()
	r.after(1, "")
	r.saw("1?0", Foreign)
	r.took(1, 0, "")
	r.after(1, "")
	r.saw("1<0", Foreign)
	r.gave(1, 0, "1?0")
	r.took(1, 0, "")
	r.after(1, "")
	r.saw("", Foreign)
}

func TestRuleLossEndsAPause(t *testing.T) {
	r := served(t, 1)
	r.vain()
	r.lost(1, "")
	r.up(0, 2, "2?0")

	r = newRuled(t, 2, 1)
	r.up(0, 1, "1?0")
	r.took(1, 0, "")
	r.up(1, 2, "")
	r.vain()
	r.lost(1, "2?0") // the other link does not wait
}

// A sight that may be of before a change says nothing of what is now.
func TestRuleOldSights(t *testing.T) {
	r := served(t, 2)
	began := r.now
	r.after(time.Millisecond, "")
	r.saw("1?0", Nobody, Ours)
	r.acts(r.Looked(began, []Sight{Nobody, Ours}, r.now), "") // while it is being taken
	r.took(1, 0, "")
	r.acts(r.Looked(began, []Sight{Nobody, Ours}, r.now), "")
	r.after(1, "")
	r.saw("1<0 1?1", Older, Nobody)
}

func TestRuleSilenceCountsTheSecondTime(t *testing.T) {
	r := served(t, 1)
	r.saw("", Silent)
	if want := r.now.Add(lookAgain); r.lookAt.After(want) {
		t.Errorf("the next look is at %v", r.lookAt)
	}
	r.saw("", Unknown) // cannot be told: neither again nor not
	r.saw("1?0", Silent)
	r.took(1, 0, "")
	r.after(1, "")
	r.saw("", Ours)
	r.saw("", Silent)
}

func TestRuleReplaced(t *testing.T) {
	r := served(t, 2)
	r.saw("", Newer, Ours)
	r.after(lookSoon-1, "")
	r.saw("", Newer, Ours) // not long enough after the first
	r.after(1, "")
	r.saw("", Ours, Ours) // it lived for a moment
	r.saw("", Newer, Unknown)
	r.after(lookSoon, "")
	r.saw("1<0 1<1", Ours, Newer)
	if r.gave(1, 0, ""); !r.replaced {
		t.Error("it does not know")
	}
	r.up(0, 2, "")
	r.saw("", Nobody, Nobody)
}

// A tunnel that finds a newer one when it is about to take a slot does not take it, and shows that visitors are elsewhere.
func TestRuleNotTaken(t *testing.T) {
	r := served(t, 1)
	r.lost(1, "")
	r.up(0, 2, "2?0")
	r.told(2, 0, NotTaken, "")
	if held, _ := r.Holding(); held != 0 {
		t.Error("it shows up")
	}
	r.after(2*lookSoon, "2?0")
	r.told(2, 0, NotTaken, "")
	if !r.replaced {
		t.Error("it does not know")
	}
}

func TestRuleYieldAndResume(t *testing.T) {
	r := served(t, 1)
	r.acts(r.Yield(r.now), "") // a socket goes to the link that asks last
	r.saw("", Newer)
	r.after(time.Minute, "")
	r.saw("", Newer)
	if r.watches() || r.replaced {
		t.Error("it looks, or is replaced by a tunnel to which it yielded")
	}
	r.acts(r.Resume(r.now), "1?0")
	r.took(1, 0, "")
	r.acts(r.Leave(r.now), "1<0")
	r.gave(1, 0, "")
	if r.Uses(1) || !r.Quiet() {
		t.Error("something is left")
	}
}

func TestRuleWhenToLook(t *testing.T) {
	r := served(t, 1)
	look := func(in time.Duration) {
		t.Helper()
		if r.now = r.now.Add(in - 1); r.Looks(r.now) {
			t.Fatalf("it looks before %v", in)
		}
		if r.now = r.now.Add(1); !r.Looks(r.now) {
			t.Fatalf("it does not look after %v", in)
		}
		r.saw("", Ours)
	}
	r.lookAt = r.now.Add(lookEvery)
	look(lookEvery)
	look(lookEvery)
	r.Table.Asked(r.now) // another tunnel has looked here
	look(lookSoon)
	r.up(0, 2, "2?0")
	r.took(2, 0, "")
	r.after(HandOver, "1<0")
	r.gave(1, 0, "")
	look(lookSoon - HandOver)
	r.saw("", Silent)
	look(lookAgain)
	if r.now = r.now.Add(lookEvery); !r.Looks(r.now) {
		t.Fatal("it does not look")
	}
	r.Awaited(r.now) // a request waits for one that begins since
	if due := r.LookDue(); !due.IsZero() {
		t.Errorf("one is under way, and the next due at %v: its caller asks all the time", due)
	}
	r.saw("", Ours)
	look(lookNow)
}
