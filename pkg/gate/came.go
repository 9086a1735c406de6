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

// livesWait bounds the wait for a link's answer, of one that may be full.
const livesWait = 6 * time.Second

// arrival is what the proxy tells of a request, by this machine's clock. The proxy's is known to a round trip, and doubt is
// for the request: it was first passed to this tunnel, in most cases.
func (o *once) arrival(r *http.Request) (a begun.Arrival) {
	passed, told := timeOf(r.Header[passedHeader])
	a.Again = r.Header[againHeader] != nil
	if told && o.clock != nil {
		ctx, cancel := context.WithTimeout(r.Context(), clockWait)
		defer cancel()
		if ahead, known := o.clock(ctx); known {
			a.Passed = passed.Add(-ahead)
		}
	}
	a.Now = time.Now().Round(0)
	if !a.Passed.IsZero() && a.Now.Sub(a.Passed) > begun.Fresh {
		a.Lives = lives(r)
	}
	return a
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
