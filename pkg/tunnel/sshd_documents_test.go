// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
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
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	open(t, cfg)
	wantBody(t, c.url, "hello")
	compat.Row(t, "accounts", "the options of docs/proxy.md before the key", compat.Taken)
	cfg.Remote = c.FreePort()
	if _, err = tunnel.Expose(within(t, 20*time.Second), cfg); !errors.Is(err, tunnel.ErrForward) {
		t.Errorf("another port than the line's: %v", err)
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
// that Docker maps, or a load balancer.
func TestTheDocumentsNginxByAnotherName(t *testing.T) {
	c := newPlain(t)
	tun := c.gated(t, nil)
	for _, host := range []string{"apps.corp:8443", "localhost:8888", strings.Split(c.url, "/")[2]} {
		req, err := http.NewRequest(http.MethodPost, c.url+".well-known/taipy-tunnel", strings.NewReader("token="+tokenOf(tun)))
		must(t, err)
		req.Host = host
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "http://"+host)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
	compat.Row(t, "servers", "nginx as docs/proxy.md has it, opened by another name and port than the URL has", compat.Taken)
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
