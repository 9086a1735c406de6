// SPDX-License-Identifier: Apache-2.0

package pump

import "testing"

func TestIdleBuffersAreSmall(t *testing.T) {
	b := newBuffer()
	if len(b.bytes()) != smallSize {
		t.Fatalf("starts with %d bytes", len(b.bytes()))
	}
	if b.read(smallSize); len(b.bytes()) != largeSize {
		t.Errorf("after a full read: %d bytes", len(b.bytes()))
	}
	if b.read(100); len(b.bytes()) != smallSize {
		t.Errorf("after a small read: %d bytes", len(b.bytes()))
	}
}
