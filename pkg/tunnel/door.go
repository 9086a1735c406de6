// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
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
	case len(cfg.Allow) > 0:
		return fault.Config("leave allow= out, or have the proxy's admin restrict addresses in nginx (allow, deny)",
			"allow needs a proxy that is known to overwrite the visitor's address; here a visitor could forge it")
	case cfg.Access.Public && cfg.Access.Passwords != nil:
		return fault.Config("choose one", "access is public and has passwords")
	case cfg.Access.Passwords != nil:
		if err := checkPasswords(cfg.Access.Passwords); err != nil {
			return err
		}
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

// door is what visitors go through: the gate, and the token that it asks for.
type door struct {
	t    *Tunnel
	gate *gate.Gate

	mu     sync.Mutex
	labels string // the tunnel's identity
	made   bool   // the token
	kept   bool   // and it is the same after a restart
}

// newDoor returns nil for a tunnel that has no gate.
func newDoor(t *Tunnel) (*door, error) {
	cfg := &t.cfg
	d := &door{t: t, labels: fmt.Sprintf("%s\x00%s", t.server, t.Addr())}
	var err error
	d.gate, err = gate.New(gate.Config{
		Target: t.target, URL: cfg.URL, Identity: d.labels, Access: gate.Access(cfg.Access), WellKnown: http.HandlerFunc(t.check.serve),
		Busy: cfg.Busy, Dialled: func(addr string, err error) { t.sup.dialled(addr, err) }, Log: t.log, Panicked: t.tasks.Panicked,
	})
	if err != nil {
		return nil, fault.Config("", "%w", err)
	}
	if cfg.Token != "" {
		token, err := gate.GivenToken(cfg.Token, cfg.Expires)
		if err != nil {
			return nil, fault.Config("", "%w", err)
		}
		d.set(token, true)
	}
	return d, nil
}

func (d *door) set(token *gate.Token, kept bool) {
	d.made, d.kept = true, kept
	d.gate.SetToken(token)
}

// open makes the token, once a key has logged in and before the first visitor comes: from the key,
// so that the link is the same after a restart and is stored nowhere, or else at random.
func (d *door) open(ctx context.Context, keys *sshlink.Keys) {
	if d == nil || d.t.cfg.Access.String() != "token" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made {
		return
	}
	secret, err := keys.Secret(ctx, "visitors")
	if err == nil {
		label := fmt.Sprintf("%s\x00%d", d.labels, d.t.cfg.TokenVersion)
		var token *gate.Token
		if token, err = gate.DeriveToken(secret, label, d.t.cfg.Expires); err == nil {
			d.set(token, true)
			return
		}
	}
	d.t.log.Warn("the link to the app will be another one after a restart", "reason", err.Error(), "hint", "store a token and pass it as token=")
	d.set(gate.RandomToken(d.t.cfg.Expires), false)
}

// renew makes the token a new one, at random.
func (d *door) renew() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set(gate.RandomToken(d.t.cfg.Expires), false)
}

// linked is the URL with the token behind its #, where no server on the way sees it.
func (d *door) linked() string {
	base := d.t.cfg.URL
	if d.t.cfg.Access.String() != "token" {
		return base
	}
	token := d.gate.Token()
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
	if d == nil {
		return
	}
	g := d.gate.Stats()
	s.Visitors, s.VisitorsToday = g.Visitors, g.VisitorsToday
	s.Requests, s.Refused, s.Failed, s.Slow = g.Requests, g.Refused, g.Failed, g.Slow
	d.mu.Lock()
	defer d.mu.Unlock()
	s.TokenKept = d.kept
}
