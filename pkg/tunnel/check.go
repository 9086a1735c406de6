// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

const (
	peekSize    = 4 << 10                // of a connection's first bytes, where the question is looked for
	peekTimeout = 250 * time.Millisecond // for them: a visitor who waits to be spoken to is let through then
	headStart   = time.Second            // of the check through the public URL before the one over the link
	checkFor    = 30 * time.Second       // if ctx says nothing
	sameClock   = 3 * time.Second        // how far this machine's clock may be from a Date that has been on the way for a while
)

// checker answers the questions with which this tunnel asks the public URL whether it leads
// here. While one is open, connections are looked at before they are handed on.
type checker struct {
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

func newChecker(asked, met func()) *checker {
	return &checker{began: time.Now(), asked: asked, met: met, told: make(chan struct{}), exposed: probe.Exposed{ID: rand.Text()}}
}

// learn takes the proxy's time, and when this tunnel was exposed by it, once: what it is later, after a suspend, says nothing
// about that. Of whole seconds (the header Date) it is no more than a check of this machine's clock. took is how long the answer was
// waited for: one that was long under way, by a full link, tells less than what is known.
func (c *checker) learn(now time.Time, took time.Duration) {
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

// clock implements gate.Config's Clock.
func (c *checker) clock(ctx context.Context) (ahead time.Duration, known bool) {
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
func (c *checker) timed() bool {
	select {
	case <-c.told:
		return true
	default:
		return false
	}
}

// leave has this tunnel claim nothing any more, towards the one before it that is to have the slots back.
func (c *checker) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
}

// order is this tunnel among others.
func (c *checker) order() probe.Exposed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return probe.Exposed{ID: c.exposed.ID}
	}
	return c.exposed
}

// stand has this tunnel say from now on that it is the newer one. One that is still being opened may fail, and those
// before it would not come back.
func (c *checker) stand() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stands = true
}

// says is the answer to another tunnel's question, as header fields; none if it is no such question.
func (c *checker) says(asker string) http.Header {
	says := c.order().Says(asker)
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

func (c *checker) begin() (ask, reply string) {
	ask, reply = rand.Text(), rand.Text()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]string{}
	}
	c.open[ask] = reply
	return ask, reply
}

func (c *checker) end(ask string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, ask)
}

// questionAt is a question at an address of the proxy's, to which dial connects from there. It is answered until end is called.
func (c *checker) questionAt(addr string, dial func(context.Context, string) (net.Conn, error)) (q probe.Question, end func()) {
	ask, reply := c.begin()
	return probe.Question{URL: "http://" + addr + gate.Past, Ask: ask, Reply: reply, Exposed: c.order(), Once: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, addr) }}, func() { c.end(ask) }
}

// askAt asks it, with a link's Dial and Ask, however full that is.
func (c *checker) askAt(ctx context.Context, addr string, dial func(context.Context, string) (net.Conn, error),
	patience func(context.Context, func(context.Context) probe.Finding) probe.Finding) probe.Finding {
	q, end := c.questionAt(addr, dial)
	defer end()
	q.Timeout = checkFor
	return patience(ctx, func(ctx context.Context) probe.Finding { return probe.URL(ctx, q) })
}

// questionURL is where the gate of an app answers questions. Without a gate any address would do.
func questionURL(app string) string {
	u, err := url.Parse(app)
	if err != nil {
		return app
	}
	u.RawQuery, u.Fragment = "", ""
	return u.JoinPath(gate.Path).String()
}

// nginxOf is where the proxy itself reaches the web server of a URL.
func nginxOf(app string) string {
	u, err := url.Parse(app)
	if err != nil || u.Port() == "" {
		return "127.0.0.1:80"
	}
	return net.JoinHostPort("127.0.0.1", u.Port())
}

func (c *checker) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open) > 0
}

// answerIn returns the answer to the question that head holds, if it does.
func (c *checker) answerIn(head []byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ask, reply := range c.open {
		if bytes.Contains(head, []byte(ask)) {
			return reply
		}
	}
	return ""
}

// answer reads the first bytes of conn. If they are a question it answers and returns nil; otherwise it returns conn with
// those bytes still to be read.
func (c *checker) answer(conn net.Conn) net.Conn {
	head := make([]byte, 0, peekSize)
	_ = conn.SetReadDeadline(time.Now().Add(peekTimeout))
	for len(head) < peekSize && !startsTLS(head) && !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := conn.Read(head[len(head):peekSize])
		head = head[:len(head)+n]
		if err != nil {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
	reply, says := c.answerIn(head), http.Header(nil)
	if reply == "" && bytes.Contains(head, []byte(probe.ExposedHeader)) {
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head))); err == nil && strings.HasSuffix(r.URL.Path, gate.Path) {
			says = c.says(r.Header.Get(probe.ExposedHeader))
		}
	}
	switch {
	case reply != "":
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n%s: %s\r\nConnection: close\r\n\r\n", probe.Header, reply)
	case says != nil:
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\n")
		_ = says.Write(conn)
		_, _ = io.WriteString(conn, "Content-Length: 0\r\nConnection: close\r\n\r\n")
	default:
		if startsTLS(head) {
			c.carried.Add(1)
		}
		return &peeked{conn, head}
	}
	_ = conn.Close()
	return nil
}

// startsTLS reports whether a connection begins with a handshake of TLS: a record of that type (22), of major version 3 (RFC 8446, section 5.1).
func startsTLS(head []byte) bool { return bytes.HasPrefix(head, []byte{22, 3}) }

// carriesTLS is a Question's Carried: it returns what reports whether a connection in TLS has come since.
func (c *checker) carriesTLS() func() bool {
	before := c.carried.Load()
	return func() bool { return c.carried.Load() != before }
}

// serve answers a question at the gate's own address. Who asks without knowing one learns that here
// is a tunnel, and which is newer, as a tunnel that was replaced has to; and nothing else.
func (c *checker) serve(w http.ResponseWriter, r *http.Request) {
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

// visit tells a visit of this tunnel's own doctor, marks the answer as the gate's, with the host that it arrived with, and keeps the
// question from the app.
func (c *checker) visit(answer http.Header, r *http.Request) bool {
	reply := c.answerIn([]byte(r.Header.Get(probe.Header)))
	if reply == "" {
		return false
	}
	answer.Set(probe.Header, reply)
	answer.Set(probe.HostHeader, r.Host)
	r.Header.Del(probe.Header)
	return true
}

// peeked is a connection of which the first bytes were read already.
type peeked struct {
	net.Conn
	head []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

func (p *peeked) CloseWrite() error { return p.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// heeded is a connection that the gate serves, of which the first bytes are looked at as they are read.
type heeded struct {
	net.Conn
	check *checker
	begun bool
}

func (h *heeded) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if !h.begun && n > 0 {
		if h.begun = true; startsTLS(b[:n]) {
			h.check.carried.Add(1)
		}
	}
	return n, err
}

func (h *heeded) CloseWrite() error { return h.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Leaves is for the gate, which closes a connection after its answer if the link leaves.
func (h *heeded) Leaves() bool {
	c, ok := h.Conn.(interface{ Leaves() bool })
	return ok && c.Leaves()
}

// paced is a question that is asked less and less often: sshd logs each connection that it cannot make.
type paced struct {
	mu   sync.Mutex
	next time.Time
	wait time.Duration
	last probe.Finding
}

const pacedMost = 30 * time.Second

// ask asks if it is time, and returns the last finding.
func (p *paced) ask(question func() probe.Finding) probe.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.next) {
		p.last, p.wait = question(), min(2*max(p.wait, time.Second), pacedMost)
		p.next = now.Add(p.wait)
	}
	return p.last
}

// aliases are further addresses of the proxy's loopback interface: 127.0.0.2 on Linux, ::1 where there is none. What was bound to
// 127.0.0.1 does not answer there, and what was bound to all addresses does; no packet leaves the machine, and no name is
// resolved, for which sshd would keep the whole link waiting. Dropbear binds ::1 along with 127.0.0.1.
var aliases = []string{"127.0.0.2", "::1"}

// askAliases asks those addresses from the proxy, until one tells whether the tunnel answers there.
func askAliases(ctx context.Context, q probe.Question, port string, dial func(context.Context, string) (net.Conn, error)) (here, told bool) {
	told = true
	for _, host := range aliases {
		here, knows, nobody := answersAt(ctx, q, net.JoinHostPort(host, port), dial)
		if here || nobody {
			return here, true
		}
		told = told && knows
	}
	return false, told
}

// answersAt asks one address. nobody: there is such an address, and nobody listens there.
func answersAt(ctx context.Context, q probe.Question, addr string, dial func(context.Context, string) (net.Conn, error)) (here, told, nobody bool) {
	c, err := dial(ctx, addr)
	switch {
	case sshlink.Unconnected(err):
		return false, true, sshlink.NobodyListens(err)
	case err != nil:
		return false, false, false
	}
	defer func() { _ = c.Close() }()
	q.URL, q.Once = "http://"+addr+gate.Past, true
	q.Dial = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	f := probe.URL(ctx, q)
	return f.Kind == probe.Ours && f.Server == "", true, false // a web server that listens there is not past itself
}
