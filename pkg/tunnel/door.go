// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// Access says whom a tunnel's gate admits. The zero value: those who have the token. In JSON
// "token", "public", or an object of users and their passwords.
type Access gate.Access

// Request is a request that a tunnel's gate answered.
type Request = gate.Request

// MarshalJSON writes what UnmarshalJSON reads.
func (a Access) MarshalJSON() ([]byte, error) {
	if a.Passwords != nil {
		return json.Marshal(a.Passwords)
	}
	return json.Marshal(a.String())
}

// UnmarshalJSON accepts "token", "public" and {"user": "password"}.
func (a *Access) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) != nil {
		return json.Unmarshal(b, &a.Passwords)
	}
	switch word {
	case "", "token":
		*a = Access{}
	case "public":
		*a = Access{Public: true}
	default:
		return errors.New(`access is none of "token", "public" and users with their passwords`)
	}
	return nil
}

// String is the kind of access, without its secrets.
func (a Access) String() string {
	switch {
	case a.Public:
		return "public"
	case a.Passwords != nil:
		return "password"
	}
	return "token"
}

// GoString is String, for %#v.
func (a Access) GoString() string { return a.String() }

const passwordLeast = 8 // characters

// checkAccess refuses what would leave the app open by mistake.
func (cfg *Config) checkAccess() error {
	switch {
	case cfg.Access.Public && cfg.Access.Passwords != nil:
		return fault.Config("choose one", "access is public and has passwords")
	case cfg.Access.Passwords != nil:
		if err := checkPasswords(cfg.Access.Passwords); err != nil {
			return err
		}
	}
	if _, err := cfg.allowed(); err != nil {
		return err
	}
	if cfg.Raw && !cfg.Access.Public {
		return fault.Config(`pass access="public" as well to open the port to everybody who can reach it, or leave raw= out`,
			"raw carries bytes of any kind, where nobody can be asked for a token or a password")
	}
	if cfg.Token != "" && cfg.Access.String() != "token" {
		return fault.Config("leave token= out, or access=", "a token is given, but access is %q", cfg.Access.String())
	}
	if cfg.TokenVersion == 0 {
		cfg.TokenVersion = 1
	}
	if cfg.TokenVersion < 1 {
		return fault.Config("count token_version= up from 1 to make earlier links invalid", "token_version %d is not a number from 1 on", cfg.TokenVersion)
	}
	if !cfg.Expires.IsZero() && !cfg.Expires.After(time.Now()) {
		return fault.Config("pass a moment to come, or the seconds until then", "expires is in the past: the link would admit nobody")
	}
	if cfg.Token != "" {
		if _, err := gate.GivenToken(cfg.Token, cfg.Expires); err != nil {
			return fault.Config(`leave token= out, or make one: python -c "import secrets; print(secrets.token_urlsafe(24))"`, "%w", err)
		}
	}
	return nil
}

// allowed reads Allow.
func (cfg *Config) allowed() (nets []netip.Prefix, err error) {
	for _, text := range cfg.Allow {
		if !strings.Contains(text, "/") {
			if addr, err := netip.ParseAddr(text); err == nil {
				nets = append(nets, netip.PrefixFrom(addr, addr.BitLen()))
				continue
			}
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault.Config(`write allow=["10.0.0.0/8"]`, "allow has %q, which is not a network", text)
		}
		nets = append(nets, network.Masked())
	}
	if len(nets) > 0 && cfg.plainGiven {
		_, err = cfg.plain()
	}
	return nets, err
}

func checkPasswords(users map[string]string) error {
	if len(users) == 0 {
		return fault.Config(`pass access=("user", "password")`, "access names no user")
	}
	for user, password := range users {
		if user == "" || strings.ContainsAny(user, ":\r\n\x00") {
			return fault.Config(`pass access=("user", "password")`, "access has a user name that is empty or holds a colon")
		}
		if len([]rune(password)) < passwordLeast {
			return fault.Config("take a longer one: anybody on the network may try", "access has a password of less than %d characters", passwordLeast)
		}
	}
	return nil
}

// door is what visitors go through: the gate, and the token that it asks for. There is none before
// the first link has told where visitors arrive.
type door struct {
	t    *Tunnel
	gate atomic.Pointer[gate.Gate]

	mu   sync.Mutex
	kept bool // the token is the same after a restart
}

// open makes the gate and serves it, once a key has logged in and before the first visitor comes.
func (d *door) open(ctx context.Context, keys *sshlink.Keys) error {
	if d == nil || d.gate.Load() != nil {
		return nil
	}
	t, cfg, p := d.t, &d.t.cfg, d.t.place.Load()
	allowed, err := cfg.allowed()
	if err != nil {
		return err
	}
	identity := fmt.Sprintf("%s\x00%s", t.server, p.identity())
	g, err := gate.New(gate.Config{
		Target: t.target, URL: p.url, Identity: identity, Access: gate.Access(cfg.Access), WellKnown: http.HandlerFunc(t.check.serve),
		Allow: allowed, TrustProxy: p.prepared,
		Busy: cfg.Busy, Dialled: func(addr string, err error) { t.sup.dialled(addr, err) }, Log: t.log, Panicked: t.tasks.Panicked,
	})
	if err != nil {
		return fault.Config("", "%w", err)
	}
	if cfg.Access.String() == "token" {
		token, err := d.token(ctx, keys, identity)
		if err != nil {
			return err
		}
		g.SetToken(token)
	}
	d.gate.Store(g)
	t.tasks.Go(func() { _ = g.Serve(t) })
	if !t.tasks.Go(func() { <-t.life.Done(); _ = g.Close() }) {
		_ = g.Close()
	}
	return nil
}

// token makes the first token: the given one, or one from the key, so that the link is the same after
// a restart and is stored nowhere, or else one at random.
func (d *door) token(ctx context.Context, keys *sshlink.Keys, identity string) (*gate.Token, error) {
	cfg := &d.t.cfg
	d.keep(true)
	if cfg.Token != "" {
		token, err := gate.GivenToken(cfg.Token, cfg.Expires)
		if err != nil {
			return nil, fault.Config("", "%w", err)
		}
		return token, nil
	}
	secret, err := keys.Secret(ctx, "visitors")
	if err == nil {
		var token *gate.Token
		if token, err = gate.DeriveToken(secret, fmt.Sprintf("%s\x00%d", identity, cfg.TokenVersion), cfg.Expires); err == nil {
			return token, nil
		}
	}
	d.keep(false)
	d.t.log.Warn("the link to the app will be another one after a restart", "reason", err.Error(), "hint", "store a token and pass it as token=")
	return gate.RandomToken(cfg.Expires), nil
}

func (d *door) keep(kept bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = kept
}

// renew makes the token a new one, at random; false while there is none.
func (d *door) renew() bool {
	g := d.gate.Load()
	if g == nil {
		return false
	}
	d.keep(false)
	g.SetToken(gate.RandomToken(d.t.cfg.Expires))
	return true
}

// linked is the URL with the token behind its #, where no server on the way sees it.
func (d *door) linked() string {
	base := d.t.place.Load().url
	g := d.gate.Load()
	if d.t.cfg.Access.String() != "token" || g == nil {
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
func (d *door) count(s *Status) {
	if d == nil || d.gate.Load() == nil {
		return
	}
	g := d.gate.Load().Stats()
	s.Visitors, s.VisitorsToday = g.Visitors, g.VisitorsToday
	s.Requests, s.Refused, s.Failed, s.Slow = g.Requests, g.Refused, g.Failed, g.Slow
	d.mu.Lock()
	defer d.mu.Unlock()
	s.TokenKept = d.kept
}

// moved: the app is somewhere else now.
func (d *door) moved() {
	if g := d.gate.Load(); g != nil {
		g.Moved()
	}
}

// requests are the newest n, oldest first.
func (d *door) requests(n int) []Request {
	if g := d.gate.Load(); g != nil {
		return g.Requests(n)
	}
	return nil
}

// drain ends what is idle.
func (d *door) drain() {
	if g := d.gate.Load(); g != nil {
		g.Drain()
	}
}
