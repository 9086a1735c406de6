// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// guardedBy is a plain proxy whose nginx has lines of its own before the tunnel.
func guardedBy(t *testing.T, lines string) (*chain, tunnel.Config) {
	t.Helper()
	return ledBy(t, lines+" location / { proxy_pass http://127.0.0.1:%d; }")
}

// ledBy is a plain proxy whose nginx has these lines; %d in them is the tunnel's port.
func ledBy(t *testing.T, lines string) (*chain, tunnel.Config) {
	t.Helper()
	leak.Check(t)
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{})}
	c.port = c.FreePort()
	port := c.FreePort()
	c.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	c.nginx = nginxtest.Start(t, fmt.Sprintf("server { listen 127.0.0.1:%d; listen 127.0.0.2:%[1]d; %s }", port, strings.ReplaceAll(lines, "%d", strconv.Itoa(c.port))), port)
	return c, c.config(app(t, "hello"))
}

// What stands before the tunnel and lets visitors in, but not the check, does not keep expose() from opening: the status
// says what was seen.
func TestCheckThatCannotBeMade(t *testing.T) {
	for _, c := range []struct {
		name, lines, unchecked string
	}{
		{"a firewall that lets browsers pass alone", `if ($http_user_agent !~ Mozilla) { return 406; }`, `"406 Not Acceptable"`},
		{"a rule for addresses", `deny all;`, `"403 Forbidden"`},
		{"a password of nginx", `auth_basic "x"; auth_basic_user_file /dev/null;`, `"401 Unauthorized, for user and password"`},
		{"a login page of that host", `error_page 403 = @login; location = /login { default_type text/html; return 200 "<input type=password>"; } location @login { return 302 /login; } location = /.well-known/taipy-tunnel { deny all; }`, `a page that asks for a password`},
		{"a login elsewhere", `return 302 https://login.invalid/authorize?state=secret;`, `"302 Found, to login.invalid"`},
		{"a server that knows no such host", `return 421;`, `"421 Misdirected Request"`},
		{"a limit of requests", `return 429;`, `"429 Too Many Requests"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, cfg := guardedBy(t, c.lines)
			tun := open(t, cfg)
			s := tun.Status()
			if s.State != tunnel.Up || s.Checked != "" || !strings.Contains(s.Unchecked, c.unchecked) || strings.Contains(s.Unchecked, "secret") {
				t.Errorf("%s, checked %q, unchecked %q", s.State, s.Checked, s.Unchecked)
			}
			if row := rowOf(t, tun, "url"); !row.OK || !row.Warn || !strings.Contains(row.Seen, "could not be checked") {
				t.Errorf("%+v", row)
			}
			compat.Row(t, "servers", c.name+", before the tunnel in nginx", compat.Taken+": the URL could not be checked: "+s.Unchecked)
		})
	}
}

// nginx that wants a certificate of its visitors is something that stands before the tunnel, too. What its own certificate is trusted by is read
// once in a process, so another one looks.
func TestClientCertificatesBeforeTheTunnel(t *testing.T) {
	const where = "CLIENT_CERTIFICATES_IN"
	dir := os.Getenv(where)
	if dir == "" {
		dir = t.TempDir()
		ca := sshdtest.NewAuthority(t)
		cert := ca.Issue("127.0.0.1", 2*time.Hour)
		for name, text := range map[string]string{"ca": ca.PEM, "cert": cert.Chain, "key": cert.Key} {
			write(t, filepath.Join(dir, name), text)
		}
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), where+"="+dir, "SSL_CERT_FILE="+filepath.Join(dir, "ca"))
		if said, err := again.CombinedOutput(); err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, said)
		}
		return
	}
	c, cfg := guardedBy(t, "")
	port := c.FreePort()
	nginxtest.Start(t, fmt.Sprintf(`server { listen 127.0.0.1:%d ssl; ssl_certificate %[2]s/cert; ssl_certificate_key %[2]s/key;
		ssl_client_certificate %[2]s/ca; ssl_verify_client on; location / { proxy_pass http://127.0.0.1:%[3]d; } }`, port, dir, c.port), port)
	cfg.URL = fmt.Sprintf("https://127.0.0.1:%d/", port)
	if s := open(t, cfg).Status(); s.State != tunnel.Up || s.Checked != "" || !strings.Contains(s.Unchecked, `"400 Bad Request, it wants a client certificate"`) {
		t.Errorf("%s, checked %q, unchecked %q", s.State, s.Checked, s.Unchecked)
	}
}

// What nginx answers every visitor in the tunnel's place is no rule that stops the check alone: expose() fails, and says what was seen.
func TestAnswersInTheTunnelsPlace(t *testing.T) {
	for _, c := range []struct{ name, lines, says string }{
		{"nginx's own 404", `location / { return 404; }`, "404 Not Found"},
		{"a 500", `location / { return 500; }`, "500 Internal Server Error"},
		{"nginx's own page", `location / { return 200 "Welcome to nginx!"; }`, "200 OK"},
		{"a port on which nobody listens", fmt.Sprintf(`location / { proxy_pass http://127.0.0.1:%d; }`, sshdtest.FreePort()), "502 Bad Gateway"},
		{"a path that is served by something else", `location /.well-known/ { return 404; } location / { proxy_pass http://127.0.0.1:%d; }`, "404 Not Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, cfg := ledBy(t, c.lines)
			tun, err := tunnel.Expose(within(t, 2*time.Second), cfg)
			if err == nil {
				s := tun.Status()
				_ = tun.Close()
				t.Fatalf("%s, unchecked %q", s.State, s.Unchecked)
			}
			if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrForward) || !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Hint.String(), "nginx") {
				t.Errorf("%v, hint %s; want %q", e, e.Hint, c.says)
			}
			compat.Row(t, "servers", c.name+" in the tunnel's place", compat.Outcome(err))
		})
	}
}

// A login of nginx's by password and passwords of the tunnel are sent in one header, so nobody gets past both: that is said, and not of
// another login.
func TestPasswordsBehindALogin(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		clash       bool
	}{
		{"a password of nginx", `auth_basic "x"; auth_basic_user_file /dev/null;`, true},
		{"a password of nginx, which lets the check pass", `auth_basic "x"; auth_basic_user_file /dev/null; location = /.well-known/taipy-tunnel { auth_basic off; proxy_pass http://127.0.0.1:%d; }`, true},
		{"a login by a cookie (auth_request)", `location = /auth { internal; return 401; } auth_request /auth;`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, cfg := guardedBy(t, c.lines)
			cfg.Raw, cfg.Access = false, tunnel.Access{Passwords: map[string]string{"me": "correct horse"}}
			tun := open(t, cfg)
			s, outcome := tun.Status(), compat.Taken
			said := s.Unchecked
			if s.Checked != "" && s.Warning != nil {
				said, outcome = s.Warning.Error(), outcome+": with a warning, "+s.Warning.Error()
			} else {
				outcome += ": the URL could not be checked: " + s.Unchecked
			}
			if (s.Checked == "") != strings.Contains(s.Unchecked, "401 Unauthorized") || strings.Contains(said, "both sent as Authorization") != c.clash {
				t.Errorf("checked %q, unchecked %q, warning %v", s.Checked, s.Unchecked, s.Warning)
			}
			if row := rowOf(t, tun, "visitor"); row.Warn != (c.clash && s.Checked != "") {
				t.Errorf("%+v", row)
			}
			compat.Row(t, "servers", c.name+", before the tunnel, which has passwords too", outcome)
			cfg.Access = tunnel.Access{}
			if _, _, err := tun.Admit(cfg); err != nil {
				t.Fatal(err)
			}
			if s := tun.Status(); s.Warning != nil && strings.Contains(s.Warning.Error(), "both sent") {
				t.Errorf("without passwords it warns: %v", s.Warning)
			}
		})
	}
}

// nginx that leads the check here, and the page elsewhere: the card and the doctor say so.
func TestThePageIsElsewhere(t *testing.T) {
	for name, line := range map[string]string{"a port where nothing listens": fmt.Sprintf("proxy_pass http://127.0.0.1:%d;", sshdtest.FreePort()), "a page that is not there": "return 404;"} {
		t.Run(name, func(t *testing.T) {
			c, cfg := ledBy(t, "location = /.well-known/taipy-tunnel { proxy_pass http://127.0.0.1:%d; } location / { "+line+" }")
			cfg.Raw, cfg.Access = false, tunnel.Access{}
			tun := open(t, cfg)
			s, want := tun.Status(), fmt.Sprintf("proxy_pass http://127.0.0.1:%d", c.port)
			if s.State != tunnel.Up || s.Warning == nil || !strings.Contains(s.Warning.Error(), "not from this tunnel") || !strings.Contains(s.Warning.Hint.String(), want) {
				t.Errorf("%s, warning %v", s.State, s.Warning)
			}
			if row := rowOf(t, tun, "visitor"); row.OK || !strings.Contains(row.Hint.String(), want) {
				t.Errorf("%+v", row)
			}
			compat.Row(t, "servers", "nginx that leads the check to the tunnel, and the page to "+name, compat.Taken+": with a warning, "+s.Warning.Error())
		})
	}
}

// A certificate that is not trusted here is named, and past it a URL that leads elsewhere is distinguished from one that leads here.
func TestACertificateThatIsNotTrusted(t *testing.T) {
	cert := sshdtest.NewAuthority(t).Issue("127.0.0.1", 2*time.Hour)
	for name, leads := range map[string]bool{"here": true, "elsewhere": false} {
		for _, redirected := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, redirected %v", name, redirected), func(t *testing.T) {
				c, cfg := guardedBy(t, "")
				port, dir, to := c.FreePort(), t.TempDir(), c.port
				write(t, filepath.Join(dir, "cert"), cert.Chain)
				write(t, filepath.Join(dir, "key"), cert.Key)
				if !leads {
					to = sshdtest.FreePort()
				}
				cfg.URL = fmt.Sprintf("https://127.0.0.1:%d/", port)
				front := fmt.Sprintf("server { listen 127.0.0.1:%d ssl; ssl_certificate %s/cert; ssl_certificate_key %[2]s/key; location / { proxy_pass http://127.0.0.1:%d; } }", port, dir, to)
				if redirected {
					clear := c.FreePort()
					front += fmt.Sprintf("server { listen 127.0.0.1:%d; return 301 https://127.0.0.1:%d$request_uri; }", clear, port)
					cfg.URL = fmt.Sprintf("http://127.0.0.1:%d/", clear)
				}
				nginxtest.Start(t, front, port)
				tun := open(t, cfg)
				s, past := tun.Status(), "past its certificate it leads here"
				if !leads {
					past = `past its certificate it answers "502 Bad Gateway", but not from this tunnel`
				}
				if row := rowOf(t, tun, "url"); row.OK != leads || !strings.Contains(row.Seen, past) {
					t.Errorf("%+v", row)
				}
				if !strings.Contains(s.Unchecked, past) || !strings.Contains(s.Unchecked, "its certificate is not trusted here") || strings.Contains(s.Unchecked, "it redirects to https://") != redirected {
					t.Errorf("unchecked %q", s.Unchecked)
				}
				compat.Row(t, "servers", fmt.Sprintf("a certificate of nginx's that is not trusted here, redirected %v, and leads %s", redirected, name), compat.Taken+": the URL could not be checked: "+s.Unchecked)
			})
		}
	}
}

// Rules that let the proxy itself pass are no obstacle: it asks. Where the address leads visitors was not seen.
func TestRulesThatLetTheProxyPass(t *testing.T) {
	rule := filepath.Join(t.TempDir(), "rule")
	if err := os.WriteFile(rule, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, cfg := guardedBy(t, `set $from ""; if (-f `+rule+`) { set $from $server_addr; } if ($from = 127.0.0.2) { return 403; }`)
	cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", "127.0.0.2", 1)
	var log proxytest.Log
	cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
	tun := open(t, cfg)
	if s := tun.Status(); s.Checked != "link" || !strings.Contains(s.Unchecked, `"403 Forbidden", as a login`) {
		t.Errorf("checked %q, unchecked %q", s.Checked, s.Unchecked)
	}
	if said := log.String(); !strings.Contains(said, "the proxy's own web server leads here") || strings.Contains(said, "the URL leads here") {
		t.Errorf("says more than was seen: %s", said)
	}
	if err := os.Remove(rule); err != nil {
		t.Fatal(err)
	}
	tun.Doctor(t.Context())
	if s := tun.Status(); s.Checked != "url" || s.Unchecked != "" {
		t.Errorf("without the rule: checked %q, unchecked %q", s.Checked, s.Unchecked)
	}
	compat.Row(t, "servers", "a rule for addresses that lets the proxy itself pass, before the tunnel in nginx", compat.Taken)
}

// The owner decides who asks; only "off" lets an address pass that answers but leads elsewhere.
func TestOwnerDecidesWhoChecks(t *testing.T) {
	elsewhere := "http://" + serve(t, func(w http.ResponseWriter, _ *http.Request) {}) + "/"
	for _, c := range []struct {
		name    string
		check   tunnel.Check
		url     string // "": the proxy's own; without a scheme: the name of its host
		checked string
		untold  string
		refuses error
	}{
		{"as ever", "", "", "url", "", nil},
		{"this machine", tunnel.CheckURL, "", "url", "", nil},
		{"this machine, which is led elsewhere", tunnel.CheckURL, elsewhere, "", "", tunnel.ErrForward},
		{"this machine, which does not know the name", tunnel.CheckURL, "nosuchname.invalid", "", "it cannot be opened", nil},
		{"the proxy", tunnel.CheckLink, "", "link", "", nil},
		{"the proxy, for a name that this machine does not know", tunnel.CheckLink, "nosuchname.invalid", "link", "", nil},
		{"nobody", tunnel.CheckOff, elsewhere, "", "check is off", nil},
		{"a misspelt one", "none", "", "", "", tunnel.ErrConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, cfg := guardedBy(t, "")
			switch cfg.Check = c.check; c.url {
			case "":
			case "nosuchname.invalid":
				cfg.URL = strings.Replace(cfg.URL, "127.0.0.1", c.url, 1)
			default:
				cfg.URL = c.url
			}
			tun, err := tunnel.Expose(within(t, 3*time.Second), cfg)
			if !errors.Is(err, c.refuses) {
				t.Fatalf("%v, want %v", err, c.refuses)
			}
			if c.check != "" && c.refuses != tunnel.ErrConfig {
				defer func() {
					compat.Row(t, "servers", fmt.Sprintf("check=%q, so that the URL is asked by %s", c.check, c.name), compat.Outcome(err))
				}()
			}
			if err != nil {
				return
			}
			defer func() { _ = tun.Close() }()
			if s := tun.Status(); s.Checked != c.checked || !strings.Contains(s.Unchecked, c.untold) || (c.untold == "") != (s.Unchecked == "") {
				t.Errorf("checked %q, unchecked %q", s.Checked, s.Unchecked)
			}
		})
	}
}

// With check off the loop check goes on where the proxy's own nginx was seen to lead here: it tells that nginx went away.
func TestLoopCheckGoesOnWithCheckOff(t *testing.T) {
	c, cfg := guardedBy(t, "")
	cfg.Check = tunnel.CheckOff
	tun := open(t, cfg)
	await(t, tun, "what the proxy sees", func(s tunnel.Status) bool { return s.Checked == "link" && s.Unchecked != "" })
	c.nginx.Stop()
	await(t, tun, "that visitors are elsewhere", inState(tunnel.Reconnecting))
}

// Below a path the link leads to the page that visitors asked for, whatever of the path nginx strips, and whatever the tunnel asks past
// nginx meanwhile.
func TestThePathOfAnAddress(t *testing.T) {
	const whole, strips = "location / { proxy_pass http://127.0.0.1:%d; }", "location /sales/ { proxy_pass http://127.0.0.1:%d/; }"
	for path, lines := range map[string]string{"home": whole, "sales/": strips, "sales/home/": strips, "sales": strings.Replace(strips, "/ {", " {", 1)} {
		for _, check := range []tunnel.Check{"", tunnel.CheckOff} {
			t.Run(path+" "+string(check), func(t *testing.T) {
				c, cfg := ledBy(t, lines)
				cfg.Raw, cfg.Access, cfg.URL, cfg.Check = false, tunnel.Access{}, c.url+path, check
				tun := open(t, cfg)
				page := strings.TrimSuffix("/"+path, "/") + "/page"
				jar, err := cookiejar.New(nil)
				must(t, err)
				client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}, Jar: jar}
				ask := func(req *http.Request, err error) *http.Response {
					t.Helper()
					must(t, err)
					resp, err := client.Do(req)
					must(t, err)
					_ = resp.Body.Close()
					return resp
				}
				c.answersAtItsPort(t, 0)
				resp := ask(http.NewRequest(http.MethodGet, strings.TrimSuffix(c.url, "/")+page+"?token="+tokenOf(tun), nil))
				if to := resp.Header.Get("Location"); to != page {
					t.Fatalf("%s: %s to %q, want %q", lines, resp.Status, to, page)
				}
				client.Jar, err = cookiejar.New(nil)
				must(t, err)
				ask(http.NewRequest(http.MethodPost, strings.TrimSuffix(cfg.URL, "/")+gate.Path, strings.NewReader("token="+tokenOf(tun))))
				for _, at := range []string{cfg.URL, strings.TrimSuffix(c.url, "/") + page} {
					if resp := ask(http.NewRequest(http.MethodGet, at, nil)); resp.StatusCode != http.StatusOK {
						t.Errorf("%s: who has handed the token over gets %s at %s", lines, resp.Status, at)
					}
				}
			})
		}
	}
}

// The address of another tunnel stays that one's: the hint does not have its reader lead it elsewhere.
func TestAddressOfAnotherTunnel(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	other := c.gated(t, nil)
	cfg := c.config(app(t, "hello"))
	cfg.Remote = c.FreePort()
	_, err := tunnel.Expose(within(t, 3*time.Second), cfg)
	e := tunnel.AsError(err)
	if !errors.Is(err, tunnel.ErrForward) || !strings.Contains(err.Error(), "leads to another tunnel, and not") || !strings.Contains(e.Hint.String(), fmt.Sprintf("http://127.0.0.1:%d", cfg.Remote)) || !strings.Contains(e.Hint.String(), "Config.URL") {
		t.Errorf("%v, hint %s", err, e.Hint)
	}
	if s := other.Status(); s.State != tunnel.Up {
		t.Errorf("the other one is %s", s.State)
	}
	compat.Row(t, "servers", "url= of another tunnel", compat.Outcome(err))
}
