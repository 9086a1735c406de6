// SPDX-License-Identifier: Apache-2.0

//go:build linux

package relay

import (
	"sync"
	"time"
)

// pieces is how many may be under way in one direction of a connection.
const pieces = 1024

// catchUp is how late those who wait for their turn may wake up without the line being idle for it.
const catchUp = 10 * time.Millisecond

// piece is what was read at once, or why nothing more is.
type piece struct {
	bytes []byte
	err   error
	at    time.Time // when it arrives
}

// line is one direction of the way, which all connections share.
type line struct {
	mu   sync.Mutex
	is   width
	free time.Time // when all that was sent has left
}

// width is what a line is like.
type width struct {
	delay time.Duration
	rate  int // bytes a second; 0: no limit
}

func (l *line) now() width {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.is
}

func (l *line) setDelay(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.is.delay = d
}

func (l *line) setRate(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.is.rate, l.free = bytes, time.Time{}
}

// send sends n bytes after all that was sent before. It returns when the last of them has left, and when that
// arrives.
func (l *line) send(n int) (left, arrives time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = time.Now()
	if l.is.rate > 0 {
		if earliest := left.Add(-catchUp); l.free.Before(earliest) {
			l.free = earliest
		}
		l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.is.rate))
		left = l.free
	}
	return left, left.Add(l.is.delay)
}
