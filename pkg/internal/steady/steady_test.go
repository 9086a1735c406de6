// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"testing"
	"time"
)

func TestNow(t *testing.T) {
	first := Now()
	if off := time.Since(first).Abs(); off > time.Second {
		t.Errorf("off by %v", off)
	}
	for range 1000 {
		now := Now()
		if now.Before(first) {
			t.Fatalf("%v after %v", now, first)
		}
		first = now
	}
	if first != first.Round(0) { //nolint:staticcheck // a monotonic reading is what == tells
		t.Error("it has a monotonic reading")
	}
}
