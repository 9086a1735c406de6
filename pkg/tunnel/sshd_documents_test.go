// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The line that docs/proxy.md has admins put before a key lets a tunnel work, with its page's own nginx; where another port
// is exposed than the line names, the proxy refuses.
func TestTheDocumentsNarrowedKey(t *testing.T) {
	leak.Check(t)
	page, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	found := regexp.MustCompile(`(?m)^    (restrict,.*) ssh-ed25519 AAAA…$`).FindStringSubmatch(string(page))
	if found == nil {
		t.Fatal("docs/proxy.md has no such line")
	}
	slot, web := sshdtest.FreePort(), sshdtest.FreePort()
	options := strings.NewReplacer("127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", slot), "127.0.0.1:80", fmt.Sprintf("127.0.0.1:%d", web)).Replace(found[1])
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: options + " %s"}), port: slot}
	c.serveSite(t, string(page), web)
	cfg := c.config(app(t, "hello"))
	cfg.Server = tunnel.Servers{fmt.Sprintf("ssh -R %s %s -p %d", "8080:127.0.0.1:5000", c.User+"@"+c.Host, c.Port)} // as Taipy's page has it
	cfg.HostKey = "256 " + c.Fingerprint() + " root@proxy (ED25519)"                                                 // as the README has it printed
	tun := open(t, cfg)
	wantBody(t, c.url, "hello")
	compat.Row(t, "accounts", "the options of docs/proxy.md before the key", compat.Taken)
	cfg.Remote = c.FreePort()
	if _, err = tunnel.Expose(within(t, 20*time.Second), cfg); !errors.Is(err, tunnel.ErrForward) {
		t.Errorf("another port than the line's: %v", err)
	}
	if s := tun.Status(); s.Warning != nil {
		t.Errorf("it warns of its own documents: %v", s.Warning)
	}
}

// behindALogin is what a site of docs/proxy.md begins with where a login is in front, with what the page says then. It lets in
// "me", by "pass".
func behindALogin(t *testing.T, page string) string {
	t.Helper()
	_, except, found := strings.Cut(page, "```nginx\nlocation = ")
	if !found {
		t.Fatal("docs/proxy.md has no such location")
	}
	except, _, _ = strings.Cut("location = "+except, "```")
	users := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(users, []byte("me:{PLAIN}pass\n"), 0o644))
	return "    listen 80;\n    auth_basic login;\n    auth_basic_user_file " + users + ";\n" + except
}

// What the page says for a login in front lets the check and the token's POST through, and nothing else.
func TestTheDocumentsNginxBehindALogin(t *testing.T) {
	leak.Check(t)
	page, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{})}
	c.port = c.FreePort()
	c.serveSite(t, strings.Replace(string(page), "    listen 80;\n", behindALogin(t, string(page)), 1), c.FreePort())
	cfg := c.config(app(t, "hello"))
	cfg.Raw, cfg.Access, cfg.Check = false, tunnel.Access{}, tunnel.CheckURL
	tun := open(t, cfg)
	if s := tun.Status(); s.Unchecked != "" {
		t.Errorf("the check: %s", s.Unchecked)
	}
	resp, err := http.PostForm(c.url+".well-known/taipy-tunnel", url.Values{"token": {tokenOf(tun)}})
	must(t, err)
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
		t.Errorf("the token: %s", resp.Status)
	}
	resp, err = http.Get(c.url)
	must(t, err)
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the app: %s", resp.Status)
	}
}

// Below a path the page's nginx leads to the app's pages, also with a login in front.
func TestTheDocumentsNginxBelowAPath(t *testing.T) {
	leak.Check(t)
	text, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "### Below a path")
	section, _, _ = strings.Cut(section, "\n### ")
	told := regexp.MustCompile("`((?:location|proxy_pass|url=)[^`]*)`").FindAllStringSubmatch(section, -1)
	if len(told) != 6 {
		t.Fatalf("docs/proxy.md has %q", told)
	}
	login := strings.NewReplacer("location = /.well-known/taipy-tunnel", told[4][1], "proxy_pass       http://127.0.0.1:8080;", told[5][1]).Replace(behindALogin(t, string(text)))
	for name, row := range map[string]struct{ listen, pass, arrives string }{
		"stripped":       {"    listen 80;\n", told[2][1], "/page, below /sales"},
		"behind a login": {login, told[2][1], "/page, below /sales"}, "not stripped": {"    listen 80;\n", told[3][1], "/sales/page, below "},
	} {
		t.Run(name, func(t *testing.T) {
			page := strings.NewReplacer("    listen 80;\n", row.listen, "    location / {", "    "+told[1][1]+" {", "        proxy_pass http://127.0.0.1:8080;", "        "+row.pass).Replace(string(text))
			c := &chain{Server: sshdtest.Start(t, sshdtest.Options{})}
			c.port = c.FreePort()
			c.serveSite(t, page, c.FreePort())
			cfg := c.config(serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.URL.Path+", below "+r.Header.Get("X-Forwarded-Prefix"))
			}))
			cfg.Raw, cfg.Access, cfg.URL = false, tunnel.Access{}, strings.NewReplacer(`url="http://proxy.example.com/`, c.url, `"`, "").Replace(told[0][1])
			tun := open(t, cfg)
			visit := func(query string, with ...*http.Cookie) (*http.Response, string) {
				req, err := http.NewRequest(http.MethodGet, cfg.URL+"page"+query, nil)
				must(t, err)
				req.SetBasicAuth("me", "pass")
				for _, cookie := range with {
					req.AddCookie(cookie)
				}
				resp, err := http.DefaultTransport.RoundTrip(req)
				must(t, err)
				body, err := io.ReadAll(resp.Body)
				must(t, errors.Join(err, resp.Body.Close()))
				return resp, string(body)
			}
			resp, _ := visit("?token=" + tokenOf(tun))
			if to := resp.Header.Get("Location"); to != "/sales/page" {
				t.Errorf("%s to %q", resp.Status, to)
			}
			if resp, body := visit("", resp.Cookies()...); body != row.arrives {
				t.Errorf("%s: the app has %q, want %q", resp.Status, body, row.arrives)
			}
		})
	}
}

// The page's own nginx lets visitors in who open it by another name and port than the URL has: by a tunnel of ssh, a port
// that Docker maps, or a load balancer. Where nginx keeps that name from the tunnel they get in if their browser says that it is the app's
// own page, and otherwise both addresses are named, to them and to the owner.
func TestTheDocumentsNginxByAnotherName(t *testing.T) {
	const line = "        proxy_set_header        Host $http_host;\n"
	for _, c := range []struct{ name, instead, arrives string }{
		{"nginx as docs/proxy.md has it", line, ""},
		{"nginx with $host in place of the $http_host of docs/proxy.md", strings.Replace(line, "http_", "", 1), "HOST"},
		{"nginx without the line for Host that docs/proxy.md has", "", "127.0.0.1:SLOT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlain(t, line, c.instead)
			tun := p.gated(t, func(cfg *tunnel.Config) { cfg.Target = serve(t, taking) })
			own := strings.Split(p.url, "/")[2]
			arrives := func(host string) string {
				name, _, _ := strings.Cut(host, ":")
				return strings.NewReplacer("HOST", name, "SLOT", strconv.Itoa(p.port)).Replace(c.arrives)
			}
			for _, v := range []struct{ host, origin, site string }{
				{own, own, ""}, {own, own, "same-origin"},
				{"apps.corp:8443", "apps.corp:8443", ""}, {"apps.corp:8443", "apps.corp:8443", "same-origin"},
				{"localhost:8888", "localhost:8888", ""}, {"localhost:8888", "localhost:8888", "same-origin"},
				{own, "evil.test", ""}, {own, "evil.test", "cross-site"}, {"apps.corp:8443", "apps.corp:8444", "same-site"},
			} {
				why := ""
				switch {
				case v.site == "same-origin" || v.origin == own:
				case v.site != "":
					why = "site"
				case v.origin != v.host || c.arrives != "":
					why = "origin"
				}
				for _, r := range p.asBrowsersAsk(t, tokenOf(tun), v.host, "http://"+v.origin, v.site) {
					names := "a page of http://" + v.origin + ", and the web server in front of the app says that it was sent to " + cmp.Or(arrives(v.host), v.host) + "."
					if got := r.Header.Get(gate.Why); got != why || (r.StatusCode == http.StatusForbidden) != (why != "") || strings.Contains(r.said, names) != (why == "origin") {
						t.Errorf("%+v: %s %s: %s, %q: %s", v, r.Request.Method, r.Request.URL.Path, r.Status, got, r.said)
					}
				}
			}
			row := rowOf(t, tun, "visitor")
			if told := strings.Contains(row.Seen, "ask for "+arrives(own)+", not "+own); !row.OK || row.Warn != (c.arrives != "") || told != row.Warn || strings.Contains(row.Hint.String(), "$http_host") != row.Warn {
				t.Errorf("%+v", row)
			}
			outcome := compat.Taken
			if row.Warn {
				outcome += ": where the browser says that the page is the app's own (https, localhost); otherwise a page names both addresses; expose() warns"
			}
			if warned := tun.Status().Warning; (warned != nil) != row.Warn || row.Warn && !strings.HasSuffix(row.Seen, warned.Err.Error()) {
				t.Errorf("expose() warns: %v", warned)
			}
			compat.Row(t, "servers", c.name+", opened by another name and port than the URL has", outcome)
		})
	}
}

// taking is an app that takes what it is sent, and websockets.
func taking(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		return
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusSwitchingProtocols)
}

// answered is an answer, and what it says.
type answered struct {
	*http.Response
	said string
}

// asBrowsersAsk sends what a page of the app's does, once it is opened at an address: the link's token, and then, with that, a form and a
// websocket.
func (c *chain) asBrowsersAsk(t *testing.T, token, host, origin, site string) (all []answered) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, ask := range [][2]string{{http.MethodPost, gate.Path}, {http.MethodPost, "/form"}, {http.MethodGet, "/socket"}} {
		req, err := http.NewRequest(ask[0], strings.TrimSuffix(c.url, "/")+ask[1], strings.NewReader("token="+token))
		must(t, err)
		req.Host = host
		req.Header = http.Header{"Origin": {origin}, "Content-Type": {"application/x-www-form-urlencoded"}}
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		if ask[1] != gate.Path {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		if ask[0] == http.MethodGet {
			req.Body, req.ContentLength = nil, 0
			req.Header["Connection"], req.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
			req.Header["Sec-Websocket-Key"], req.Header["Sec-Websocket-Version"] = []string{"dGhlIHNhbXBsZSBub25jZQ=="}, []string{"13"}
		}
		resp, err := client.Do(req)
		must(t, err)
		said := ""
		if resp.StatusCode != http.StatusSwitchingProtocols {
			text, err := io.ReadAll(resp.Body)
			must(t, err)
			said = string(text)
		}
		_ = resp.Body.Close()
		all = append(all, answered{resp, said})
	}
	return all
}

// The README's Go, and the calls that it names after it, are a program.
func TestTheREADMEsGo(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "## From Go\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := regexp.MustCompile("(?s)```go\n(import .*?)\n\n(.*?)```(.*)").FindStringSubmatch(section)
	if found == nil {
		t.Fatal("the README has no such block")
	}
	program := "package main\nimport (\"context\"; \"net/http\")\n" + found[1] + "\nvar handler http.Handler\nfunc main() {\nctx := context.Background()\n" + found[2] + "if err != nil { return }\n"
	for _, call := range regexp.MustCompile("`((?:defer |[a-z]+\\.)[^`]*\\))`").FindAllStringSubmatch(found[3], -1) {
		program += call[1] + "\n"
	}
	root, err := filepath.Abs("../..")
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program+"}\n"), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "examples/listen/main.go"): filepath.Join(dir, "main.go")}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600))
	vet := exec.Command("go", "vet", "-overlay", filepath.Join(dir, "overlay"), "./examples/listen") // in its place
	vet.Dir = root
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, program)
	}
}

// What docs/known-faults.md has admins change in the page's nginx has it keep its connections.
func TestTheDocumentsNginxKeepsConnections(t *testing.T) {
	leak.Check(t)
	page, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	faults, err := os.ReadFile("../../docs/known-faults.md")
	must(t, err)
	told := regexp.MustCompile("(?m)^    (upstream .*)\n\nThen write `(proxy_pass .*?)`, and in the map `(.*?)` in place of `(.*?)`").FindStringSubmatch(string(faults))
	if told == nil {
		t.Fatal("docs/known-faults.md has no such lines")
	}
	site := strings.NewReplacer("server {\n    listen 80;", told[1]+"\nserver {\n    listen 80;", "proxy_pass http://127.0.0.1:8080;", told[2])
	closes := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(told[4]), " ", " +"))
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{})}
	c.port = c.FreePort()
	c.serveSite(t, closes.ReplaceAllString(site.Replace(string(page)), told[3]), c.FreePort())
	var connections atomic.Int32
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	backend.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	backend.Start()
	t.Cleanup(backend.Close)
	open(t, c.config(backend.Listener.Addr().String()))
	before := connections.Load()
	for range 5 {
		wantBody(t, c.url, "hello")
	}
	if made := connections.Load() - before; made != 1 {
		t.Errorf("5 requests came over %d connections", made)
	}
}
