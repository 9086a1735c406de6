// SPDX-License-Identifier: Apache-2.0

// Package steady has a clock that nobody sets: it goes on while this machine sleeps or this process stands still, and NTP
// does not set it back.
//
//	began := steady.Now()
//	…
//	age := steady.Now().Sub(began)
package steady

import (
	"sync"
	"time"
)

// start is the time on the wall when the process first asked, and what was up then.
var start = sync.OnceValues(func() (time.Time, time.Duration) { return time.Now().Round(0), up() })

// Now is the time on the wall when the process first asked, and what has passed since then. Where the system does not tell
// the latter (see up), it is the time on the wall. It has no monotonic reading, which would stand still while this machine sleeps.
func Now() time.Time {
	wall, at := start()
	if now := up(); now != 0 && at != 0 {
		return wall.Add(now - at)
	}
	return time.Now().Round(0)
}
