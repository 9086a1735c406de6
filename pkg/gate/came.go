// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

const (
	// passedHeader is when the proxy first passed a request on, by its own clock: seconds since 1970 with three digits of
	// milliseconds (nginx: $msec). A request that it sends again has the same.
	passedHeader = "X-Taipy-Tunnel-Passed"
	// againHeader is there if the proxy has sent the request before, or a part of it (nginx: $upstream_bytes_sent).
	againHeader = "X-Taipy-Tunnel-Again"
)

// clockWait bounds the wait for the proxy's time, which is asked for when the first link has logged in.
const clockWait = 2 * time.Second

// livesWait bounds the wait for a link's answer, of one that may be full. One that has ended says so before.
const livesWait = 30 * time.Second

// marks are what the proxy tells of a request, by its own clock.
type marks struct {
	passed time.Time
	told   bool
	again  bool
}

// marksOf takes them out of a request: they are none of the app's business.
func marksOf(r *http.Request) (m marks) {
	m.passed, m.told = timeOf(r.Header[passedHeader])
	m.again = r.Header[againHeader] != nil
	for _, name := range [...]string{requestID, passedHeader, againHeader} {
		delete(r.Header, name)
	}
	return m
}

// arrival is what is told of an unsafe request that has come, by this machine's clock. The proxy's is known to a round trip, and
// doubt is for the request: it was first passed to this tunnel, in most cases.
func (o *once) arrival(r *http.Request, id string, m marks) (a begun.Arrival) {
	if isSafe(r) {
		return a
	}
	a.Again = m.again
	if m.told && o.clock != nil {
		if ahead, known := o.ahead(r.Context()); known {
			a.Passed = m.passed.Add(-ahead)
		}
	}
	a.Now = o.now()
	o.awaitLook(r.Context(), id, a)
	a.Now = o.now() // this process may have stood still meanwhile
	if !a.Passed.IsZero() && a.Now.Sub(a.Passed) > begun.Fresh {
		a.Lives = lives(r)
	}
	return a
}

// awaitLook asks for a look where that tells whether what the proxy sends again may begin, and waits for it.
func (o *once) awaitLook(ctx context.Context, id string, a begun.Arrival) {
	news := o.begun.Unsure(id, a)
	if news == nil || o.look == nil {
		return
	}
	within, cancel := context.WithTimeout(ctx, begun.Wait)
	defer cancel()
	for ; news != nil && o.look(); news = o.begun.Unsure(id, a) {
		select {
		case <-news:
		case <-within.Done():
			if ctx.Err() != nil { // the connection has died, so the proxy may have sent it to another tunnel by now
				panic(http.ErrAbortHandler)
			}
			return
		}
	}
}

// ahead is how far the proxy's clock is. It is waited for once: where the proxy tells no time, as when sshd forbids the check
// port, each request would wait.
func (o *once) ahead(ctx context.Context) (ahead time.Duration, known bool) {
	wait := clockWait
	if o.vain.Load() {
		wait = 0
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if ahead, known = o.clock(within); !known && ctx.Err() == nil {
		o.vain.Store(true)
	}
	return ahead, known
}

// lives reports whether the link by which a request came is there still. The proxy sends a request to another tunnel when sshd has ended
// the link; had it, it would not answer.
func lives(r *http.Request) bool {
	by, ok := r.Context().Value(connKey{}).(interface{ Answers(context.Context) error })
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), livesWait)
	defer cancel()
	return by.Answers(ctx) == nil
}

// later is what calls a memory's ticks.
func later(d time.Duration, f func()) { time.AfterFunc(d, f) }

// timeOf reads the values of a passedHeader.
func timeOf(values []string) (t time.Time, ok bool) {
	if len(values) != 1 {
		return t, false
	}
	seconds, milli, _ := strings.Cut(values[0], ".")
	n, err := strconv.ParseUint(seconds+milli, 10, 53)
	return time.UnixMilli(int64(n)), err == nil && len(milli) == 3
}
