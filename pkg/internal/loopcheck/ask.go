// SPDX-License-Identifier: Apache-2.0

package loopcheck

import (
	"context"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// Patience is how long a check goes on, if its context says nothing.
const Patience = 30 * time.Second

// QuestionAt is a question at an address of the proxy's, to which dial connects from there. It is answered until end is called.
func (c *Checker) QuestionAt(addr string, dial func(context.Context, string) (net.Conn, error)) (q probe.Question, end func()) {
	ask, reply := c.Begin()
	return probe.Question{URL: "http://" + addr + gate.Past, Ask: ask, Reply: reply, Exposed: c.Order(), Once: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, addr) }}, func() { c.End(ask) }
}

// AskAt asks it, with a link's Dial and Ask, however full that is.
func (c *Checker) AskAt(ctx context.Context, addr string, dial func(context.Context, string) (net.Conn, error),
	patience func(context.Context, func(context.Context) probe.Finding) probe.Finding) probe.Finding {
	q, end := c.QuestionAt(addr, dial)
	defer end()
	q.Timeout = Patience
	return patience(ctx, func(ctx context.Context) probe.Finding { return probe.URL(ctx, q) })
}

// QuestionURL is where the gate of an app answers questions. Without a gate any address would do.
func QuestionURL(app string) string {
	u, err := url.Parse(app)
	if err != nil {
		return app
	}
	u.RawQuery, u.Fragment = "", ""
	return u.JoinPath(gate.Path).String()
}

// NginxOf is where the proxy itself reaches the web server of a URL.
func NginxOf(app string) string {
	u, err := url.Parse(app)
	if err != nil || u.Port() == "" {
		return "127.0.0.1:80"
	}
	return net.JoinHostPort("127.0.0.1", u.Port())
}

// Paced is a question that is asked less and less often: sshd logs each connection that it cannot make.
type Paced struct {
	mu   sync.Mutex
	next time.Time
	wait time.Duration
	last probe.Finding
}

const pacedMost = 30 * time.Second

// Ask asks if it is time, and returns the last finding.
func (p *Paced) Ask(question func() probe.Finding) probe.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.next) {
		p.last, p.wait = question(), min(2*max(p.wait, time.Second), pacedMost)
		p.next = now.Add(p.wait)
	}
	return p.last
}
