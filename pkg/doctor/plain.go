// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Steps of a plain proxy that need somebody to answer at its port.
var answered = []string{"page", "websocket", "uploads", "buffering"}

// plain looks at a plain proxy: who has the port, and whether visitors are led there.
func (e *examination) plain(ctx context.Context) {
	var slot net.Listener
	e.part(ctx, func(ctx context.Context) {
		err := e.cfg.Plain()
		if err == nil {
			slot, err = e.listen(ctx)
		}
		if err != nil {
			e.told("slot", err)
		}
	})
	c := newChecker(slot, e.set.Target)
	defer c.Close()
	last := e.rows[len(e.rows)-1]
	switch {
	case ctx.Err() != nil:
		return
	case !last.OK:
		e.skip("see the row slot", append([]string{"url"}, answered...)...)
		return
	case e.cfg.Raw:
		e.skip("raw carries anything, and is asked nothing: the tunnel looks when it is opened", append([]string{"url"}, answered...)...)
		return
	}
	var f probe.Finding
	var dial dialer
	led, off := false, time.Duration(0)
	e.part(ctx, func(ctx context.Context) {
		f, dial = e.ask(ctx, c.Checker)
		off = time.Since(f.Time)
		led = e.url(ctx, f, dial != nil, slot != nil)
	})
	switch {
	case led:
		e.part(ctx, func(ctx context.Context) { e.answers(ctx, c, f.Visited(e.set.URL), dial) })
	case slot == nil:
		e.skip("they are asked for where the port is free", answered...)
	default:
		e.skip("see the row url", answered...)
	}
	c.Close() // the port is free again
	e.part(ctx, func(ctx context.Context) { e.site(ctx, f) })
	if !f.Time.IsZero() {
		e.part(ctx, func(context.Context) { e.clock(off, f.Took) })
	}
}

// listen takes the port, if nobody has it; nil and no error: somebody has.
func (e *examination) listen(ctx context.Context) (net.Listener, error) {
	const step = "slot"
	if e.set.RemoteSocket != "" { // sshd would give it to us, and leave a file behind
		e.add(probe.Checked{Step: step, OK: true}, "%s is not taken for a look", e.slot())
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	port := e.set.Remote
	if e.held(ctx, port) {
		return nil, nil
	}
	l, err := e.link.Listen(ctx, port)
	if err == nil {
		e.ok(step, "port %d is free, and the account may listen there", port)
		return l, nil
	}
	if !fault.IsPermanent(err) && e.tunnelAtURL(ctx) { // which the account could not be connected to
		e.ok(step, aTunnelHas, port)
		return nil, nil
	}
	return nil, err
}

const aTunnelHas = "an open tunnel has port %d; the next one of the account takes its place"

func isTunnel(f probe.Finding) bool {
	return f.Kind == probe.Newer || f.Kind == probe.Older || f.Kind == probe.Another
}

func (e *examination) tunnelAtURL(ctx context.Context) bool {
	f, _ := e.ask(ctx, inquirer())
	return isTunnel(f)
}

// portPatience is how long a tunnel at the port may take to answer, by a link that its visitors fill.
const portPatience = 8 * time.Second

// held says who has a port, if it can be told that somebody has.
func (e *examination) held(ctx context.Context, port int) bool {
	const step = "slot"
	q, end := inquirer().QuestionAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), e.link.Dial)
	defer end()
	q.Timeout = portPatience
	switch f := probe.URL(ctx, q); {
	case isTunnel(f):
		e.ok(step, aTunnelHas, port)
	case e.link.Ended():
		e.told(step, fault.From(cmp.Or(e.link.Err(), errors.New("the connection has ended"))))
	case f.Kind == probe.Unreachable && (sshlink.Unconnected(f.Err) || sshlink.Prohibited(f.Err)): // a request to listen tells more
		return false
	case f.Kind == probe.Unreachable:
		e.fail(step, "a connection of this account's that has gone silent is ended by a tunnel that is opened, so run that; if it is another program, pass another port as {remote}",
			"something holds port %d on the proxy, and does not answer", port)
	default:
		e.fail(step, "pass another port as {remote}, and have nginx hand visitors to that one", "another program has port %d on the proxy: it answers %s", port, f.Answer)
	}
	return true
}

// ask asks who is led to the port, from this machine, and where that is not possible from the proxy, with the way by which it was asked.
func (e *examination) ask(ctx context.Context, c *loopcheck.Checker) (probe.Finding, dialer) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ask, reply := c.Begin()
	defer c.End(ask)
	here := probe.Question{URL: loopcheck.QuestionURL(e.set.URL), Ask: ask, Reply: reply, Exposed: c.Order(), Once: true}
	there := here
	there.Dial = e.dial
	ways := probe.Ways{Here: &here, There: &there}
	switch e.cfg.Check {
	case tunnel.CheckURL:
		ways.There = nil
	case tunnel.CheckLink:
		ways.Here = nil
	}
	var tasks guard.Group
	defer tasks.Wait()
	f, byProxy := ways.Ask(ctx, tasks.Go)
	if byProxy {
		return f, e.dial
	}
	return f, nil
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dial connects to the proxy's own nginx, past names and firewalls.
func (e *examination) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return e.link.Dial(ctx, net.JoinHostPort("127.0.0.1", port))
}

// url says whether visitors are led to the port, and reports whether they were seen to be. byProxy: this machine cannot open it. free:
// we have the port.
func (e *examination) url(ctx context.Context, f probe.Finding, byProxy, free bool) bool {
	const step = "url"
	how := "from this machine"
	if byProxy {
		how = "from the proxy, for this machine cannot open it"
	}
	u := e.set.URL
	slot := net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: e.set.Remote})
	if e.set.RemoteSocket != "" {
		slot = &net.UnixAddr{Net: "unix", Name: e.set.RemoteSocket}
	}
	switch {
	case f.Kind == probe.Ours:
		e.ok(step, "%s leads to %s, asked %s", u, e.slot(), how)
		return true
	case isTunnel(f):
		if free {
			e.told(step, fault.AnothersURL(u, slot, e.cfg.Raw))
		} else {
			e.ok(step, "%s leads to a tunnel that is open now, asked %s", u, how)
		}
	case f.Kind == probe.Guarded:
		e.warn(step, "it cannot be told whether it leads there: open it", "%s could not be checked: asked %s, %s", u, how, fault.Unchecked(f.Answer, true, e.cfg.Access.String()))
	case f.Kind == probe.Nobody && !free:
		e.warn(step, "whether it leads there can be told when an app is shown", "%s answers %s, as it would if nothing were behind it", u, f.Answer)
	case f.Kind == probe.Nobody, f.Kind == probe.Elsewhere:
		e.told(step, fault.NotOurs(u, f.Answer, slot, e.cfg.Raw))
	default:
		e.closed(ctx, f, slot)
	}
	return false
}

// closed says why a URL cannot be opened, neither here nor on the proxy.
func (e *examination) closed(ctx context.Context, f probe.Finding, slot net.Addr) {
	told := fault.From(fault.Connect(e.set.URL, f.Err))
	switch {
	case errors.Is(told, fault.ErrLimit):
		e.told("url", told)
	case f.Untrusted():
		e.warn("url", "see the row certificate: whether it leads there is not asked of a site that may be another one", "%s cannot be checked: %s", e.set.URL, f.Answer)
	default:
		hint := fault.Hintf("nginx on the proxy has to listen there, and hand what comes to %s; a firewall between has to let it in. If visitors open another address, pass it as {url}", slot)
		e.fail("url", hint, "%s cannot be opened from here, nor from the proxy: %s", e.set.URL, f.Answer)
	}
}

// answersMost is for how long the port is held.
const answersMost = 20 * time.Second

// answers asks for what visitors need besides, of who is known to be led to the port.
func (e *examination) answers(ctx context.Context, c *checker, site string, dial dialer) {
	ctx, cancel := context.WithTimeout(ctx, answersMost)
	defer cancel()
	if dial == nil && byProxy(site) { // which takes out what is asked for
		dial = e.dial
	}
	v := c.visit(site, dial)
	defer v.close()
	for _, look := range []struct {
		step string
		see  func(context.Context) (probe.Checked, error)
	}{{"page", v.page}, {"websocket", v.websocket}, {"uploads", v.uploads}, {"buffering", v.buffering}} {
		within, cancel := context.WithTimeout(ctx, lookTimeout)
		row, err := look.see(within)
		cancel()
		if err != nil {
			row = probe.Checked{Seen: fmt.Sprintf("no answer: %v", fault.Reason(err)), Hint: "run it again; if it stays so, look at nginx's error log"}
		}
		row.Step, row.Seen = look.step, fault.Printable(row.Seen)
		e.rows = append(e.rows, row)
	}
}

// byProxy reports whether this machine's HTTP proxy is asked for a site, and sees what is asked.
func byProxy(site string) bool {
	req, err := http.NewRequest(http.MethodGet, site, nil)
	if err != nil || req.URL.Scheme != "http" {
		return false
	}
	to, err := http.ProxyFromEnvironment(req)
	return to != nil && err == nil
}

// site looks at the certificate of what visitors come to.
func (e *examination) site(ctx context.Context, f probe.Finding) {
	u, err := url.Parse(f.Visited(e.set.URL))
	if err != nil {
		return
	}
	if f.Untrusted() && u.Scheme == "http" { // it led there
		u.Scheme, u.Host = "https", u.Hostname()
	}
	if u.Scheme == "https" {
		e.step(ctx, func(ctx context.Context) { e.certificate(ctx, u) })
	}
}

const clockOff = 30 * time.Second

// clock compares the proxy's with this machine's. off is how far this one is ahead of what an answer said that took so long.
func (e *examination) clock(off, took time.Duration) {
	const step = "clock"
	if slack := clockOff + took; off > slack || off < -slack {
		e.warn(step, "set the one that is wrong: links that end, and certificates, go by it", "this machine's is %v %s the proxy's", off.Abs().Round(time.Second), map[bool]string{true: "ahead of", false: "behind"}[off > 0])
		return
	}
	e.ok(step, "this machine's and the proxy's agree")
}

// below is a URL without the token of a link.
func below(site string) *url.URL {
	u, err := url.Parse(site)
	if err != nil {
		return &url.URL{}
	}
	u.RawQuery, u.Fragment = "", ""
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u
}
