// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// passedHeader is when the proxy first passed a request on, by its own clock: seconds since 1970 with three digits of
// milliseconds (nginx: $msec). A request that it sends again has the same.
const passedHeader = "X-Taipy-Tunnel-Passed"

const (
	// onceNew is how old an unsafe request may be that is not known here. One that waited for longer was on a link that
	// was not served: this process may have stood still, and the proxy may have asked another tunnel meanwhile, which it
	// does when sshd has ended the link: after 30 s at least (ClientAliveInterval 1, ClientAliveCountMax 30).
	onceNew = 20 * time.Second
	// clockStep is how late nginx may read its clock: once for all that comes at a time.
	clockStep = 100 * time.Millisecond
	// clockWait bounds the wait for the proxy's time, which is asked for when the first link has logged in.
	clockWait = 2 * time.Second
)

// stale reports whether another tunnel may have begun a request before this gate's memory did, or may begin it. The
// proxy's clock is known to a round trip, and doubt is for the request: it was first passed to this tunnel, in most
// cases.
func (o *once) stale(r *http.Request) bool {
	passed, told := timeOf(r.Header[passedHeader])
	if !told || o.clock == nil {
		return false // a proxy that was prepared by an older version does not tell
	}
	ctx, cancel := context.WithTimeout(r.Context(), clockWait)
	defer cancel()
	ahead, known := o.clock(ctx)
	if !known {
		return false
	}
	return passed.Before(o.begun.since.Add(ahead-clockStep)) || time.Now().Add(ahead).Sub(passed) > onceNew
}

// timeOf reads the values of a passedHeader.
func timeOf(values []string) (t time.Time, ok bool) {
	if len(values) != 1 {
		return t, false
	}
	seconds, milli, _ := strings.Cut(values[0], ".")
	n, err := strconv.ParseUint(seconds+milli, 10, 53)
	return time.UnixMilli(int64(n)), err == nil && len(milli) == 3
}
