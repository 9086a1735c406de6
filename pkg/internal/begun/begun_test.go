// SPDX-License-Identifier: Apache-2.0

package begun

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1e9, 0)

// lasting is a memory whose ticks come when they are called for.
type lasting struct {
	*Memory
	tick func()
}

func remember() *lasting {
	l := &lasting{}
	l.Memory = NewMemory(start, func(_ time.Duration, f func()) { l.tick = f })
	return l
}

// What another tunnel may have begun is not begun here.
func TestElsewhere(t *testing.T) {
	const untold = -time.Hour
	type look struct {
		at    time.Duration
		alone bool
	}
	each := func(from, to time.Duration) (looks []look) {
		for at := from; at <= to; at += 7 * time.Second {
			looks = append(looks, look{at, true})
		}
		return looks
	}
	alone := slices.Clip(each(time.Second, 2*time.Minute))
	for name, c := range map[string]struct {
		passed, now time.Duration // since the memory is
		again       bool
		looks       []look
		shared      time.Duration // when another tunnel was seen
		want        Verdict
	}{
		"a new one":                                 {time.Minute, time.Minute, false, nil, untold, New},
		"it waited":                                 {time.Minute, time.Minute + Fresh, false, nil, untold, New},
		"it waited for too long":                    {time.Minute, time.Minute + Fresh + 1, false, alone, untold, Known},
		"passed on before this memory was":          {-ClockStep - 1, time.Second, false, alone, untold, Known},
		"as long before as the clock may step":      {-ClockStep, time.Second, false, alone, untold, New},
		"nobody tells when":                         {untold, time.Second, false, nil, untold, New},
		"nobody tells when, again":                  {untold, time.Minute, true, alone, untold, Known},
		"a first one, while another tunnel is":      {time.Minute, time.Minute, false, alone, time.Minute, New},
		"sent again, and this tunnel is alone":      {time.Minute, time.Minute + Fresh, true, alone, untold, New},
		"sent again, late":                          {time.Minute, time.Minute + Fresh + 1, true, alone, untold, Known},
		"sent again, and nobody has looked":         {time.Minute, time.Minute, true, nil, untold, Known},
		"sent again, and nobody has looked lately":  {time.Minute, time.Minute, true, each(time.Second, time.Minute-Unseen), untold, Known},
		"sent again, early":                         {time.Second + Alone - 1, time.Second + Alone, true, alone, untold, Known},
		"sent again, early no more":                 {time.Second + Alone, time.Second + Alone, true, alone, untold, New},
		"nobody looked for as long as may be":       {time.Minute, time.Minute, true, append(each(time.Second, 50*time.Second), each(50*time.Second+Unseen, 2*time.Minute)...), untold, New},
		"nobody looked for longer":                  {time.Minute, time.Minute, true, append(each(time.Second, 50*time.Second), each(50*time.Second+Unseen+1, 2*time.Minute)...), untold, Known},
		"a slot was lost":                           {time.Minute, time.Minute, true, append(alone, look{time.Minute - Alone + 1, false}), untold, Known},
		"a slot was lost long ago":                  {time.Minute, time.Minute, true, append(alone, look{time.Minute - Alone, false}), untold, New},
		"another tunnel was seen":                   {time.Minute, time.Minute, true, alone, time.Minute - Shared + 1, Known},
		"another tunnel was seen, then one of ours": {time.Minute, time.Minute, true, append(alone, look{30 * time.Second, false}), time.Minute - Shared + 1, Known},
		"another tunnel was seen long ago":          {time.Minute, time.Minute, true, alone, time.Minute - Shared, New},
	} {
		m := remember()
		if c.shared != untold {
			m.Share(start.Add(c.shared))
		}
		for _, l := range c.looks {
			m.Looked(start.Add(l.at), l.alone)
		}
		a := Arrival{Passed: start.Add(c.passed), Now: start.Add(c.now), Again: c.again}
		if c.passed == untold {
			a.Passed = time.Time{}
		}
		if got := m.Enter("id", a); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// What the proxy sends again waits for a look that begins when it has come.
func TestUnsure(t *testing.T) {
	m := remember()
	at := func(d time.Duration) Arrival { return Arrival{Passed: start.Add(d), Now: start.Add(d), Again: true} }
	first := at(20 * time.Second)
	first.Again = false
	if m.Enter("known", first) != New {
		t.Fatal("a first one is not begun")
	}
	m.Looked(start, true)
	for name, a := range map[string]Arrival{"a first one": first, "shared": at(time.Second), "no time is told": {Now: start, Again: true}} {
		if m.Unsure("id", a) != nil {
			t.Errorf("%s waits", name)
		}
	}
	if m.Unsure("known", at(20*time.Second)) != nil {
		t.Error("one that is known waits")
	}
	a := at(Alone)
	for _, began := range []time.Duration{Alone - 1, Alone + 1} {
		news := m.Unsure("id", a)
		if news == nil {
			t.Fatal("it does not wait")
		}
		m.Looked(start.Add(began), true)
		select {
		case <-news:
		default:
			t.Error("it is not told of a look")
		}
	}
	if m.Unsure("id", a) != nil || m.Enter("id", a) != New {
		t.Error("it is clear, and does not begin")
	}
	later := at(Alone + 2)
	news := m.Unsure("other", later)
	m.Share(later.Now)
	<-news
	if m.Unsure("other", later) != nil || m.Enter("other", later) != Known {
		t.Error("another tunnel is there, and it begins")
	}
}

// One is known until Kept after its end, in ticks that this process has seen.
func TestKnown(t *testing.T) {
	m := remember()
	enter := func(when string, want Verdict) {
		t.Helper()
		if got := m.Enter("id", Arrival{}); got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	enter("first", New)
	for range 3 * Ticks {
		m.tick()
	}
	enter("while it runs", Known)
	m.End("id")
	for range Ticks - 1 {
		m.tick()
	}
	enter("nearly forgotten", Known)
	m.tick()
	if m.Len() != 0 {
		t.Errorf("%d are known", m.Len())
	}
	enter("forgotten", New)
}

// None is forgotten before its time: when there are too many, further ones have to wait.
func TestFull(t *testing.T) {
	m := remember()
	for n := range Most {
		if m.Enter(fmt.Sprint(n), Arrival{}) != New {
			t.Fatal(n)
		}
	}
	if got := m.Enter("one more", Arrival{}); got != Full {
		t.Errorf("%d", got)
	}
	if got := m.Enter("0", Arrival{}); got != Known {
		t.Errorf("%d", got)
	}
}
