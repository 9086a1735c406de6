// SPDX-License-Identifier: Apache-2.0

package tunnel

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

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// Checked is what was seen of one step of the chain between the app and its visitors.
type Checked = probe.Checked

// Near is a web app that was seen on this machine; Neighbours finds those near this process, for who has to name one.
type (
	Near       = probe.Near
	Neighbours = probe.Neighbours
)

// doctorTimeout bounds each step.
const doctorTimeout = 10 * time.Second

// Doctor looks along the chain, read-only, from the app to the public URL, asks as a visitor would, and returns what it
// saw, in that order. Such a visit is not counted. Without a gate (Raw, Listen) there is none.
func (t *Tunnel) Doctor(ctx context.Context) []Checked {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	beside := guard.Group{Panicked: t.tasks.Panicked}
	var app Checked
	beside.Go(func() { app = t.checkApp(ctx) })
	var exposure []Checked
	if t.sup.one() != nil && t.slotPort() != 0 {
		beside.Go(func() { exposure = []Checked{t.checkExposure(ctx)} })
	}
	url, a := t.checkURL(ctx)
	rows := []Checked{url}
	if t.gate != nil {
		rows = append(rows, t.checkVisitor(ctx, a))
	}
	beside.Wait()
	return append(append([]Checked{app, t.checkLink()}, exposure...), rows...)
}

func (t *Tunnel) checkApp(ctx context.Context) Checked {
	c := Checked{Step: "app", OK: true}
	addr := t.target.Addr()
	switch {
	case t.gate == nil && addr == "":
		c.Seen = "the program serves visitors itself"
	case addr == "":
		c.OK, c.Seen, c.Hint = false, "there is no app yet", "start it (in a notebook: run its cell)"
	default:
		c.Seen = addr + " answers"
		if err := (probe.App{Addr: addr, Dial: t.target.DialAddr, Raw: t.gate == nil}).Answers(ctx); err != nil {
			told := fault.AppRefused(addr, err)
			c.OK, c.Seen, c.Hint = false, told.Err.Error(), told.Hint
		}
	}
	if why := t.board.warns(noWebsockets); why != nil {
		c.Warn, c.Seen = c.OK, c.Seen+"; "+why.Err.Error()
		if c.OK {
			c.Hint = why.Hint
		}
	}
	return c
}

func (t *Tunnel) checkLink() Checked {
	s := t.Status()
	c := Checked{Step: "link", OK: s.Links > 0, Seen: fmt.Sprintf("%d to %s, %d listening there (%s)", s.Links, s.Server, s.Slots, t.Addr())}
	c.OK = c.OK && (s.LastError == nil || !errors.Is(s.LastError, fault.ErrWaits))
	if s.LastError != nil && (!c.OK || s.State == Degraded) {
		c.Seen, c.Hint = fmt.Sprintf("%s; %s: %s", c.Seen, s.State, s.LastError.Error()), s.LastError.Hint
	}
	if old := t.endpoint.Load().outdated; c.OK && old != nil {
		c.Warn, c.Hint = true, old.Hint
		c.Seen += "; " + old.Err.Error()
	}
	if why := t.board.warns(oneSession); why != nil && c.OK && c.Hint == "" {
		c.Warn, c.Seen, c.Hint = true, c.Seen+"; "+why.Err.Error(), why.Hint
	}
	if t.lease != nil && c.OK && c.Hint == "" {
		if told := t.lease.Unread(); told != nil {
			c.Warn, c.Seen, c.Hint = true, c.Seen+"; "+fault.From(told).Err.Error(), fault.From(told).Hint
		}
	}
	return c
}

// checkURL asks from this machine, and where that is not possible from the proxy. It also says how a visitor can come in.
func (t *Tunnel) checkURL(ctx context.Context) (Checked, approach) {
	question, end := t.question()
	defer end()
	question.Once = true
	how, f := "from this machine", probe.URL(ctx, question)
	a := t.approach(how, f, nil)
	t.board.heedHost(f, t.endpoint.Load().prepared)
	if s, _ := t.board.read(); f.Kind == probe.Ours && s.Unchecked != "" { // what stopped this machine has gone
		_ = t.verified(ctx, f, "url")
	}
	if f.Kind == probe.Unreachable {
		fromProxy := t.fromProxy(question, t.sup.dial)
		if within := probe.URL(ctx, fromProxy); within.Kind != probe.Unreachable {
			how, f = "from the proxy", within
			a = t.approach(how, f, fromProxy.Dial)
		}
	}
	return t.judgeURL(ctx, how, f), a
}

func (t *Tunnel) judgeURL(ctx context.Context, how string, f probe.Finding) Checked {
	p := t.endpoint.Load()
	c := Checked{Step: "url", Seen: fmt.Sprintf("%s, asked %s, answers %s", p.url, how, f.Answer)}
	switch f.Kind {
	case probe.Ours:
		c.OK, c.Seen = true, fmt.Sprintf("%s leads here, asked %s", p.url, how)
		if err := t.carried().InVain(ctx); err != nil {
			told := fault.From(err)
			c.OK, c.Seen, c.Hint = false, told.Err.Error(), told.Hint
		}
	case probe.Newer, probe.Older, probe.Another:
		c.Hint = "close the other tunnel, or: " + fault.NewestWins
	case probe.Elsewhere, probe.Nobody:
		if c.Hint = t.notOurs(f).Hint; t.sup.one() == nil {
			c.Hint = "there is no link that could serve it: look at the row above first"
		}
	case probe.Guarded:
		if told := t.carried().NotTheApps(ctx, f); told != nil {
			c.Seen, c.Hint = told.Err.Error(), told.Hint
			break
		}
		c.OK, c.Warn, c.Seen = true, true, fmt.Sprintf("%s could not be checked: asked %s, %s", p.url, how, t.carried().Unchecked(ctx, f, t.Status().Access))
		c.Hint = "it cannot be told whether it leads here: open it"
	default:
		if told := fault.Connect(p.url, f.Err); errors.Is(told, fault.ErrLimit) {
			c.Seen, c.Hint = told.Err.Error(), told.Hint
			break
		}
		leads, past := t.pastCertificate(ctx, f)
		c.Seen, c.Hint = fmt.Sprintf("%s cannot be opened from here, nor from the proxy: %s%s", p.url, f.Answer, past), "open it in a browser; if it fails there too, look at nginx on the proxy, or pass {url}"
		if leads {
			c.OK, c.Warn, c.Hint = true, true, "browsers that do not know that certificate warn their visitors: have one made by an authority that they know"
		}
	}
	return c
}

// checkExposure is the doctor's look at it.
func (t *Tunnel) checkExposure(ctx context.Context) Checked {
	port := t.slotPort()
	c := Checked{Step: "exposure", OK: true}
	switch t.lookPast(ctx, t.sup.dial) {
	case enclosed:
		c.Seen = "port " + strconv.Itoa(port) + " answers the proxy itself alone"
	case exposed:
		told := fault.Exposed(port)
		c.OK, c.Warn, c.Seen, c.Hint = !t.public(), !t.public(), told.Err.Error(), told.Hint
	default:
		c.Seen = "whether the network reaches port " + strconv.Itoa(port) + " cannot be told: no answer in time, or the account may open no connection there from the proxy"
	}
	return c
}

// approach is how the doctor comes in as a visitor.
type approach struct {
	how  string
	url  string
	dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: by the network
	ours bool                                                              // the tunnel was seen to answer there, so that it may be told the token
	held bool                                                              // something stands before it that stops the check
	past bool                                                              // nginx is not asked
}

// approach follows from how the URL was asked. The check port of a prepared proxy answers questions alone, so what
// cannot be opened from this machine is asked of the gate itself there, as it is where nothing answers at all.
func (t *Tunnel) approach(how string, f probe.Finding, dial func(ctx context.Context, network, addr string) (net.Conn, error)) approach {
	p := t.endpoint.Load()
	if f.Kind == probe.Unreachable || dial != nil && p.check != "" {
		at := &url.URL{Scheme: "http", Host: "gate", Path: "/"}
		if u, err := url.Parse(p.url); err == nil {
			at.Host = u.Host
		}
		return approach{how: "of the tunnel itself, past nginx", url: at.String(), dial: t.dialGate, ours: true, past: true}
	}
	return approach{how: how, url: f.Visited(p.url), dial: dial, ours: f.Kind == probe.Ours, held: f.Kind == probe.Guarded} // the token is not sent in clear first
}

// dialGate connects to the gate as if from a slot.
func (t *Tunnel) dialGate(ctx context.Context, _, _ string) (net.Conn, error) {
	mine, its := net.Pipe()
	select {
	case t.accepted <- its:
		return mine, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.life.Done():
		return nil, fault.Closed()
	}
}

// checkVisitor asks for the page that visitors open, with what admits them.
func (t *Tunnel) checkVisitor(ctx context.Context, a approach) Checked {
	question, end := t.question()
	defer end()
	visit := probe.Visit{URL: a.url, Ask: question.Ask, Reply: question.Reply, Dial: a.dial}
	who := "a visitor"
	if a.ours {
		visit.Authorization = t.gate.authorization()
		who += map[string]string{"token": " with the link", "password": " with a password"}[t.gate.access().String()]
	}
	ctx, cancel := context.WithTimeout(ctx, visitPatience)
	defer cancel()
	got := visit.Do(ctx)
	c := judgeVisit(got, who, a)
	own, err := url.Parse(a.url)
	if token, is := strings.CutPrefix(visit.Authorization, "Bearer "); is && err == nil && c.OK && !c.Warn { // which a browser sends by a POST first
		visit.URL, visit.Authorization, visit.Form = own.JoinPath(gate.Path).String(), "", url.Values{"token": {token}}
		v := visit.Do(ctx)
		if v.Err == nil && !v.Ours {
			c.Warn, c.Hint = true, fault.Hintf("browsers send the link's token by POST %s, which something in front of the tunnel answers by itself, %d %s: have it passed on", visit.URL, v.Status, http.StatusText(v.Status))
		}
		got.Host = cmp.Or(got.Host, v.Host)
	}
	if a.ours && !a.past && got.Err == nil && !t.endpoint.Load().prepared {
		if told := t.board.heedVisit(got, t.gate.access(), a.url, t.Addr()); told != nil {
			c.Warn, c.Seen, c.Hint = c.OK, c.Seen+"; "+told.Err.Error(), told.Hint
		}
	}
	if got.Host != "" && c.OK && !c.Warn && !t.endpoint.Load().prepared {
		told := fault.OtherHost(own.Host, got.Host)
		c.Warn, c.Seen, c.Hint = true, c.Seen+"; "+told.Err.Error(), told.Hint
	}
	if s := t.Status(); s.State == Replaced { // what answers is the newer tunnel
		c.OK, c.Hint = false, "the answer is not of this tunnel: see the rows above"
	}
	if s := t.Status(); s.State == Expired { // whatever stands before the gate
		c.OK, c.Hint = false, s.LastError.Hint
	}
	return c
}

// judgeVisit tells what a visitor got.
func judgeVisit(v probe.Visited, who string, a approach) Checked {
	c := Checked{Step: "visitor"}
	if v.Err != nil {
		c.Seen, c.Hint = fmt.Sprintf("%s gets no answer, asked %s: %v", who, a.how, v.Err), "see the rows above"
		if told := fault.Connect(a.url, v.Err); errors.Is(told, fault.ErrLimit) {
			c.Seen, c.Hint = told.Err.Error(), told.Hint
		} else if v.Late {
			c.Seen = fmt.Sprintf("%s waits for more than %v, asked %s", who, v.Took.Round(time.Second), a.how)
			c.Hint = "the app takes so long for its page, or what it was asked before keeps it"
		}
		return c
	}
	why := ""
	got := fmt.Sprintf("%d %s", v.Status, http.StatusText(v.Status))
	if v.Ours {
		if why = v.Header.Get(gate.Why); gate.Says(why) != "" {
			got += fmt.Sprintf(", %q,", gate.Says(why))
		}
	}
	c.Seen = fmt.Sprintf("%s gets %s after %d ms, asked %s", who, got, v.Took.Milliseconds(), a.how)
	guarded := v.Status/100 == 3 || v.Status == http.StatusUnauthorized || v.Status == http.StatusForbidden || v.Status == http.StatusProxyAuthRequired
	switch {
	case !v.Ours && (guarded || a.held):
		c.OK, c.Hint = true, "a login, a firewall or another host may stand before it, so it cannot be told what visitors get: open it"
		if a.ours {
			c.Hint = "a login or a firewall stands before it, so it cannot be told what visitors get after that: open it"
		}
	case !v.Ours:
		c.Hint = "the answer is not of this tunnel: see the rows above"
	case why == "expired":
		c.Hint = fault.Expired(time.Time{}).Hint
	case why == "address":
		c.OK, c.Warn, c.Hint = true, true, "{allow} does not name the network of this machine; visitors of those that it names get in"
	case v.Status >= 500 && why != "":
		c.Hint = "visitors get in once the app answers: see its row"
	case v.Status >= 500:
		c.Hint = "the app itself answers so: its own output says why"
	case why == "token" && !a.ours:
		c.OK, c.Warn, c.Hint = true, true, "the address leads here, but something in front of the tunnel answers what is asked below it at .well-known/taipy-tunnel: have GET and POST passed on, or no browser can hand over the link's token"
	case why == "password" && !a.ours:
		c.OK, c.Warn, c.Hint = true, true, "the address leads here, but something in front of the tunnel answers what is asked below it at .well-known/taipy-tunnel, so no password was tried: open it"
	case v.Status >= 400 && why != "":
		c.OK, c.Warn, c.Hint = true, true, "what stands before the tunnel may have taken the header Authorization out; browsers send a cookie: open it"
	case v.Status >= 400:
		c.OK, c.Warn, c.Hint = true, true, "the app itself answers so"
		if at, err := url.Parse(a.url); v.Status == http.StatusNotFound && err == nil && strings.Trim(at.Path, "/") != "" {
			c.Hint = "the app itself answers so, for the address below which it is; if it is served at the root, have nginx strip the path: a slash at the end of proxy_pass"
		}
	default:
		c.OK = true
	}
	return c
}

// Verify asks again whether the URL leads here, as Config.Check says; Status.Checked and Status.Unchecked say what was seen. It is
// for an address that could not be checked when the tunnel was opened.
func (t *Tunnel) Verify(ctx context.Context) { _ = t.verify(ctx) }
