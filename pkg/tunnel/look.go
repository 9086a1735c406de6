// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

const headStart = time.Second // of the check through the public URL before the one over the link

// verify asks the public URL whether it leads here, as Config.Check says. An address that answers but leads elsewhere is
// asked again until ctx ends; one that cannot be asked is let pass, and the status says so, unless another one led here before.
func (t *Tunnel) verify(ctx context.Context) error {
	if t.cfg.Check == CheckOff {
		t.board.unasked.Store(true)
		t.board.edit(func(s *Status) { s.Unchecked = "nobody was asked: check is off" })
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loopcheck.Patience)
	defer cancel()
	q, end := t.question()
	defer end()
	ways := probe.Ways{HeadStart: headStart}
	if t.cfg.Check != CheckLink {
		ways.Here = &q
	}
	if t.cfg.Check != CheckURL {
		within := t.fromProxy(q, t.sup.dial)
		ways.There = &within
	}
	if e := t.endpoint.Load(); e.prepared && e.url != e.inside { // the proxy does not know the URL: it says nothing of where that leads
		ways.HeadStart = 0
	}
	told := make(chan struct{})
	var f probe.Finding
	how := "url"
	t.tasks.Go(func() {
		defer close(told)
		there := false
		if f, there = ways.Ask(ctx, t.tasks.Go); there {
			how = "link"
		}
	})
	for {
		s, changed := t.board.read()
		if s.State == Failed || s.State == Replaced {
			return s.LastError
		}
		select {
		case <-changed:
		case <-told:
			return t.verified(ctx, f, how)
		case <-t.life.Done():
			return fault.Closed()
		}
	}
}

// verified takes the finding of a check.
func (t *Tunnel) verified(ctx context.Context, f probe.Finding, how string) error {
	t.check.Learn(f.Time, f.Took) // an older tunnel asks whether this one is newer
	if ctx.Err() == context.Canceled && f.Kind != probe.Ours {
		return ctx.Err() // who asked does not want to know any more
	}
	s, _ := t.board.read()
	switch f.Kind {
	case probe.Ours:
		t.board.heedHost(f, t.endpoint.Load().prepared)
		t.heedPage(ctx, how, f)
		if e := t.carried().InVain(ctx); e != nil {
			return e
		}
		why := ""
		if f.Stopped != "" {
			why = fault.Unchecked(f.Stopped, true, s.Access)
		}
		t.board.edit(func(s *Status) {
			s.Checked = how
			if t.cfg.Check != CheckOff || how == "url" { // whom the doctor asked
				s.Unchecked = why
			}
		})
		said := map[string]string{"url": "the URL leads here", "link": "the proxy's own web server leads here"}[how]
		t.log.Info(said, "url", t.endpoint.Load().url, "checked", how)
		if why != "" {
			t.log.Warn("the URL itself could not be checked", "url", t.endpoint.Load().url, "reason", why)
		}
		return nil
	case probe.Newer, probe.Older, probe.Another:
		return fault.AnothersURL(t.endpoint.Load().url, t.Addr(), t.cfg.Raw)
	case probe.Elsewhere, probe.Nobody:
		return t.notOurs(f)
	default:
		if e := t.carried().NotTheApps(ctx, f); e != nil {
			return e
		}
		leads, past := t.pastCertificate(ctx, f)
		if !leads && (f.Kind == probe.Unreachable || strings.HasSuffix(f.Answer, fault.WithinTLS)) && t.proven != "" && strings.TrimSuffix(t.proven, "/") != strings.TrimSuffix(t.endpoint.Load().url, "/") {
			return fault.NotOpened(t.endpoint.Load().url, f.Answer)
		}
		t.board.unasked.Store(f.Kind == probe.Unreachable) // each look asks again
		why := t.carried().Unchecked(ctx, f, s.Access) + past
		t.board.edit(func(s *Status) { s.Unchecked = why })
		t.log.Warn("the URL could not be checked", "url", t.endpoint.Load().url, "reason", why)
		return nil
	}
}

// question returns a question to the public URL, which is answered until end is called.
func (t *Tunnel) question() (q probe.Question, end func()) {
	ask, reply := t.check.Begin()
	p := t.endpoint.Load()
	q = probe.Question{URL: loopcheck.QuestionURL(p.url), Ask: ask, Reply: reply, Exposed: t.check.Order(), Ahead: p.ahead}
	if t.board.checked() == "" {
		q.Within, q.Carried, q.Gate = t.cfg.Raw && !p.prepared && strings.HasPrefix(p.url, "https:"), t.check.CarriesTLS, t.gate != nil
	}
	return q, func() { t.check.End(ask) }
}

// fromProxy is a question that is asked on the proxy itself, whatever host the URL names: of its nginx,
// or of the one address that a prepared proxy permits, which knows no TLS.
func (t *Tunnel) fromProxy(q probe.Question, dial dialer) probe.Question {
	p := t.endpoint.Load()
	check := p.check
	if check != "" {
		q.URL = "http:" + strings.TrimPrefix(strings.TrimPrefix(loopcheck.QuestionURL(p.inside), "https:"), "http:")
	}
	q.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if check != "" {
			return dial(ctx, check)
		}
		return dial(ctx, net.JoinHostPort("127.0.0.1", port))
	}
	return q
}

// pastCertificate says what answers behind a certificate that is not trusted. Whose server that is cannot be known, so nothing is refused for it.
func (t *Tunnel) pastCertificate(ctx context.Context, f probe.Finding) (leads bool, says string) {
	if !f.Untrusted() || t.cfg.Check == CheckLink {
		return false, ""
	}
	q, end := t.question()
	defer end()
	q.Once, q.AnyCertificate, q.Ahead = true, true, nil
	g := probe.URL(ctx, q)
	return g.Kind == probe.Ours, g.PastCertificate()
}

// notOurs is the error for a URL that answers, but does not lead here.
func (t *Tunnel) notOurs(f probe.Finding) *Error {
	if f.Carried && t.gate != nil && f.Kind == probe.Nobody {
		return fault.GateAskedInTLS(t.endpoint.Load().url, f.Answer, t.Addr())
	}
	return fault.NotOurs(t.endpoint.Load().url, f.Answer, t.Addr(), t.cfg.Raw)
}

// heedPage asks for the page as a visitor without a link, and warns where that is led elsewhere. An app that is open to all is not asked.
func (t *Tunnel) heedPage(ctx context.Context, how string, f probe.Finding) {
	if t.gate == nil || t.public() || t.endpoint.Load().prepared || t.cfg.Check == CheckOff {
		return
	}
	question, end := t.question()
	defer end()
	visit := probe.Visit{URL: f.Visited(t.endpoint.Load().url), Ask: question.Ask, Reply: question.Reply}
	if how == "link" {
		visit.Dial = t.fromProxy(question, t.sup.dial).Dial
	}
	t.gate.visitedBy(ctx, visit, t.Addr())
}

// carried is the app, if its bytes are carried as they are.
func (t *Tunnel) carried() loopcheck.Carried {
	c := loopcheck.Carried{Slot: t.Addr()}
	if t.cfg.Raw {
		c.App = probe.App{Addr: t.target.Addr(), Dial: t.target.DialAddr}
	}
	return c
}

// The loop check: a tunnel asks again and again who answers its visitors, for sshd tells nobody that a socket has
// passed to another link, that its file is gone, or that nginx leads elsewhere. What is seen goes to the table of slots,
// which acts on it.

// lookAtSlots says who answers at each slot, asked over a link or, where only that was possible, at the public URL.
func (t *Tunnel) lookAtSlots(ctx context.Context, over link, n int) []slots.Sight {
	seen := make([]slots.Sight, n)
	if !t.endpoint.Load().slotwise {
		worst := slots.Unknown
		for range n { // nginx leads by turns to each
			if one := t.lookAtURL(ctx, over, 0); one != slots.Unknown && (worst == slots.Unknown || worst == slots.Ours || one == slots.Newer) {
				worst = one
			}
		}
		if s, _ := t.board.read(); s.Checked == "" && worst == slots.Unknown {
			return nil // it cannot be told: no reason to look again soon
		}
		return slices.Repeat([]slots.Sight{worst}, n)
	}
	var asked sync.WaitGroup
	for i := range seen {
		asked.Add(1)
		if !t.tasks.Go(func() { defer asked.Done(); seen[i] = t.lookAtSlot(ctx, over, i, 0) }) {
			asked.Done()
		}
	}
	asked.Wait()
	return seen
}

// lookAtSlot says who answers at one slot. wait bounds it; 0: as long as a question waits.
func (t *Tunnel) lookAtSlot(ctx context.Context, over link, slot int, wait time.Duration) slots.Sight {
	if !t.endpoint.Load().slotwise {
		return t.lookAtURL(ctx, over, wait)
	}
	q, end := t.question()
	defer end()
	q = t.fromProxy(q, over.Dial)
	q.Once, q.Timeout = true, wait
	if u, err := url.Parse(q.URL); err == nil {
		q.URL = u.JoinPath("slots", strconv.Itoa(slot)).String()
	}
	if wait > 0 {
		return t.sees(probe.URL(ctx, q))
	}
	f := askOver(ctx, over, q)
	if errors.Is(f.Err, errSilent) {
		q.URL = "http://proxy/.well-known/taipy-tunnel/time" // which nginx answers by itself
		if f := askOver(ctx, over, q); !errors.Is(f.Err, errSilent) {
			return slots.Silent
		}
	}
	if seen := t.sees(f); !f.Late {
		return seen
	}
	return slots.Silent // sshd has it for some link, which may be full
}

// askOver asks over a link, however full that is.
func askOver(ctx context.Context, over link, q probe.Question) probe.Finding {
	q.Once, q.Timeout = true, loopcheck.Patience
	return over.Ask(ctx, func(ctx context.Context) probe.Finding { return probe.URL(ctx, q) })
}

// lookAtURL says who answers at the public URL. wait bounds each question; 0: as long as a question waits.
func (t *Tunnel) lookAtURL(ctx context.Context, over link, wait time.Duration) slots.Sight {
	f := t.askURL(ctx, over, wait)
	if f.Kind == probe.Ours && wait == 0 && (t.board.warns(pageElsewhere) != nil || t.board.warns(twoLogins) != nil) {
		t.heedPage(ctx, t.board.checked(), f)
	}
	return t.sees(f)
}

// askURL asks the public URL once, in the way in which it was seen to lead here. Where it could not be asked at first, as
// while nginx is away, it is asked in both ways until it is seen.
func (t *Tunnel) askURL(ctx context.Context, over link, wait time.Duration) probe.Finding {
	q, end := t.question()
	defer end()
	q.Once, q.Timeout = true, wait
	s, _ := t.board.read()
	switch {
	case s.Checked == "link" && wait > 0:
		return probe.URL(ctx, t.fromProxy(q, over.Dial))
	case s.Checked == "link":
		return askOver(ctx, over, t.fromProxy(q, over.Dial))
	case s.Checked == "url":
		f := probe.URL(ctx, q)
		if f.Kind == probe.Unreachable && !f.Refused() && wait == 0 { // nginx may stand still
			within := askOver(ctx, over, t.fromProxy(q, over.Dial))
			if answered := f.Err == nil && within.Kind != probe.Unreachable; answered || errors.Is(within.Err, errSilent) {
				return within
			}
		}
		return f
	case !t.board.unasked.Load():
		return probe.Finding{Kind: probe.Unreachable}
	case t.cfg.Check == CheckOff: // what visitors meet is not to be judged before it was seen to lead here
		if f := askOver(ctx, over, t.fromProxy(q, over.Dial)); f.Kind == probe.Ours {
			_ = t.verified(ctx, f, "link")
		}
		return probe.Finding{Kind: probe.Unreachable}
	}
	how, f := "url", probe.URL(ctx, q)
	if f.Kind == probe.Unreachable {
		gone := f.Refused() && t.onServer()
		how, f = "link", t.within.Ask(func() probe.Finding { return probe.URL(ctx, t.fromProxy(q, over.Dial)) })
		if f.Kind == probe.Unreachable && !gone {
			t.board.unasked.Store(!sshlink.Prohibited(f.Err)) // sshd logs each time
			f.Err = nil                                       // visitors may come to another machine's nginx
		}
	}
	switch f.Kind {
	case probe.Ours:
		_ = t.verified(ctx, f, how)
	case probe.Guarded:
		t.board.unasked.Store(false)
	}
	return f
}

// askPort asks who answers at a plain proxy's port, past nginx and what it may want to know; at the URL where the account may
// not connect to the port, or it is a socket.
func (t *Tunnel) askPort(ctx context.Context, over link) probe.Finding {
	if t.slotPort() == 0 {
		return t.askURL(ctx, over, 3*time.Second)
	}
	q, end := t.check.QuestionAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(t.slotPort())), over.Dial)
	defer end()
	if f := probe.URL(ctx, q); f.Kind != probe.Unreachable || sshlink.Unconnected(f.Err) {
		return f
	}
	return t.askURL(ctx, over, 3*time.Second)
}

// onServer: the URL names the machine to which the links go.
func (t *Tunnel) onServer() bool {
	u, err := url.Parse(t.endpoint.Load().url)
	return err == nil && u.Hostname() == t.cfg.server.Host
}

// sees is what a finding means, which also tells the proxy's time.
func (t *Tunnel) sees(f probe.Finding) slots.Sight {
	t.check.Learn(f.Time, f.Took)
	switch f.Kind {
	case probe.Newer, probe.Older, probe.Another:
		t.check.Met()
	case probe.Unreachable:
		if f.Refused() || sshlink.Unconnected(f.Err) || errors.Is(f.Err, errSilent) {
			return slots.Nobody // nginx itself is away, or stands still
		}
	}
	return map[probe.Kind]slots.Sight{probe.Ours: slots.Ours, probe.Newer: slots.Newer, probe.Older: slots.Older,
		probe.Nobody: slots.Nobody, probe.Elsewhere: slots.Foreign}[f.Kind] // or Unknown, as of a tunnel that does not know its own time yet
}

// newer asks whether a newer tunnel has this one's port now, which says so whether the URL was seen to lead here or not.
func (t *Tunnel) newer(ctx context.Context) bool {
	l := t.sup.one()
	return l != nil && t.sees(t.askPort(ctx, l)) == slots.Newer
}

// A plain proxy's slot is for its nginx. With GatewayPorts yes sshd binds it to all addresses, though 127.0.0.1 was asked
// for, and says nothing: who reaches the port comes past nginx, its TLS, passwords and rules.

// slotPort is the port of a plain proxy's slot, 0 if there is none: a socket is nobody's but nginx's.
func (t *Tunnel) slotPort() int {
	if p := t.endpoint.Load(); p.known && !p.prepared {
		if tcp, ok := p.slots[0].(*net.TCPAddr); ok {
			return tcp.Port
		}
	}
	return 0
}

// lookPast asks at other addresses of the proxy whether this tunnel answers there: from the proxy, by dial, and from this
// machine, which is heeded where the account may open no connection from the proxy.
func (t *Tunnel) lookPast(ctx context.Context, dial dialer) exposure {
	question, end := t.question()
	defer end()
	past := loopcheck.Past{Question: question, Port: strconv.Itoa(t.slotPort()), Within: dial, Go: t.tasks.Go}
	if t.reachedDirectly() {
		d := net.Dialer{Control: t.cfg.Control}
		past.Host, past.Direct = t.cfg.server.Host, func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	switch here, told := past.Ask(ctx); {
	case here:
		return exposed
	case told:
		return enclosed
	}
	return untold
}

// reachedDirectly: the server is another machine, and nothing is in between that would be asked instead, as what serves
// the URL is where it has the number of the slot.
func (t *Tunnel) reachedDirectly() bool {
	if u, err := url.Parse(t.endpoint.Load().url); err != nil || u.Port() == strconv.Itoa(t.slotPort()) {
		return false
	}
	addr, err := netip.ParseAddr(t.cfg.server.Host)
	return t.cfg.server.Direct() && t.cfg.server.Host != "localhost" && (err != nil || !addr.IsLoopback())
}
