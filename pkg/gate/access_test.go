// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryFormOfTheTokenAdmits has all kinds of requests pass that are refused without a token.
func TestEveryFormOfTheTokenAdmits(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr())})
	handed := ask(t, addr, "POST", Path, "token="+tokenText)
	if handed.StatusCode != http.StatusNoContent || len(handed.Cookies()) != 1 {
		t.Fatalf("handing the token over: %s, %v", handed.Status, handed.Header)
	}
	link := ask(t, addr, "GET", "/a%2Fb?x=1&token="+tokenText+"&y=%zz;", "")
	if link.StatusCode != http.StatusSeeOther || link.Header.Get("Location") != "/a%2Fb?x=1&y=%zz;" || len(link.Cookies()) != 1 {
		t.Fatalf("the link: %s, %v", link.Status, link.Header)
	}
	if _, n := a.last(); n != 0 {
		t.Fatalf("%d requests for the gate reached the app", n)
	}
	forms := map[string]string{
		"cookie": admitted(g), "cookie among others": "Cookie: a=b; " + g.cookie + "=" + tokenText + "; c=d",
		"second cookie of the name": "Cookie: " + g.cookie + "=stale; " + g.cookie + "=" + tokenText,
		"Bearer":                    "Authorization: Bearer " + tokenText, "bearer": "authorization:bearer   " + tokenText + " ",
		"handed over": "Cookie: " + handed.Cookies()[0].Name + "=" + handed.Cookies()[0].Value,
		"link":        "Cookie: " + link.Cookies()[0].Name + "=" + link.Cookies()[0].Value,
	}
	for form, line := range forms {
		for name, v := range visits {
			_, before := a.last()
			got := ask(t, addr, v[0], v[1], v[2], append([]string{line}, v[3:]...)...)
			if r, n := a.last(); n != before+1 || got.Header.Get(secretHead) == "" {
				t.Errorf("%s with %s: %s, %d requests reached the app", name, form, got.Status, n-before)
			} else if target := strings.TrimPrefix(strings.TrimPrefix(v[1], "http://"+host), "http://127.0.0.1:1"); r.Method != v[0] || r.RequestURI != strings.ReplaceAll(target, "#", "%23") {
				t.Errorf("%s with %s: the app was asked %s %s", name, form, r.Method, r.RequestURI)
			}
		}
	}
}

// TestEachRequestIsJudgedByItself: nginx sends the requests of different visitors over one connection.
func TestEachRequestIsJudgedByItself(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr())})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	for i := range 6 {
		line, want := admitted(g), http.StatusOK
		if i%2 == 1 {
			line, want = "Cookie: x=y", http.StatusForbidden
		}
		if got := askOn(t, c, r, "GET", "/", "", line); got.StatusCode != want || strings.Contains(got.body, secretBody) != (want == 200) {
			t.Fatalf("request %d on one connection: %s %q", i, got.Status, got.body)
		}
	}
	_, _ = io.WriteString(c, request("POST", "/", "abc", admitted(g))+request("GET", "/", ""))
	if first, second := read(t, r, "POST"), read(t, r, "GET"); first.StatusCode != 200 || second.StatusCode != 403 {
		t.Errorf("pipelined after an admitted one: %s, %s", first.Status, second.Status)
	}
	if _, n := a.last(); n != 4 {
		t.Errorf("%d requests reached the app, want 4", n)
	}
}

func TestRedirectsStayHere(t *testing.T) {
	check(t)
	_, addr := open(t, Config{Target: at("")})
	for _, path := range []string{"/", "//evil.test/", "///evil.test", "/\\evil.test", "/\\/evil.test", "//evil.test/%2f..", "/.//evil.test", "/%09/evil.test",
		"/%2fevil.test", "/%5cevil.test", "http://evil.test/", "http://evil.test", "http://evil.test//other.test", "//user@evil.test", "/@evil.test", "evil:", "evil:x", "/a b"} {
		got := ask(t, addr, "GET", strings.ReplaceAll(path, " ", "%20")+"?token="+tokenText, "")
		if got.StatusCode == http.StatusBadRequest {
			continue
		}
		base, _ := url.Parse("https://" + host + "/page")
		to, err := base.Parse(got.Header.Get("Location"))
		if got.StatusCode != http.StatusSeeOther || err != nil || to.Host != host || strings.HasPrefix(got.Header.Get("Location"), "//") ||
			!strings.HasPrefix(got.Header.Get("Location"), "/") || strings.ContainsAny(got.Header.Get("Location"), "\\\t") {
			t.Errorf("%s?token=…: %s, Location %q", path, got.Status, got.Header["Location"])
		}
	}
	if got := ask(t, addr, "HEAD", "/?token="+tokenText, ""); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/" {
		t.Errorf("HEAD: %s %v", got.Status, got.Header)
	}
}

func TestCookiesAttributes(t *testing.T) {
	check(t)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, c := range []struct {
		url, prefix, path string
		secure            bool
	}{{"https://apps.test/", "", "/", true}, {"http://apps.test:8080/", "", "/", false}, {"https://apps.test/ann/", "/ann", "/ann", true}} {
		g, addr := open(t, Config{Target: at(""), URL: c.url, TrustProxy: true})
		token, err := DeriveToken(make([]byte, 32), "x", until)
		if err != nil {
			t.Fatal(err)
		}
		g.SetToken(token)
		for _, got := range []answer{ask(t, addr, "GET", "/x?token="+token.Text(), "", "X-Forwarded-Prefix: "+c.prefix),
			ask(t, addr, "POST", Path, "token="+url.QueryEscape(token.Text()), "X-Forwarded-Prefix: "+c.prefix)} {
			if len(got.Cookies()) != 1 {
				t.Fatalf("%s: %s %v", c.url, got.Status, got.Header)
			}
			k := got.Cookies()[0]
			if k.Name != g.cookie || k.Value != token.Text() || k.Path != c.path || k.Secure != c.secure || !k.HttpOnly ||
				k.SameSite != http.SameSiteLaxMode || k.Domain != "" || !k.Expires.Equal(until) || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %s", c.url, got.Header)
			}
		}
	}
	one, two := cookieName("a"), cookieName("b")
	if one == two || !strings.HasPrefix(one, cookiePrefix) {
		t.Errorf("cookies of two tunnels are called %s and %s", one, two)
	}
}

// TestTheAppSeesItsOwnOnly: neither our cookies nor our token reach it; all of its own does.
func TestTheAppSeesItsOwnOnly(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", `s="a, b"; Path=/x;HttpOnly`)
		w.Header().Add("Set-Cookie", "ü=1;  odd")
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	ours := g.cookie + "=" + tokenText
	for _, c := range []struct{ lines, want []string }{
		{[]string{"Cookie: " + ours}, nil},
		{[]string{"Cookie: a=1; " + ours + "; b=2"}, []string{"a=1; b=2"}},
		{[]string{"Cookie: " + ours + "; taipy-tunnel-0123456789ab=other;a=\"x y\";;b==;  c"}, []string{"a=\"x y\";;b==;  c"}},
		{[]string{"Cookie: taipy-tunnel=1; x-taipy-tunnel-a=2; " + ours}, []string{"taipy-tunnel=1; x-taipy-tunnel-a=2"}},
		{[]string{"Cookie: a=taipy-tunnel-x; " + ours, "Cookie: \xff=\xfe,,"}, []string{"a=taipy-tunnel-x", "\xff=\xfe,,"}},
		{[]string{"Authorization: Bearer " + tokenText, "Cookie: a=1 ;b;"}, []string{"a=1 ;b;"}},
		{[]string{"Authorization: Bearer " + tokenText, "Cookie: " + ours}, nil},
	} {
		got := ask(t, addr, "GET", "/", "", c.lines...)
		r, _ := a.last()
		if r == nil || !slices.Equal(r.Header["Cookie"], c.want) || r.Header.Get("Authorization") != "" {
			t.Errorf("%q: the app got %q", c.lines, r.Header)
		}
		if want := []string{`s="a, b"; Path=/x;HttpOnly`, "ü=1;  odd"}; !slices.Equal(got.Header["Set-Cookie"], want) {
			t.Errorf("the visitor got %q", got.Header["Set-Cookie"])
		}
	}
	for _, own := range []string{"Bearer of-the-app", "Basic YTpi", "Digest x"} {
		ask(t, addr, "GET", "/", "", "Cookie: "+ours, "Authorization: "+own)
		if r, _ := a.last(); r.Header.Get("Authorization") != own {
			t.Errorf("the app's own %q arrived as %q", own, r.Header["Authorization"])
		}
	}
	ask(t, addr, "GET", "/ws?a=1&token="+tokenText+"&b=%zz", "", upgrade...)
	if r, _ := a.last(); r.RequestURI != "/ws?a=1&b=%zz" {
		t.Errorf("an upgrade with the token in its address reached the app as %s", r.RequestURI)
	}
	ask(t, addr, "GET", "/?token=of-the-app&x", "", "Cookie: "+ours)
	if r, _ := a.last(); r.RequestURI != "/?token=of-the-app&x" {
		t.Errorf("the app's own parameter arrived as %s", r.RequestURI)
	}
}

// TestConnectionUpgradeAlone: many an nginx sends it with each request (proxy_set_header Connection
// "upgrade"), which does not make them upgrades.
func TestConnectionUpgradeAlone(t *testing.T) {
	check(t)
	a := secretApp(t)
	_, addr := open(t, Config{Target: at(a.addr())})
	got := ask(t, addr, "GET", "/?token="+tokenText, "", "Connection: upgrade", "Accept: text/html")
	if got.StatusCode != http.StatusSeeOther || len(got.Cookies()) != 1 {
		t.Errorf("the link: %s", got.Status)
	}
}

func TestNewTokenShutsOutAtOnce(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr())})
	old := admitted(g)
	g.SetToken(RandomToken(time.Time{}))
	if got := ask(t, addr, "GET", "/", "", old); got.StatusCode != 403 {
		t.Errorf("the old cookie: %s", got.Status)
	}
	if got := ask(t, addr, "GET", "/", "", cookieOf(g, g.Token().Text())); got.StatusCode != 200 {
		t.Errorf("the new one: %s", got.Status)
	}
}

func TestPublicAndAllow(t *testing.T) {
	check(t)
	a := secretApp(t)
	_, addr := open(t, Config{Target: at(a.addr()), Access: Access{Public: true}})
	if got := ask(t, addr, "GET", "/?token=x", ""); got.StatusCode != 200 {
		t.Errorf("public: %s", got.Status)
	}
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	if _, err := New(Config{Target: at(""), URL: "https://" + host, Allow: allow}); err == nil {
		t.Error("Allow without TrustProxy was taken")
	}
	g, addr := open(t, Config{Target: at(a.addr()), Allow: allow, TrustProxy: true})
	for from, want := range map[string]int{"10.1.2.3": 200, "6.6.6.6, 10.1.2.3": 200, "2001:db8::1": 200, "::ffff:10.0.0.1": 200,
		"11.0.0.1": 403, "10.1.2.3, 11.0.0.1": 403, "": 403, "10.1.2.3,": 403, "unknown": 403, "10.1.2.3:80": 403} {
		if got := ask(t, addr, "GET", "/", "", admitted(g), "X-Forwarded-For: "+from); got.StatusCode != want {
			t.Errorf("from %q: %s, want %d", from, got.Status, want)
		}
		if got := ask(t, addr, "GET", "/", "", "X-Forwarded-For: "+from); got.StatusCode != 403 {
			t.Errorf("from %q without the token: %s", from, got.Status)
		}
	}
	if got := ask(t, addr, "GET", "/", "", admitted(g)); got.StatusCode != 403 {
		t.Errorf("from nowhere: %s", got.Status)
	}
}

// An app that visitors see below a path of a plain proxy, which tells the gate nothing of it. Whether nginx strips the path is seen by
// the tunnel's own question, which anybody else's is not taken for.
func TestBelowAPathOfAPlainProxy(t *testing.T) {
	check(t)
	below := Config{Target: at(newApp(t, echoPath).addr()), URL: "https://" + host + "/team/app/",
		Visit: func(_ http.Header, r *http.Request) bool { return r.Header.Get("Question") == "ours" }}
	g, addr := open(t, below)
	for _, c := range []struct{ name, question, asked, arrives, cookie, to string }{
		{"a stranger's question", "Question: a stranger's", "/team/app" + Path, "", "", "/team/app/page"},
		{"past the web server", "Question: ours", "/team/app" + Past, "", "", "/team/app/page"},
		{"not known, and with a slash too many", "", "", "/", "", "/team/app/page"},
		{"not known, and a part is stripped", "", "", "/app", "", "/team/app/page"},
		{"not known, and not stripped", "", "", "/team/app", "", "/team/app/page"},
		{"stripped", "Question: ours", Path, "", "/team/app", "/team/app/page"},
		{"not stripped", "Question: ours", "/team/app" + Path, "/team/app", "/", "/team/app/page"},
		{"not stripped, and then asked past the web server", "Question: ours", Past, "/team/app", "/", "/team/app/page"},
		{"another page of one that is not stripped", "", "", "/other", "/", "/other/page"},
		{"with a slash too many", "Question: ours", "/" + Path, "/", "/team/app", "/team/app/page"},
		{"a part is stripped", "Question: ours", "/app" + Path, "/app", "/team", "/team/app/page"},
	} {
		if c.question != "" {
			ask(t, addr, "GET", c.asked, "", c.question)
		}
		if got := ask(t, addr, "GET", c.arrives+"/page", "", "Accept: text/html"); got.StatusCode != 403 || !strings.Contains(got.body, "/team/app"+Path) {
			t.Errorf("%s: %s, and the page hands the token over elsewhere", c.name, got.Status)
		}
		if c.cookie != "" {
			handsOver(t, addr, c.name, c.arrives, c.cookie)
		}
		got := ask(t, addr, "GET", c.arrives+"/page?token="+tokenText, "")
		if to := got.Header.Get("Location"); got.StatusCode != 303 || to != c.to {
			t.Errorf("%s: %s to %q", c.name, got.Status, to)
		}
		if got := ask(t, addr, "GET", c.arrives+"/page", "", admitted(g)); got.body != strings.TrimPrefix(c.arrives, "/")+"/page" && got.body != c.arrives+"/page" {
			t.Errorf("%s: %s %q", c.name, got.Status, got.body)
		}
	}
}

// handsOver sends the token as the page does, and looks at the cookie.
func handsOver(t *testing.T, addr, name, arrives, path string) {
	t.Helper()
	got := ask(t, addr, "POST", arrives+Path, "token="+tokenText, "Origin: https://"+host)
	if cookies := got.Cookies(); got.StatusCode != 204 || len(cookies) != 1 || cookies[0].Path != path {
		t.Errorf("%s: handed over: %s, %v, want one for %s", name, got.Status, cookies, path)
	}
}

// Where no question can be asked, behind a login, the page that hands the token over shows what is stripped. What was seen once is known to
// the gate in whose place another one is.
func TestThePathThatVisitorsTeach(t *testing.T) {
	check(t)
	for url, stripped := range map[string]string{"/team/app/": "/team/app", "/My%20App": "/My%20App", "/user/ann@x/gr%C3%B6%C3%9Fe/a/b/c/": "/user/ann@x/gr%C3%B6%C3%9Fe/a/b/c",
		"/a(b)!/c%2Fd//": "/a(b)!/c%2Fd"} {
		below := Config{Target: at(newApp(t, echoPath).addr()), URL: "https://" + host + url}
		g, addr := open(t, below)
		if got := ask(t, addr, "GET", "/page", "", "Accept: text/html"); !strings.Contains(got.body, stripped+Path) {
			t.Errorf("%s: the page does not hand the token over there", url)
		}
		if got := ask(t, addr, "POST", Path, "token=wrong", "Origin: https://"+host); got.StatusCode != 403 || g.passed.Load() != nil {
			t.Errorf("%s: a wrong token: %s", url, got.Status)
		}
		handsOver(t, addr, url, "", stripped)
		below.Before = g
		_, next := open(t, below)
		for _, addr := range []string{addr, next} {
			if got := ask(t, addr, "GET", "/page?token="+tokenText, ""); got.Header.Get("Location") != stripped+"/page" {
				t.Errorf("%s: %s to %q", url, got.Status, got.Header.Get("Location"))
			}
		}
	}
}

func echoPath(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }
