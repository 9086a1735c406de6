// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestOnceAborts: an answer that breaks off does so for everybody, and nothing is asked for again because of
// it. Of a head that had not come a page says so.
func TestOnceAborts(t *testing.T) {
	for _, c := range []struct {
		name, wrote string
		why         any
	}{{"no head", "", http.ErrAbortHandler}, {"no head, defect", "", "on purpose"}, {"head", "part", http.ErrAbortHandler}, {"defect", "part", "on purpose"}, {"large", bytesOf(2 * onceAnswer), errors.New("on purpose")}} {
		for _, method := range []string{"GET", "POST"} {
			behind(t, func(d *door) {
				goOn := make(chan struct{})
				d.app = func(w http.ResponseWriter, _ *http.Request) {
					if c.wrote != "" {
						w.Header().Set("Content-Length", "1000000")
						_, _ = io.WriteString(w, c.wrote)
					}
					<-goOn
					panic(c.why)
				}
				broken := func(when string, got answer) {
					d.t.Helper()
					switch {
					case c.wrote == "":
						d.wants(c.name+when, got, http.StatusBadGateway, says(pageBroken))
					case got.err == nil || got.StatusCode != 200 || got.body != c.wrote:
						t.Errorf("%s, %s%s: %d, %d bytes, %v", c.name, method, when, got.StatusCode, len(got.body), got.err)
					}
				}
				one, two := d.visit(method, onceID, "x"), d.visit(method, onceID, "x")
				synctest.Wait() // both are there before the first has read what the second needs
				go func() { time.Sleep(time.Second); close(goOn) }()
				answers := make(chan answer, 2)
				for _, v := range []*caller{one, two} {
					go func() { answers <- v.answer() }()
				}
				for range 2 {
					broken("", <-answers)
				}
				synctest.Wait()
				got := d.visit(method, onceID, "x").answer()
				switch {
				case len(c.wrote) <= onceAnswer:
					broken(" again", got)
				case method == "GET":
					d.wants(c.name+", GET again", got, http.StatusBadGateway, says(pageBroken))
				default:
					d.wants(c.name+", POST again", got, http.StatusBadGateway, says(pageRepeated))
				}
				d.wantsRuns(c.name+" "+method, 1)
				if n := d.panicked.Load(); (n == 1) != (c.why != http.ErrAbortHandler) {
					t.Errorf("%s: %d panics were reported", c.name, n)
				}
			})
		}
	}
}
