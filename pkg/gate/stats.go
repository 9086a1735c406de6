// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keptRequests = 1000
	presence     = time.Minute // a visitor is there for so long after the last request
	slow         = time.Second // to an answer's head
	mostVisitors = 10000       // that are told apart in a day
	clipPath     = 200         // bytes of a path that are kept
	clipMethod   = 20          // of a method
	statusGone   = 499         // nginx's number for a visitor who did not wait
)

// Stats is what the owner sees of the traffic since the gate was made.
type Stats struct {
	// Visitors are those who are there now, VisitorsToday those who came since midnight (UTC).
	// They are told apart by address and browser, as far as the proxy passes these on, and were
	// admitted: strangers are none.
	Visitors      int `json:"visitors_now"`
	VisitorsToday int `json:"visitors_today"`
	// Requests were answered; of them Refused by the gate, for want of access, Failed with a status
	// of 500 or more, Slow after more than a second.
	Requests int64 `json:"requests"`
	Refused  int64 `json:"refused"`
	Failed   int64 `json:"failed"`
	Slow     int64 `json:"slow"`
	// Received and Sent count bytes of bodies, on the visitors' side.
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
}

// Request is one request of a visitor's that was answered. Query strings and credentials are not kept.
type Request struct {
	// Time is when it began, seconds since 1970.
	Time float64 `json:"time"`
	// Visitor tells visitors apart, and nothing else of them.
	Visitor string `json:"visitor"`
	Method  string `json:"method"`
	// Path is without the query, of which only "?…" is left.
	Path   string `json:"path"`
	Status int    `json:"status"`
	// Seconds are those to the answer's head; of an upgrade, of the whole connection.
	Seconds float64 `json:"seconds"`
	// Received and Sent count bytes of bodies; of an upgrade, of what was carried.
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
	// Client is the visitor's address, "" where the proxy does not tell it.
	Client string `json:"client"`
}

// stats counts. Its lock is held for microseconds.
type stats struct {
	salt string

	mu    sync.Mutex
	sums  Stats
	ring  []Request
	next  int   // where in ring the next one goes, once that is full
	day   int64 // of today
	today map[string]*visitor
}

// visitor is one of today's.
type visitor struct {
	open int // requests under way
	last time.Time
}

func newStats() *stats { return &stats{salt: rand.Text(), today: map[string]*visitor{}} }

// exchange is one request and its answer, as the statistics see them. It is the answer's
// http.ResponseWriter.
type exchange struct {
	http.ResponseWriter
	Request
	stats          *stats // nil: it is not counted
	r              *http.Request
	admitted       bool
	passed         bool     // to the app
	visitor        *visitor // nil: not admitted, or too many to be told apart
	began          time.Time
	upgraded       bool
	life           context.Context // of r, or of what it became
	socket         *socket         // of a websocket
	received, sent atomic.Int64
}

// begin notes that a request has come, unless it is the owner's own.
func (g *Gate) begin(w http.ResponseWriter, r *http.Request) *exchange {
	client := g.client(r)
	if g.cfg.Visit != nil && g.cfg.Visit(w.Header(), r) {
		return &exchange{ResponseWriter: w, r: r, life: r.Context(), began: time.Now(), Request: Request{Client: client}}
	}
	return g.stats.begin(w, r, client)
}

// begin notes that a request has come; client is the visitor's address.
func (s *stats) begin(w http.ResponseWriter, r *http.Request, client string) *exchange {
	x := &exchange{ResponseWriter: w, stats: s, r: r, life: r.Context(), began: time.Now()}
	path, _, hash := strings.Cut(r.URL.EscapedPath(), "%23") // clients that send what is behind a link's # send the token
	if len(path) > clipPath {
		path = path[:clipPath] + "…"
	}
	if r.URL.RawQuery != "" || hash {
		path += "?…"
	}
	x.Request = Request{Time: float64(x.began.UnixMicro()) / 1e6, Client: client,
		Method: strings.Clone(r.Method[:min(len(r.Method), clipMethod)]), Path: strings.Clone(path)} // or the whole head would be kept with them
	return x
}

// admit notes that it is a visitor's. Anybody can send what is not, any number of them: of those
// nothing is kept but their number.
func (x *exchange) admit() {
	s, r := x.stats, x.r
	if s == nil {
		return
	}
	// What a proxy adds is good enough to count by: forging it adds a visitor, no more.
	claimed := r.Header.Get("X-Forwarded-For") + "\n" + r.Header.Get("X-Real-IP") + "\n" + r.UserAgent()
	sum := sha256.Sum256([]byte(s.salt + x.Client + "\n" + claimed))
	x.Visitor, x.admitted = hex.EncodeToString(sum[:4]), true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnDay(x.began)
	if x.visitor = s.today[x.Visitor]; x.visitor == nil && len(s.today) < mostVisitors {
		x.visitor = &visitor{}
		s.today[x.Visitor] = x.visitor
	}
	if x.visitor != nil {
		x.visitor.open++
		x.visitor.last = x.began
	}
}

// turnDay forgets yesterday's visitors but those who are still there.
func (s *stats) turnDay(now time.Time) {
	day := now.Unix() / 86400
	if day == s.day {
		return
	}
	s.day = day
	for id, v := range s.today {
		if !v.here(now) {
			delete(s.today, id)
		}
	}
}

func (v *visitor) here(now time.Time) bool { return v.open > 0 || now.Sub(v.last) < presence }

// end notes that the request was answered.
func (x *exchange) end() {
	now := time.Now()
	if x.upgraded || x.Status == 0 {
		x.Seconds = now.Sub(x.began).Seconds()
	}
	if x.Status == 0 { // nothing was answered
		x.Status = statusGone
	}
	if x.stats == nil {
		return
	}
	x.Received, x.Sent = x.received.Load(), x.sent.Load()
	s := x.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.visitor != nil {
		x.visitor.open--
		x.visitor.last = now
	}
	sums := &s.sums
	sums.Requests++
	sums.Received += x.Received
	sums.Sent += x.Sent
	switch {
	case x.Status >= 500:
		sums.Failed++
	case !x.passed && (x.Status == http.StatusForbidden || x.Status == http.StatusUnauthorized || x.Status == http.StatusTooManyRequests):
		sums.Refused++ // an app's own refusals are its answers
	}
	if !x.upgraded && x.Seconds > slow.Seconds() {
		sums.Slow++
	}
	if !x.admitted {
		return
	}
	if len(s.ring) < keptRequests {
		s.ring = append(s.ring, x.Request)
		return
	}
	s.ring[s.next] = x.Request
	s.next = (s.next + 1) % keptRequests
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(code int) {
	final := code >= 200 || code == http.StatusSwitchingProtocols
	if !final && !x.r.ProtoAtLeast(1, 1) {
		return // RFC 9110, section 15.2
	}
	if h := x.Header(); final {
		if _, typed := h["Content-Type"]; !typed {
			h["Content-Type"] = nil // or net/http would guess one
		}
		if len(x.r.TransferEncoding) > 0 { // net/http hides whether there was a length too (RFC 9112, section 6.1)
			h.Set("Connection", "close")
		}
		lastOn(h, x.r)
	}
	if x.Status == 0 && final {
		x.Status, x.Seconds = code, time.Since(x.began).Seconds()
		if x.r.Context().Err() != nil {
			x.Status = statusGone
		}
	}
	x.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (x *exchange) Write(b []byte) (int, error) {
	if x.Status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n, err := x.ResponseWriter.Write(b)
	x.sent.Add(int64(n))
	return n, err
}

// Flush implements http.Flusher.
func (x *exchange) Flush() { _ = http.NewResponseController(x.ResponseWriter).Flush() }

// Hijack implements http.Hijacker.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.upgraded, x.Status = true, http.StatusSwitchingProtocols
	early, _ := rw.Reader.Peek(rw.Reader.Buffered()) // ReverseProxy does not look there
	x.received.Add(int64(len(early)))
	context.AfterFunc(x.life, func() { _ = c.Close() }) // ReverseProxy closes the app's side, of which a copy learns nothing whose visitor is stuck
	return &counted{c, x.socket, bytes.Clone(early), &x.received, &x.sent}, rw, nil
}

// Stats returns what was counted so far.
func (g *Gate) Stats() Stats {
	s, now := g.stats, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnDay(now)
	sums := s.sums
	sums.VisitorsToday = len(s.today)
	for _, v := range s.today {
		if v.here(now) {
			sums.Visitors++
		}
	}
	return sums
}

// Requests returns the newest n requests of those who were admitted, oldest first. At most 1000 are
// kept; those of strangers, who may send any number, are only counted (Stats.Refused).
func (g *Gate) Requests(n int) []Request {
	s := g.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(append([]Request{}, s.ring[s.next:]...), s.ring[:s.next]...)
	return all[len(all)-min(max(n, 0), len(all)):]
}

// counting is body, counted. It is for a copy of the request: net/http has to know its own body
// again, or waits for the rest of what nobody asked for before it answers.
func (x *exchange) counting(body io.ReadCloser) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	return countedBody{body, &x.received}
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

// Read implements io.Reader.
func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
