// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"html"
	"net/http"
	"strings"
	"testing"
)

// TestOriginOfWhatMayChangeSomething: another site's page may have a visitor's browser send it,
// cookie and all.
func TestOriginOfWhatMayChangeSomething(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr()), URL: "https://Public.test:443/x"})
	for _, c := range []struct {
		name    string
		origins []string
		here    bool
	}{
		{"none", nil, true},
		{"of the URL", []string{"https://public.test"}, true},
		{"of the URL, its port named", []string{"https://public.test:443"}, true},
		{"of the request's host", []string{"http://" + host}, true},
		{"of the host, by https", []string{"https://" + strings.ToUpper(host)}, true},
		{"null", []string{"null"}, false},
		{"empty", []string{""}, false},
		{"foreign", []string{"https://evil.test"}, false},
		{"of a name below", []string{"https://x." + host}, false},
		{"of a name that begins so", []string{"https://" + host + ".evil.test"}, false},
		{"of another port", []string{"https://public.test:8443"}, false},
		{"of the URL, by http", []string{"http://public.test"}, false},
		{"of an extension", []string{"chrome-extension://" + host}, false},
		{"user", []string{"https://" + host + "@evil.test"}, false},
		{"two in one", []string{"https://public.test https://evil.test"}, false},
		{"two, the first ours", []string{"https://public.test", "https://evil.test"}, false},
		{"twice ours", []string{"https://public.test", "https://public.test"}, false},
		{"of a page that the browser calls the app's own", []string{"https://apps.corp:8443", "same-origin"}, true},
		{"of one without an origin that it calls so", []string{"null", "same-origin"}, true},
		{"of another host's page", []string{"https://apps.corp", "same-site"}, false},
		{"of another port's", []string{"https://" + host + ":8443", "same-site"}, false},
		{"of another site's", []string{"https://evil.test", "cross-site"}, false},
		{"of nobody's", []string{"https://evil.test", "none"}, false},
		{"by another word", []string{"https://evil.test", "Same-Origin"}, false},
		{"by two words", []string{"https://evil.test", "same-origin", "same-origin"}, false},
		{"two, by the browser's word", []string{"https://evil.test", "https://evil.test", "same-origin"}, false},
	} {
		lines := []string{admitted(g)}
		for _, o := range c.origins {
			name := "Origin: "
			if o != "" && o != "null" && !strings.Contains(o, ":") {
				name = "Sec-Fetch-Site: "
			}
			lines = append(lines, name+o)
		}
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			if got := ask(t, addr, method, "/", "", lines...); got.StatusCode != 200 {
				t.Errorf("%s: %s: %s", c.name, method, got.Status)
			}
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "X!"} {
			_, before := a.last()
			got := ask(t, addr, method, "/", "", lines...)
			if _, n := a.last(); (n > before) != c.here || (got.StatusCode == 403) == c.here {
				t.Errorf("%s: %s: %s", c.name, method, got.Status)
			}
		}
		if got := ask(t, addr, "GET", "/ws", "", append(lines, upgrade...)...); (got.StatusCode == 101) != c.here || (got.StatusCode == 403) == c.here {
			t.Errorf("%s: upgrade: %s", c.name, got.Status)
		}
		if got := ask(t, addr, "POST", Path, "token="+tokenText, lines[1:]...); (len(got.Cookies()) == 1) != c.here {
			t.Errorf("%s: handing over: %s", c.name, got.Status)
		}
	}
}

// TestWhatIsNotFromHereIsNamed: both addresses, as far as they are known; another site only where the browser says so; and to those who know
// the token alone.
func TestWhatIsNotFromHereIsNamed(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(secretApp(t).addr())})
	const agree, another, hidden = "origin", "site", "hidden"
	for _, c := range []struct{ origin, site, why, names string }{
		{"http://apps.corp:8443", "", agree, "a page of http://apps.corp:8443, and the web server in front of the app says that it was sent to " + host + "."},
		{"null", "none", hidden, "does not say whose page"}, // by plain http, of a page with Referrer-Policy: no-referrer
		{"null", "", hidden, "does not say whose page"},
		{"null", "cross-site", another, "from its own pages only"},
		{"http://" + strings.Repeat("a", 400), "", hidden, "does not say whose page"},
		{"http://<b>", "", agree, "a page of http://<b>, and"},
		{"https://evil.test", "cross-site", another, "from its own pages only"},
		{"https://apps.corp:8444", "same-site", another, "from its own pages only"},
	} {
		lines := []string{"Origin: " + c.origin}
		if c.site != "" {
			lines = append(lines, "Sec-Fetch-Site: "+c.site)
		}
		for _, got := range []answer{
			ask(t, addr, "POST", Path, "token="+tokenText, lines...),
			ask(t, addr, "POST", "/", "x", append(lines, admitted(g))...),
			ask(t, addr, "POST", "/", "x", append(lines, admitted(g), "Accept: text/html")...),
			ask(t, addr, "GET", "/ws", "", append(append(lines, admitted(g)), upgrade...)...),
		} {
			if got.StatusCode != 403 || got.Header.Get(Why) != c.why || !strings.Contains(html.UnescapeString(got.body), c.names) || len(got.Cookies()) > 0 ||
				strings.Contains(got.body, "<b>") && strings.Contains(got.body, "<html") {
				t.Errorf("%+v: %s, %s: %s", c, got.Status, got.Header.Get(Why), got.body)
			}
		}
		if got := ask(t, addr, "POST", Path, "token=wrong", lines...); got.StatusCode != 403 || got.Header.Get(Why) != "token" || got.body != "" {
			t.Errorf("%+v: with a wrong token: %s, %s: %s", c, got.Status, got.Header.Get(Why), got.body)
		}
	}
}

// TestOtherSitesReadNothingByOurCookie: what the app allows all sites (Access-Control-*) it allows
// those that know the token, not those whose visitor has a cookie of ours.
func TestOtherSitesReadNothingByOurCookie(t *testing.T) {
	check(t)
	var allow string
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", strings.Replace(allow, "echo", r.Header.Get("Origin"), 1))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "X-A")
	})
	words := map[string]string{"ann": "right password"}
	token, byToken := open(t, Config{Target: at(a.addr())})
	_, byPassword := open(t, Config{Target: at(a.addr()), Access: Access{Passwords: words}})
	_, public := open(t, Config{Target: at(a.addr()), Access: Access{Public: true}})
	for _, c := range []struct {
		name, addr, line, allow string
		passes                  bool
	}{
		{"cookie", byToken, admitted(token), "*", false},
		{"cookie", byToken, admitted(token), "echo", false},
		{"cookie", byToken, admitted(token), "https://" + host, true},
		{"Bearer", byToken, "Authorization: Bearer " + tokenText, "*", true},
		{"password", byPassword, basic("ann", "right password"), "*", false},
		{"public", public, "X-A: b", "*", true},
	} {
		allow = c.allow
		got := ask(t, c.addr, "GET", "/", "", c.line, "Origin: https://evil.test")
		names := 0
		for name := range got.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				names++
			}
		}
		if got.StatusCode != 200 || names != map[bool]int{true: 3}[c.passes] {
			t.Errorf("%s, the app allows %q: %s, %v", c.name, c.allow, got.Status, got.Header)
		}
	}
}
