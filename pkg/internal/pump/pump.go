// SPDX-License-Identifier: Apache-2.0

package forward

import "sync"

const (
	smallSize = 2 << 10   // what a direction of an idle connection holds
	largeSize = 128 << 10 // while data flows
)

var large = sync.Pool{New: func() any { return new([largeSize]byte) }}

// buffer is small until it comes full, and large until it does not: a thousand idle websockets
// then hold 4 MB instead of 256.
type buffer struct {
	small []byte
	large *[largeSize]byte
}

func newBuffer() *buffer { return &buffer{small: make([]byte, smallSize)} }

func (b *buffer) bytes() []byte {
	if b.large != nil {
		return b.large[:]
	}
	return b.small
}

// read notes that n bytes came; what bytes returned before is no longer valid.
func (b *buffer) read(n int) {
	switch {
	case b.large == nil && n == smallSize:
		b.large = large.Get().(*[largeSize]byte)
	case b.large != nil && n <= smallSize:
		b.free()
	}
}

func (b *buffer) free() {
	if b.large != nil {
		large.Put(b.large)
		b.large = nil
	}
}
