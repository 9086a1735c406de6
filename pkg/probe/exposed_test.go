// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"math"
	"strings"
	"testing"
)

func TestNewer(t *testing.T) {
	ordered := []Exposed{{1, "b"}, {2, "a"}, {2, "b"}, {math.MaxInt64, "a"}} // oldest first
	for i, e := range ordered {
		for j, o := range ordered {
			want := map[bool]string{true: SaysNewer, false: SaysOlder}[i > j]
			if i == j {
				want = ""
			}
			if e.Newer(o) != (i > j) || e.Says(o.String()) != want {
				t.Errorf("%v beside %v: newer %v, says %q, want %q", e, o, e.Newer(o), e.Says(o.String()), want)
			}
		}
	}
}

// Without a time on both sides it cannot be told.
func TestUnknownTime(t *testing.T) {
	for _, pair := range [][2]Exposed{{{0, "a"}, {1, "b"}}, {{1, "a"}, {0, "b"}}, {{0, "a"}, {0, "b"}}} {
		if says := pair[0].Says(pair[1].String()); says != SaysUnknown {
			t.Errorf("%v: %q", pair, says)
		}
	}
}

func TestParseExposed(t *testing.T) {
	for _, text := range []string{"", " ", "1", "1 ", " x", "-1 x", "+1 x", "1.5 x", "1e3 x", "0x1 x", "1_0 x", "9223372036854775808 x", "1 x y", "1  x", "1 x\n",
		"1 é", "1 \x00", "newer", "1 " + strings.Repeat("x", idMost+1), strings.Repeat("9", 1<<16) + " x"} {
		if e, ok := ParseExposed(text); ok || e != (Exposed{}) {
			t.Errorf("%.40q is read as %v", text, e)
		}
		if says := (Exposed{At: 1, ID: "x"}).Says(text); says != "" {
			t.Errorf("%.40q is answered %q", text, says)
		}
	}
	if e, ok := ParseExposed("1764410643123 ABC234xyz"); !ok || e != (Exposed{1764410643123, "ABC234xyz"}) {
		t.Errorf("%v %v", e, ok)
	}
}

// FuzzExposed: what is understood can be written again, and of two exactly one is newer.
func FuzzExposed(f *testing.F) {
	f.Add("1764410643123 ABC", "0 xyz")
	f.Add("1 a", "01 a")
	f.Fuzz(func(t *testing.T, one, other string) {
		e, ok := ParseExposed(one)
		if !ok {
			return
		}
		if again, ok := ParseExposed(e.String()); !ok || again != e {
			t.Fatalf("%q: %v, then %v", one, e, again)
		}
		if o, ok := ParseExposed(other); ok && e.Newer(o) == o.Newer(e) && e != o {
			t.Fatalf("%v and %v: both newer, or neither", e, o)
		}
	})
}
