// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// TestOnceMemoryIsBounded sends 1000 requests a second for a minute, and 60000 at once.
func TestOnceMemoryIsBounded(t *testing.T) {
	for _, c := range []struct {
		size, most, ids int
		pause           time.Duration
	}{{100, onceMost, 45000, time.Millisecond}, {20 << 10, onceBytes / (21 << 10), 6000, time.Millisecond}, {onceAnswer, onceBytes / onceAnswer, 500, time.Millisecond}, {0, onceMost, 45000, 0}} {
		behind(t, func(d *door) {
			text := make([]byte, c.size)
			d.app = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }
			least := c.most
			for i := range c.ids {
				d.send("POST", i)
				if i%50 == 0 {
					synctest.Wait() // a run is kept after its answer was given
					n, bytes := d.held()
					if n > c.most || n*c.size > onceBytes || bytes > onceBytes {
						t.Fatalf("%d answers of %d bytes are kept, counted as %d", n, c.size, bytes)
					}
					if i > c.ids/2 {
						least = min(least, n)
					}
				}
				time.Sleep(c.pause)
			}
			if least < c.most*8/10 {
				t.Errorf("of %d bytes only %d answers are kept, want nearly %d", c.size, least, c.most)
			}
			synctest.Wait()
			d.ran.Store(0)
			for _, i := range []int{0, c.ids / 2, c.ids - 1} { // the last one's answer is there, and no other is asked for
				w := d.send("POST", i)
				if want := map[bool]int{true: 200, false: http.StatusBadGateway}[i == c.ids-1]; w.code != want {
					t.Errorf("%d bytes, request %d again: %d", c.size, i, w.code)
				}
			}
			d.wantsRuns("again", 0)
			time.Sleep(2 * begun.Kept)
			synctest.Wait()
			if n, bytes := d.held(); n != 0 || bytes != 0 || d.timer != nil || d.begun.Len() != 0 {
				t.Errorf("%d answers, %d bytes, timer %v, %d ids when nobody came for long", n, bytes, d.timer, d.begun.Len())
			}
		})
	}
}

// TestOnceForgetsSafeAnswersFirst: however many of them come, an unsafe one's answer stays.
func TestOnceForgetsSafeAnswersFirst(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 100<<10)) }
		d.send("POST", 0)
		for i := range 1000 {
			d.send("GET", 1+i)
		}
		synctest.Wait()
		if n, bytes := d.held(); n < 250 || bytes > onceBytes {
			t.Errorf("%d answers of %d bytes are kept", n, bytes)
		}
		if w := d.send("POST", 0); w.code != 200 {
			t.Errorf("the unsafe one again: %d", w.code)
		}
		d.wantsRuns("kept", 1001)
		d.send("GET", 1000)
		d.wantsRuns("the last one", 1001)
		d.send("GET", 1)
		d.wantsRuns("the first one, whose answer went", 1002)
	})
}

// TestOnceIsBusy: when there is no room for one more id, an unsafe request is refused, and no id forgotten.
func TestOnceIsBusy(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		before := inUse()
		d.mu.Lock()
		for i := range begun.Most {
			d.enter(fmt.Sprintf("%032d", i), begun.Arrival{})
		}
		d.mu.Unlock()
		if cost := inUse() - before; cost > 100*begun.Most {
			t.Errorf("an id costs %d bytes", cost/begun.Most)
		}
		got := d.visit("POST", onceID, "x").answer()
		if d.wants("one more", got, http.StatusServiceUnavailable, says(pageFull)); got.Header.Get("Retry-After") == "" {
			t.Errorf("%v", got.Header)
		}
		d.wants("streamed", d.visit("POST", onceID, "0\r\n\r\n", "Transfer-Encoding: chunked\r\nX-No: content-length").answer(), http.StatusServiceUnavailable, says(pageFull))
		d.wants("one of them", d.visit("POST", fmt.Sprintf("%032d", 0), "x").answer(), http.StatusBadGateway, says(pageRepeated))
		d.wantsRuns("unsafe", 0)
		d.wants("a safe one", d.visit("GET", onceID, "").answer(), 200, "")
		d.begun.End(fmt.Sprintf("%032d", 0))
		time.Sleep(begun.Kept + begun.Tick + 1)
		synctest.Wait()
		d.wants("when there is room again", d.visit("POST", onceID, "x").answer(), 200, "")
	})
}

// TestOnceTimeStandsStill: a process that stood still finds what came meanwhile, after however long.
func TestOnceTimeStandsStill(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		var tick func()
		d.begun = begun.NewMemory(time.Now(), func(_ time.Duration, f func()) { tick = f })
		d.wants("first", d.visit("POST", onceID, "x").answer(), 200, "")
		synctest.Wait()
		d.mu.Lock()
		d.timer.Stop() // as none comes while the process stands still, and one when it goes on
		d.mu.Unlock()
		time.Sleep(time.Hour)
		d.tick()
		tick()
		d.wants("again", d.visit("POST", onceID, "x").answer(), 200, "")
		d.wantsRuns("again", 1)
	})
}

// TestOnceOutlastsTheProxy: what nginx sends again is known.
func TestOnceOutlastsTheProxy(t *testing.T) {
	const nextUpstream, onTheWay = 10 * time.Second, 30 * time.Second
	if proxyhost.RepeatWithin+nextUpstream+onTheWay > begun.Kept || begun.Ticks*int(begun.Tick)-int(begun.Tick) < int(begun.Kept) {
		t.Errorf("nginx sends requests again for %v, and they are known for %v", proxyhost.RepeatWithin, begun.Kept)
	}
}

// held counts what is kept.
func (o *once) held() (n, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.safe)+len(o.unsafe) > len(o.runs) {
		panic("more ended than there are")
	}
	return len(o.runs), o.bytes
}

// send sends the request of a number.
func (d *door) send(method string, n int) *nowhere {
	r := httptest.NewRequest(method, "/", nil)
	r.Header.Set(requestID, fmt.Sprintf("%032d", n))
	w := &nowhere{h: http.Header{}}
	d.ServeHTTP(w, r)
	return w
}

// nowhere is an http.ResponseWriter that costs nothing.
type nowhere struct {
	h    http.Header
	code int
}

func (n *nowhere) Header() http.Header         { return n.h }
func (n *nowhere) WriteHeader(code int)        { n.code = code }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
