// SPDX-License-Identifier: Apache-2.0

// Package loopcheck asks whether what visitors open leads to this tunnel, and answers such questions: its own, and those of other tunnels.
//
//	c := loopcheck.New(asked, met)
//	ask, reply := c.Begin()
//	f := probe.URL(ctx, probe.Question{URL: loopcheck.QuestionURL(url), Ask: ask, Reply: reply, Exposed: c.Order()})
//	c.End(ask)
//
// and of each connection that arrives meanwhile
//
//	if conn = c.Answer(conn); conn != nil { … }
package loopcheck

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

const sameClock = 3 * time.Second // how far this machine's clock may be from a Date that has been on the way for a while

// Checker answers the questions with which this tunnel asks the public URL whether it leads
// here. While one is open, connections are looked at before they are handed on.
type Checker struct {
	began time.Time // when the tunnel was exposed, by a clock that stands still while this machine is suspended
	asked func()    // another tunnel did
	met   func()    // another tunnel is there

	told    chan struct{} // closed when ahead is known
	carried atomic.Int64  // connections that began with TLS, of those that were looked at

	mu      sync.Mutex
	open    map[string]string // question: answer
	exposed probe.Exposed
	ahead   time.Duration // how far the proxy's clock is ahead of steady's, at least
	stands  bool          // the tunnel was seen to serve its visitors
	left    bool
}

func New(asked, met func()) *Checker {
	return &Checker{began: time.Now(), asked: asked, met: met, told: make(chan struct{}), exposed: probe.Exposed{ID: rand.Text()}}
}

// Learn takes the proxy's time, and when this tunnel was exposed by it, once: what it is later, after a suspend, says nothing
// about that. Of whole seconds (the header Date) it is no more than a check of this machine's clock. took is how long the answer was
// waited for: one that was long under way, by a full link, tells less than what is known.
func (c *Checker) Learn(now time.Time, took time.Duration) {
	if now.IsZero() {
		return
	}
	mine, whole := time.Now(), now.Nanosecond() == 0
	if whole && mine.Sub(now).Abs() < sameClock {
		now = mine
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exposed.At == 0 {
		c.exposed.At = now.Add(-time.Since(c.began)).UnixMilli()
	}
	if !whole && (took < sameClock || !c.timed()) {
		c.ahead = now.Sub(steady.Now())
		if !c.timed() {
			close(c.told)
		}
	}
}

// Clock implements gate.Config's Clock.
func (c *Checker) Clock(ctx context.Context) (ahead time.Duration, known bool) {
	if !c.timed() {
		select {
		case <-c.told:
		case <-ctx.Done():
			return 0, false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead, true
}

// timed reports whether the proxy's time is known.
func (c *Checker) timed() bool {
	select {
	case <-c.told:
		return true
	default:
		return false
	}
}

// Leave has this tunnel claim nothing any more, towards the one before it that is to have the slots back.
func (c *Checker) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
}

// Order is this tunnel among others.
func (c *Checker) Order() probe.Exposed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return probe.Exposed{ID: c.exposed.ID}
	}
	return c.exposed
}

// Stand has this tunnel say from now on that it is the newer one. One that is still being opened may fail, and those
// before it would not come back.
func (c *Checker) Stand() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stands = true
}

// Met: another tunnel is there.
func (c *Checker) Met() { c.met() }

// says is the answer to another tunnel's question, as header fields; none if it is no such question.
func (c *Checker) says(asker string) http.Header {
	says := c.Order().Says(asker)
	if says == "" {
		return nil
	}
	c.met()
	c.asked()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stands {
		return http.Header{probe.ExposedHeader: {says}}
	}
	if says == probe.SaysNewer {
		says = probe.SaysUnknown
	}
	return http.Header{probe.ExposedHeader: {says}, probe.OpeningHeader: {"1"}}
}

func (c *Checker) Begin() (ask, reply string) {
	ask, reply = rand.Text(), rand.Text()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]string{}
	}
	c.open[ask] = reply
	return ask, reply
}

func (c *Checker) End(ask string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, ask)
}

func (c *Checker) Busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open) > 0
}

// answerIn returns the answer to the question that head holds, if it does.
func (c *Checker) answerIn(head []byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ask, reply := range c.open {
		if bytes.Contains(head, []byte(ask)) {
			return reply
		}
	}
	return ""
}

// Serve answers a question at the gate's own address. Who asks without knowing one learns that here
// is a tunnel, and which is newer, as a tunnel that was replaced has to; and nothing else.
func (c *Checker) Serve(w http.ResponseWriter, r *http.Request) {
	if ask := r.Header.Get(probe.Header); ask != "" {
		if reply := c.answerIn([]byte(ask)); reply != "" {
			w.Header().Set(probe.Header, reply)
			w.Header().Set(probe.HostHeader, r.Host)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		maps.Copy(w.Header(), c.says(r.Header.Get(probe.ExposedHeader)))
	}
	w.WriteHeader(http.StatusNotFound)
}

// Visit tells a visit of this tunnel's own doctor, marks the answer as the gate's, with the host that it arrived with, and keeps the
// question from the app.
func (c *Checker) Visit(answer http.Header, r *http.Request) bool {
	reply := c.answerIn([]byte(r.Header.Get(probe.Header)))
	if reply == "" {
		return false
	}
	answer.Set(probe.Header, reply)
	answer.Set(probe.HostHeader, r.Host)
	r.Header.Del(probe.Header)
	return true
}
