// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Access says who is admitted. The zero value: those who have the token.
type Access struct {
	// Public admits everybody.
	Public bool
	// Passwords admits those who know one, by user name (HTTP Basic, RFC 7617).
	Passwords map[string]string
}

// policy is who is admitted, and from where.
type policy struct {
	Access
	allow []netip.Prefix
	words *passwords // nil: none
}

// SetAccess changes who is admitted and from which addresses (nil: any), at once for all visitors:
// upgraded connections and streams of events that are open are ended, for the new rules may not admit
// them. It refuses allow without Config.TrustProxy, and changes nothing then.
func (g *Gate) SetAccess(a Access, allow []netip.Prefix) error {
	if len(allow) > 0 && !g.cfg.TrustProxy {
		return errors.New("gate: Allow without TrustProxy: a visitor could forge the address")
	}
	next := &policy{Access: a, allow: slices.Clone(allow)}
	if before := g.policy.Load(); before != nil && before.words != nil && maps.Equal(before.Passwords, a.Passwords) {
		next.words = before.words // who has signed in stays so
	} else {
		next.words = newPasswords(a.Passwords)
	}
	g.policy.Store(next)
	g.SetToken(g.token.Load())
	return nil
}

const (
	cookiePrefix = "taipy-tunnel-"
	handoverMost = 4 << 10 // bytes of a POST to Path
)

func cookieName(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return cookiePrefix + hex.EncodeToString(sum[:6])
}

// trip is what one request's way to the app and back has to know.
type trip struct {
	prefix           string
	ambient          bool   // admitted by what a browser sends by itself, whoever made it send
	ownAuthorization bool   // the Authorization header was for the gate
	encoded          bool   // the app compressed its answer
	cookie           string // of ours, for the app's answer
	valid            *span  // of what admitted it
}

// outlasts has end called if what admitted the trip ends first, until stop is called.
func (t *trip) outlasts(end func()) (stop func() bool) {
	return context.AfterFunc(t.valid, end)
}

// admit reports whether r's sender is admitted; if not, it has answered.
func (g *Gate) admit(w http.ResponseWriter, r *http.Request, t *trip) bool {
	switch p := g.policy.Load(); {
	case p.Public:
		return true
	case p.words != nil:
		return g.admitPassword(w, r, t, p.words)
	}
	token, found := g.token.Load(), wrong
	for _, c := range r.CookiesNamed(g.cookie) {
		found = max(found, token.judge(c.Value))
	}
	t.ambient = found == right
	inHeader := token.judge(bearer(r))
	t.ownAuthorization = inHeader != wrong
	found = max(found, inHeader)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if text, rest, inLink := queryToken(r.URL.RawQuery, token.judge); inLink != wrong {
			if inLink == right && !isUpgrade(r) {
				http.SetCookie(w, g.newCookie(text, token.Expires(), t.prefix))
				redirect(w, t.prefix, r.URL, rest)
				return false
			}
			r.URL.RawQuery = rest // of an upgrade, or expired: no app needs to see it
			found = max(found, inLink)
		}
	}
	if found == right {
		return true
	}
	kind := map[verdict]string{wrong: "token", expired: "expired"}[found]
	refuse(w, r, http.StatusForbidden, page{Kind: kind, Own: cmp.Or(g.shown, t.prefix) + Path, Secure: g.secure})
	return false
}

func bearer(r *http.Request) string {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(text)
}

// queryToken takes the parameters "token" that are ours out of a query, and leaves the rest, an
// app's own of that name included, as it is. text is the best of them, found what it is.
func queryToken(query string, judge func(string) verdict) (text, rest string, found verdict) {
	if !strings.Contains(query, "token=") {
		return "", query, wrong
	}
	parts := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool {
		value, ok := strings.CutPrefix(p, "token=")
		if !ok {
			return false
		}
		value, _ = url.QueryUnescape(value)
		is := judge(value)
		if is > found {
			text, found = value, is
		}
		return is != wrong
	})
	return text, strings.Join(parts, "&"), found
}

// redirect leads to the same address without the token. A path that begins with two slashes would
// name another host, an empty one (of "GET http://host") the present page.
func redirect(w http.ResponseWriter, prefix string, u *url.URL, query string) {
	to := prefix + u.EscapedPath()
	switch {
	case strings.HasPrefix(to, "//"):
		to = "/." + to
	case !strings.HasPrefix(to, "/"):
		to = "/" + to
	}
	if query != "" {
		to += "?" + query
	}
	private(w.Header())
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// newCookie is for the prefix with and without a slash at its end: both may be the address of the first page.
func (g *Gate) newCookie(value string, until time.Time, prefix string) *http.Cookie {
	c := &http.Cookie{Name: g.cookie, Value: value, Path: cmp.Or(prefix, "/"), HttpOnly: true, Secure: g.secure, SameSite: http.SameSiteLaxMode}
	if !until.IsZero() {
		c.Expires = until
	}
	return c
}

// dropCookies keeps the gates' cookies, other tunnels' included, from the app, and its own as they are.
func dropCookies(h http.Header) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, cookiePrefix) }) {
		return
	}
	h.Del("Cookie")
	for _, line := range lines {
		pairs := slices.DeleteFunc(strings.Split(line, ";"), func(p string) bool {
			return strings.HasPrefix(strings.TrimLeft(p, " \t\r\n"), cookiePrefix) // as net/http's Cookies reads them
		})
		if line = strings.Trim(strings.Join(pairs, ";"), " \t"); line != "" {
			h.Add("Cookie", line)
		}
	}
}

// own answers at the gate's own address: a question of this tunnel's check, or a token that is
// handed over.
func (g *Gate) own(w http.ResponseWriter, r *http.Request, t *trip) {
	switch {
	case r.Method == http.MethodGet && g.cfg.WellKnown != nil:
		private(w.Header())
		g.cfg.WellKnown.ServeHTTP(w, r)
	case r.Method == http.MethodPost:
		private(w.Header())
		g.handOver(w, r)
	default:
		private(w.Header())
		if r.Method == http.MethodHead && g.cfg.TrustProxy {
			w.Header().Set(Since, g.since)
		}
		w.WriteHeader(http.StatusNotFound)
	}
}

// handOver takes the token that one of the gate's pages sends. A sender of the right one learns which addresses do not agree.
func (g *Gate) handOver(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, handoverMost))
	form, _ := url.ParseQuery(string(body))
	text := form.Get("token")
	switch {
	case err != nil || g.token.Load().judge(text) != right:
		w.Header().Set(Why, "token")
		w.WriteHeader(http.StatusForbidden)
	case !g.fromHere(r):
		p := notFromHere(r)
		w.Header().Set(Why, p.Kind)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, p.Text())
	default:
		if !g.cfg.TrustProxy && g.passed.Load() == nil { // it comes as visitors do
			g.learns(r.URL.Path)
		}
		http.SetCookie(w, g.newCookie(text, g.token.Load().Expires(), g.prefix(r)))
		w.WriteHeader(http.StatusNoContent)
	}
}

// fromHere refuses what another site's page has a visitor's browser send: upgrades and requests
// that may change something tell their origin (RFC 6455, section 10.2; Fetch, "Origin header").
// Other clients send none.
//
// The origin is to be the URL's, or to have the request's own host. That one is what the web server in front of the tunnel
// says: nginx's $host has no port, and where it says nothing it is the slot's. So the browser's word is good enough, too: "Sec-Fetch-Site:
// same-origin" compares the page with the address that the browser itself asks, whatever becomes of that on the way. No page
// can send or change a header that begins with Sec- (Fetch, "forbidden request-header"), and after a redirect by
// another site it is "cross-site". A foreign name that leads to the proxy (DNS rebinding) is the same origin by the host as well, and
// has none of our cookies; the header makes it no easier, since browsers send that to https, where the name needs a certificate, and to
// localhost alone. By plain http, and with the websockets of Chromium (156), it does not come: there the host decides.
func (g *Gate) fromHere(r *http.Request) bool {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	origins := r.Header["Origin"]
	if safe && !isUpgrade(r) || len(origins) == 0 {
		return true
	}
	return len(origins) == 1 && (g.isOwn(origins[0], r.Host) || site(r) == "same-origin")
}

// site is how a browser says the page that sent r is related to what it asks: "same-origin", "same-site", "cross-site" or "none"; "" if
// it says nothing.
func site(r *http.Request) string {
	if said := r.Header["Sec-Fetch-Site"]; len(said) == 1 {
		return said[0]
	}
	return ""
}

// notFromHere is the page for what fromHere refuses. Without the browser's word it cannot be told whether another site sent that, or the
// web server in front of the tunnel has changed the host.
func notFromHere(r *http.Request) page {
	if by := site(r); by == "cross-site" || by == "same-site" {
		return page{Kind: pageSite}
	}
	u, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || u.Host == "" || len(u.Host) > maxName { // "null": of a page that keeps it to itself
		return page{Kind: pageHidden}
	}
	return page{Kind: pageOrigin, Names: []any{u.Scheme + "://" + u.Host, cmp.Or(r.Host[:min(len(r.Host), maxName)], "no host")}}
}

// maxName is longer than a host's name and port.
const maxName = 300

// isOwn reports whether an origin is the URL's or has the request's own host.
func (g *Gate) isOwn(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false // "null" is of a page without an origin
	}
	return originOf(u) == g.origin || strings.EqualFold(u.Host, host)
}

// originOf is the origin of an address as browsers write it, without the scheme's own port.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host
}

// allowed reports whether a visitor's address is one of those that may come.
func (g *Gate) allowed(client string) bool {
	nets := g.policy.Load().allow
	if len(nets) == 0 {
		return true
	}
	addr, err := netip.ParseAddr(client)
	return err == nil && slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
