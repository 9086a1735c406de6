// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// visitorGate is what visitors go through: the gate, and the token that it asks for. There is none before
// the first link has told where visitors arrive.
type visitorGate struct {
	server   string
	endpoint func() *endpoint
	board    *board
	log      *slog.Logger
	gate     atomic.Pointer[gate.Gate]
	config   gate.Config // but what the first link tells
	serve    func(*gate.Gate)
	changed  func()     // the token may have another end
	sockets  sync.Mutex // guards takes, and the warning of the app's websockets
	takes    bool       // the app has taken one

	mu       sync.Mutex
	secret   []byte // of the key that logged in, for tokens
	noSecret error  // why there is none
	visitors visitors
	kept     bool         // the token is the same after a restart
	renewed  *gate.Token  // was made by renew; nil: none
	heir     *visitorGate // of the tunnel that is opened in the place of d's; nil: none
	before   *gate.Gate   // of the tunnel in whose place d's is opened, until there is another; nil: none
}

// show publishes who is admitted.
func (d *visitorGate) show() {
	d.mu.Lock()
	v := d.visitors
	d.mu.Unlock()
	d.board.edit(func(s *Status) { s.Access, s.Expires = v.access.String(), v.expires })
	if v.access.String() != "password" {
		d.board.warn(twoLogins, nil)
	}
	if v.access.Public {
		d.log.Warn("the app is open to everybody who can reach the URL", "url", d.endpoint().url)
	}
}

// access is who is admitted now.
func (d *visitorGate) access() Access {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.visitors.access
}

func (d *visitorGate) asksToken() bool { return d.access().String() == "token" }

// open makes the gate and serves it, once a key has logged in and before the first visitor comes.
func (d *visitorGate) open(ctx context.Context, keys *sshauth.Keys) error {
	if d == nil || d.gate.Load() != nil {
		return nil
	}
	secret, noSecret := keys.Secret(ctx, "visitors")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secret, d.noSecret = secret, noSecret
	allowed, err := (&Config{Allow: d.visitors.allow}).allowed()
	if err != nil {
		return err
	}
	cfg, p := d.config, d.endpoint()
	cfg.URL, cfg.Identity, cfg.Access, cfg.Allow, cfg.TrustProxy, cfg.Before = p.url, d.identity(), gate.Access(d.visitors.access), allowed, p.prepared, d.before
	cfg.Websocket, cfg.Another, cfg.Now = d.websocket, d.anotherApp, steady.Now
	g, err := gate.New(cfg)
	if err != nil {
		return fault.Config("", "%w", err)
	}
	if err := d.setToken(g); err != nil {
		return err
	}
	d.gate.Store(g)
	d.before = nil
	d.serve(g)
	return nil
}

const (
	visitPatience = 4 * time.Second        // for an answer to begin to who asks for the page as a visitor
	visitAgain    = 300 * time.Millisecond // after one of nginx's that may be over at once
)

// visitedBy visits the page, and heeds what it gets: after two more tries where nginx has no upstream at that moment.
func (d *visitorGate) visitedBy(ctx context.Context, visit probe.Visit, slot net.Addr) {
	ctx, cancel := context.WithTimeout(ctx, visitPatience)
	defer cancel()
	got := visit.Do(ctx)
	for n := 0; n < 2 && got.Status >= 500 && !got.Ours && ctx.Err() == nil; n++ {
		select {
		case <-time.After(visitAgain):
			got = visit.Do(ctx)
		case <-ctx.Done():
		}
	}
	_ = d.board.heedVisit(got, d.access(), visit.URL, slot)
}

// websocket warns of an app that refuses them, as those do that know few addresses, until it has taken one: then it refuses
// others for reasons of its own.
func (d *visitorGate) websocket(taken bool) {
	if why := d.sawWebsocket(taken); why != nil {
		d.log.Warn(why.Error(), "hint", why.Hint)
	}
}

// sawWebsocket returns what is to be warned of from now on.
func (d *visitorGate) sawWebsocket(taken bool) *Error {
	d.sockets.Lock()
	defer d.sockets.Unlock()
	warned := d.board.warns(noWebsockets) != nil
	switch {
	case taken:
		d.takes = true
		if warned {
			d.board.warn(noWebsockets, nil)
		}
	case !d.takes && !warned:
		why := fault.WebsocketRefused(d.endpoint().url)
		d.board.warn(noWebsockets, why)
		return why
	}
	return nil
}

// anotherApp forgets what the app before did.
func (d *visitorGate) anotherApp() {
	d.sockets.Lock()
	defer d.sockets.Unlock()
	d.takes = false
	if d.board.warns(noWebsockets) != nil {
		d.board.warn(noWebsockets, nil)
	}
}

func (d *visitorGate) identity() string {
	return fmt.Sprintf("%s\x00%s", d.server, d.endpoint().identity())
}

// admit has the gate admit whom v says, and returns what that changed.
func (d *visitorGate) admit(v visitors) (changed []string, err error) {
	d.mu.Lock()
	g, before, renewed := d.gate.Load(), d.visitors, d.renewed
	changed = before.changed(&v)
	if len(changed) == 0 || g == nil {
		d.mu.Unlock()
		return nil, nil
	}
	allowed, err := (&Config{Allow: v.allow}).allowed()
	d.visitors = v
	switch {
	case !before.sameToken(&v):
		d.renewed = nil
	case renewed != nil && !before.expires.Equal(v.expires):
		d.renewed = gate.RandomToken(v.expires)
	}
	if err == nil && !slices.Equal(changed, []string{"allow"}) {
		err = d.setToken(g)
	}
	if err == nil {
		err = g.SetAccess(gate.Access(v.access), allowed)
	}
	if err != nil {
		d.visitors, d.renewed = before, renewed
		d.mu.Unlock()
		return nil, err
	}
	d.mu.Unlock()
	d.show()
	d.changed()
	d.log.Info("visitors are admitted by new settings from now on", "changed", strings.Join(changed, ", "))
	return changed, nil
}

// setToken gives the gate the token that the settings ask for: the given one, or one from the key, so
// that the link is the same after a restart and is stored nowhere, or else one at random. d.mu is held.
func (d *visitorGate) setToken(g *gate.Gate) error {
	v := d.visitors
	d.kept = true
	switch {
	case v.access.String() != "token":
		return nil
	case d.renewed != nil:
		d.kept = false
		g.SetToken(d.renewed)
		return nil
	case v.token != "":
		token, err := gate.GivenToken(v.token, v.expires)
		if err != nil {
			return fault.Config("", "%w", err)
		}
		g.SetToken(token)
		return nil
	}
	err := d.noSecret
	if err == nil {
		var token *gate.Token
		if token, err = gate.DeriveToken(d.secret, fmt.Sprintf("%s\x00%d", d.identity(), v.version), v.expires); err == nil {
			g.SetToken(token)
			return nil
		}
	}
	d.kept = false
	d.log.Warn("the link to the app will be another one after a restart", "reason", err.Error(), "hint", fault.Hint("store a token and pass it as {token}"))
	g.SetToken(gate.RandomToken(v.expires))
	return nil
}

// inherit takes over a token that was made by renew from the gate of another tunnel, in whose place
// d's is opened: the link that it replaced stays without effect. And what ran there does not run again here.
func (d *visitorGate) inherit(o *visitorGate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heir = d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = o.gate.Load()
	d.take(o)
}

// disinherit: the other tunnel was not to be had.
func (d *visitorGate) disinherit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heir = nil
}

// take has d's token be o's, if that was made by renew. The mu of both are held.
func (d *visitorGate) take(o *visitorGate) {
	if o.renewed == nil || !o.visitors.sameToken(&d.visitors) {
		return
	}
	d.renewed = o.renewed
	if g := d.gate.Load(); g != nil && d.visitors.access.String() == "token" {
		d.kept = false
		g.SetToken(d.renewed)
	}
}

// renew makes the token a new one, at random; false while there is none.
func (d *visitorGate) renew() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.gate.Load()
	if g == nil {
		return false
	}
	d.kept, d.renewed = false, gate.RandomToken(d.visitors.expires)
	g.SetToken(d.renewed)
	if d.heir != nil { // its tunnel may stand at any moment
		d.heir.mu.Lock()
		defer d.heir.mu.Unlock()
		d.heir.take(d)
	}
	return true
}

// ends is when the token that admits visitors ends, zero for never.
func (d *visitorGate) ends() time.Time {
	if d.gate.Load() == nil || !d.asksToken() {
		return time.Time{}
	}
	if token := d.gate.Load().Token(); token != nil {
		return token.Expires()
	}
	return time.Time{}
}

// cutOff ends what a token opened that has ended: timers stand still while the machine is suspended, and the gate
// has only those.
func (d *visitorGate) cutOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.gate.Load(); g != nil {
		g.SetToken(g.Token())
	}
}

// authorization is the header with which a program comes in as a visitor, "" where everybody does.
func (d *visitorGate) authorization() string {
	access := d.access()
	for _, user := range slices.Sorted(maps.Keys(access.Passwords)) {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+access.Passwords[user]))
	}
	if g := d.gate.Load(); g != nil && !access.Public && g.Token() != nil {
		return "Bearer " + g.Token().Text()
	}
	return ""
}

// linked is the URL with the token behind its #, where no server on the way sees it.
func (d *visitorGate) linked() string {
	base := d.endpoint().url
	g := d.gate.Load()
	if g == nil || !d.asksToken() {
		return base
	}
	token := g.Token()
	u, err := url.Parse(base)
	if token == nil || err != nil {
		return base
	}
	if u.Path == "" {
		u.Path = "/"
	}
	u.Fragment = ""
	return u.String() + "#token=" + url.QueryEscape(token.Text())
}

// count fills in what the gate knows.
func (d *visitorGate) count(s *Status) {
	if d == nil || d.gate.Load() == nil {
		return
	}
	g := d.gate.Load().Stats()
	s.Visitors, s.VisitorsToday = g.Visitors, g.VisitorsToday
	if s.State == StateClosed { // the gate counts those of the last minutes
		s.Visitors = 0
	}
	s.Requests, s.Refused, s.Failed, s.Slow = g.Requests, g.Refused, g.Failed, g.Slow
	d.mu.Lock()
	defer d.mu.Unlock()
	s.TokenKept = d.kept
}

// moved: the app is somewhere else now.
func (d *visitorGate) moved() {
	if g := d.gate.Load(); g != nil {
		g.Moved()
	}
	d.anotherApp()
}

// share: another tunnel is there.
func (d *visitorGate) share() {
	if d != nil && d.gate.Load() != nil {
		d.gate.Load().Share()
	}
}

// looked: a look that began then saw visitors led here, and nothing that leads them elsewhere; or it did.
func (d *visitorGate) looked(began time.Time, alone bool) {
	if g := d.gate.Load(); g != nil {
		g.Looked(began, alone)
	}
}

// requests are the newest n, oldest first.
func (d *visitorGate) requests(n int) []Request {
	if g := d.gate.Load(); g != nil {
		return g.Requests(n)
	}
	return nil
}

// resume takes drain back.
func (d *visitorGate) resume() {
	if g := d.gate.Load(); g != nil {
		g.Resume()
	}
}

// drain ends what is idle, and websockets.
func (d *visitorGate) drain() {
	if g := d.gate.Load(); g != nil {
		g.Drain()
	}
}
