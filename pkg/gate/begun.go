// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/sha256"
	"maps"
	"math"
	"net/http"
	"sync"
	"time"
)

const (
	// onceKept is how long, at least, a run is known after its end, and how long one goes on that nobody
	// reads. When a link goes silent under a request, the proxy may learn it from sshd after 67 to 77 s only, and asks
	// again over another link. An unsafe request it sends again until 100 s after its beginning
	// (proxyhost.RepeatWithin), to one socket after the other for 10 s (proxy_next_upstream_timeout).
	onceKept = 150 * time.Second
	// onceTick is what that is counted in. Ticks that a process missed while it stood still are not made up
	// for: the repetition may have waited in its buffers all that time.
	onceTick  = 10 * time.Second
	onceTicks = int(onceKept/onceTick) + 1 // the first of them is shorter
	onceIDs   = 200000                     // that are known; 1300 unsafe requests a second have as many
)

// begun are the ids of unsafe requests that were begun, each with the tick at which it is forgotten. They
// are known for longer than answers, for one costs some 40 bytes, and outlive their gate: what was under way when
// another took its place, the proxy sends to that one again.
type begun struct {
	since time.Time // of this machine's clock: nothing is known that was begun before
	mu    sync.Mutex
	ids   map[[16]byte]int
	ticks int
	timer *time.Timer // of the next tick; nil if there is nothing to forget
}

func keyOf(id string) [16]byte {
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:])
}

// enter adds an id, or returns the page to answer with: it is known, or stale. None is forgotten before its time: when
// there are too many, further requests have to wait.
func (b *begun) enter(id string, stale bool) (refusal string) {
	key := keyOf(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch _, known := b.ids[key]; {
	case known, stale:
		return pageRepeated
	case len(b.ids) >= onceIDs:
		return pageFull
	}
	if b.timer == nil {
		b.ids, b.timer = map[[16]byte]int{}, time.AfterFunc(onceTick, b.tick)
	}
	b.ids[key] = math.MaxInt
	return ""
}

// end has an id be forgotten in time.
func (b *begun) end(id string) {
	key := keyOf(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids[key] != 0 {
		b.ids[key] = b.ticks + onceTicks
	}
}

func (b *begun) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ticks++
	maps.DeleteFunc(b.ids, func(_ [16]byte, until int) bool { return until <= b.ticks })
	if len(b.ids) > 0 {
		b.timer.Reset(onceTick)
		return
	}
	b.ids, b.timer = nil, nil
}

// instead answers in the place of a run.
func instead(w http.ResponseWriter, r *http.Request, kind string) {
	status := http.StatusBadGateway
	if kind == pageFull {
		w.Header().Set("Retry-After", "10") // a tick
		status = http.StatusServiceUnavailable
	}
	refuse(w, r, status, page{Kind: kind})
}
