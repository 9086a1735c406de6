// SPDX-License-Identifier: Apache-2.0

// Package pump copies the bytes of connections of which there may be thousands, most of them idle.
//
//	n, err := pump.Copy(dst, src) // until src ends or either fails
package pump

import (
	"errors"
	"io"
	"sync"
)

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

// Copy moves bytes from src to dst until src ends (nil) or either fails. Unlike io.Copy it takes
// no shortcut that src or dst may offer, and holds 2 KiB while nothing flows.
func Copy(dst io.Writer, src io.Reader) (carried int64, err error) {
	buf := newBuffer()
	defer buf.free()
	for {
		n, err := src.Read(buf.bytes())
		if n > 0 {
			m, werr := dst.Write(buf.bytes()[:n])
			carried += int64(m)
			if werr != nil {
				return carried, werr
			}
		}
		buf.read(n)
		switch {
		case errors.Is(err, io.EOF):
			return carried, nil
		case err != nil:
			return carried, err
		}
	}
}
