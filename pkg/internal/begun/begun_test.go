// SPDX-License-Identifier: Apache-2.0

package begun

import (
	"fmt"
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
	for name, c := range map[string]struct {
		passed, now time.Duration // since the memory is
		again       bool
		want        Verdict
	}{
		"a new one":                            {time.Minute, time.Minute, false, New},
		"sent again, and it waited":            {time.Minute, time.Minute + Fresh, true, New},
		"waited for too long":                  {time.Minute, time.Minute + Fresh + 1, false, Known},
		"passed on before this memory was":     {-ClockStep - 1, time.Second, false, Known},
		"as long before as the clock may step": {-ClockStep, time.Second, false, New},
		"a first one, early":                   {time.Second, 2 * time.Second, false, New},
		"sent again, early":                    {time.Second, 2 * time.Second, true, Known},
		"sent again, nearly late enough":       {Shared - 1, Shared + Fresh - 1, true, Known},
		"sent again, late enough":              {Shared, Shared + 1, true, New},
		"nobody tells when, early":             {untold, time.Second, false, New},
		"nobody tells when, early, again":      {untold, time.Second, true, Known},
		"nobody tells when, again":             {untold, Shared, true, New},
	} {
		if old := c.passed != untold && c.now-c.passed > Fresh; old {
			if got := remember().Enter("id", Arrival{Passed: start.Add(c.passed), Now: start.Add(c.now), Lives: true}); got != New {
				t.Errorf("%s, by a link that lives: %d", name, got)
			}
		}
		a := Arrival{Passed: start.Add(c.passed), Now: start.Add(c.now), Again: c.again}
		if c.passed == untold {
			a.Passed = time.Time{}
		}
		if got := remember().Enter("id", a); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		sole := remember()
		sole.Sole()
		want := c.want
		if c.again && c.now-c.passed <= Fresh || c.passed == untold {
			want = New
		}
		if got := sole.Enter("id", a); got != want {
			t.Errorf("%s, and no other tunnel was there: %d, want %d", name, got, want)
		}
		sole.Share(start)
		if got := sole.Enter("another", a); got != c.want {
			t.Errorf("%s, and one came: %d, want %d", name, got, c.want)
		}
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
