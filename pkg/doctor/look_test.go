// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// site is nginx as docs/proxy.md has it: the port that it listens on, how, and the one that it hands to.
const site = `map $http_upgrade $connection_upgrade { default upgrade; '' close; }
server {
	listen 127.0.0.1:%d;
	location / {
		proxy_pass http://127.0.0.1:%d;
		proxy_http_version 1.1;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection $connection_upgrade;
		proxy_set_header Host $http_host;
		proxy_request_buffering off;
		proxy_buffering off;
		client_max_body_size 0;
	}
}`

// setup is one, in which something may be broken.
type setup struct {
	sshd   sshdtest.Options
	nginx  []string // texts of the site, each with what is in its place
	away   bool     // there is no nginx
	app    http.HandlerFunc
	change func(t *testing.T, c *tunnel.Config)
	late   func(t *testing.T, c tunnel.Config) // when all of it runs
}

// look has the doctor look at it.
func (s setup) look(t *testing.T) []probe.Checked {
	t.Helper()
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	server := sshdtest.Start(t, s.sshd)
	slot, web := server.FreePort(), server.FreePort()
	if s.app == nil {
		s.app = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "app") }
	}
	app := httptest.NewServer(s.app)
	t.Cleanup(app.Close)
	cfg := tunnel.Config{Server: tunnel.Servers{server.User + "@" + server.Addr()}, Key: server.KeyFile, HostKey: server.Fingerprint(), SSHConfig: "none", Agent: "none",
		Remote: slot, URL: fmt.Sprintf("http://127.0.0.1:%d/", web), Target: app.Listener.Addr().String()}
	if !s.away {
		nginxtest.Start(t, strings.NewReplacer(s.nginx...).Replace(fmt.Sprintf(site, web, slot)), web)
	}
	if s.change != nil {
		s.change(t, &cfg)
	}
	if s.late != nil {
		s.late(t, cfg)
	}
	return doctor.Look(within(t, time.Minute), cfg, map[string]string{"server": "--server", "key": "TAIPY_TUNNEL_KEY"})
}

// first is the culprit, and what is said of it: the first row that fails, or else that warns.
func first(rows []probe.Checked) probe.Checked {
	for _, row := range rows {
		if !row.OK && !row.Skipped {
			return row
		}
	}
	for _, row := range rows {
		if row.Warn {
			return row
		}
	}
	return probe.Checked{OK: true}
}

func table(rows []probe.Checked) string {
	var lines []string
	for _, row := range rows {
		lines = append(lines, fmt.Sprintf("%-5v %-5v %-14s %s -> %s", row.OK, row.Warn, row.Step, row.Seen, row.Hint))
	}
	return strings.Join(lines, "\n")
}

// A chain in which all is well has no row that says otherwise, and nothing is left of the look: a tunnel takes the port.
func TestAllIsWell(t *testing.T) {
	var cfg tunnel.Config
	rows := setup{late: func(_ *testing.T, c tunnel.Config) { cfg = c }}.look(t)
	want := "settings app name connection ssh host key login slot url page websocket uploads buffering clock"
	if got := strings.Join(steps(rows), " "); got != want {
		t.Errorf("steps %q", got)
	}
	for _, row := range rows {
		if !row.OK || row.Warn || row.Skipped || row.Hint != "" || row.Seen == "" {
			t.Errorf("%+v", row)
		}
	}
	if said := rows[0].Seen; !strings.Contains(said, "(--server)") || !strings.Contains(said, "key (TAIPY_TUNNEL_KEY)") || strings.Contains(said, cfg.Key) {
		t.Errorf("settings: %s", said)
	}
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	must(t, err)
	defer func() { _ = tun.Close() }()
	for _, row := range doctor.Look(within(t, time.Minute), cfg, nil) { // beside an open tunnel
		if !row.OK && !row.Skipped || row.Warn {
			t.Errorf("beside a tunnel: %+v", row)
		}
	}
	if s := tun.Status(); s.State != tunnel.Up || s.Reconnects != 0 {
		t.Errorf("the tunnel is %+v", s)
	}
}

// TestTheCulpritComesFirst: of each set-up that is broken the first row that fails is what is broken, and says what to do.
func TestTheCulpritComesFirst(t *testing.T) {
	server := func(address string) func(*testing.T, *tunnel.Config) {
		return func(_ *testing.T, c *tunnel.Config) { c.Server = tunnel.Servers{address} }
	}
	for name, c := range map[string]struct {
		setup
		step, seen, hint string
		warns            bool
	}{
		"no user":                      {setup: setup{change: server("127.0.0.1")}, step: "settings", seen: "user", hint: "Config.Server"},
		"a key that is not there":      {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Key = "/nowhere/key" }}, step: "settings", seen: "/nowhere/key"},
		"a host key that is none":      {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.HostKey = "SHA256:x" }}, step: "settings", seen: "host_key"},
		"a link that ended":            {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Expires = time.Now().Add(-time.Hour) }}, step: "settings", seen: "past", hint: "future"},
		"a name that does not resolve": {setup: setup{change: server("me@no-such-host.invalid")}, step: "name", seen: "does not resolve", hint: "spelling"},
		"nothing listens":              {setup: setup{change: server(fmt.Sprintf("me@127.0.0.1:%d", sshdtest.FreePort()))}, step: "connection", seen: "refused"},
		"a web server in place of sshd": {setup: setup{change: func(t *testing.T, c *tunnel.Config) {
			web := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(web.Close)
			c.Server = tunnel.Servers{"me@" + web.Listener.Addr().String()}
		}}, step: "ssh", seen: "not an SSH server"},
		"TLS in place of SSH": {setup: setup{change: func(t *testing.T, c *tunnel.Config) {
			web := httptest.NewUnstartedServer(http.NotFoundHandler())
			web.Config.ErrorLog = log.New(io.Discard, "", 0)
			web.StartTLS()
			t.Cleanup(web.Close)
			c.Server = tunnel.Servers{"me@" + web.Listener.Addr().String()}
		}}, step: "ssh", hint: "tls://"},
		"a jump that refuses": {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Jump = fmt.Sprintf("me@127.0.0.1:%d", sshdtest.FreePort()) }}, step: "way", seen: "on the way"},
		"an egress proxy that is away": {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Via = fmt.Sprintf("http://127.0.0.1:%d", sshdtest.FreePort()) }},
			step: "way", seen: "refused"},
		"another host key":                     {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.HostKey = "SHA256:" + strings.Repeat("A", 43) }}, step: "host key", seen: "SHA256:"},
		"a key that the account does not have": {setup: setup{change: func(t *testing.T, c *tunnel.Config) { c.Key = sshdtest.NewKey(t, "ed25519") }}, step: "login", seen: "refused"},
		"an account that may not log in":       {setup: setup{sshd: sshdtest.Options{Config: []string{"AllowUsers somebody"}}}, step: "login", seen: "refused"},
		"no forwarding":                        {setup: setup{sshd: sshdtest.Options{Config: []string{"AllowTcpForwarding no"}}}, step: "slot", hint: "AllowTcpForwarding"},
		"another port is permitted":            {setup: setup{sshd: sshdtest.Options{Config: []string{"PermitListen 1"}}}, step: "slot", hint: "PermitListen"},
		"a port of another program": {setup: setup{late: func(t *testing.T, c tunnel.Config) { occupy(t, c.Remote, http.NotFoundHandler()) }},
			step: "slot", seen: "another program", hint: "Config.Remote"},
		"a port of something silent": {setup: setup{late: func(t *testing.T, c tunnel.Config) { occupy(t, c.Remote, nil) }}, step: "slot", seen: "does not answer"},
		"a port of another program, which cannot be asked": {setup: setup{sshd: sshdtest.Options{Config: []string{"PermitOpen none"}}, late: func(t *testing.T, c tunnel.Config) { occupy(t, c.Remote, http.NotFoundHandler()) }},
			step: "slot", seen: "in use"},
		"a key that an agent should have":                    {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Key = "" }}, step: "settings", seen: "no private key"},
		"an upload that is refused":                          {setup: setup{nginx: []string{"location / {", "location / { if ($request_method = POST) { return 405; }"}}, step: "uploads", seen: "405", warns: true},
		"a certificate that is not trusted, past a redirect": {setup: setup{away: true, late: redirected}, step: "url", seen: "certificate", warns: true},
		"a slow app":                {setup: setup{app: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, step: "page", seen: "takes longer", warns: true},
		"a name on a plain proxy":   {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Remote, c.Name = 0, "sales" }}, step: "slot", seen: "prepared proxy", hint: "Config.Name"},
		"networks on a plain proxy": {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Allow = []string{"10.0.0.0/8"} }}, step: "settings", seen: "allow"},
		"no nginx":                  {setup: setup{away: true}, step: "url", seen: "cannot be opened", hint: "nginx"},
		"nginx hands to another port": {setup: setup{nginx: []string{"proxy_pass http://127.0.0.1:", "proxy_pass http://127.0.0.2:"}}, step: "url", seen: "502",
			hint: "proxy_pass http://127.0.0.1:"},
		"nginx's own page":           {setup: setup{nginx: []string{"location / {", "location / { return 200 welcome;"}}, step: "url", seen: "200", hint: "proxy_pass"},
		"files with a dot are kept":  {setup: setup{nginx: []string{"location / {", "location ~ /\\. { return 404; } location / {"}}, step: "url", seen: "404", hint: ".well-known"},
		"a page that is elsewhere":   {setup: setup{nginx: []string{"location / {", "location = / { return 200 welcome; } location / {"}}, step: "page", seen: "200", hint: "page"},
		"https where nginx has http": {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.URL = strings.Replace(c.URL, "http:", "https:", 1) }}, step: "url", seen: "plain HTTP", hint: "http://"},
		"a login before it":          {setup: setup{nginx: []string{"location / {", "location / { auth_basic x; auth_basic_user_file /dev/null;"}}, step: "url", seen: "401", warns: true},
		"no lines for websockets":    {setup: setup{nginx: []string{"proxy_set_header Upgrade $http_upgrade;", ""}}, step: "websocket", hint: "Upgrade $http_upgrade"},
		"HTTP 1.0":                   {setup: setup{nginx: []string{"proxy_http_version 1.1;", ""}}, step: "websocket", hint: "proxy_http_version 1.1"},
		"nginx's own limit":          {setup: setup{nginx: []string{"client_max_body_size 0;", ""}}, step: "uploads", seen: "2 MiB", hint: "client_max_body_size 0"},
		"a limit of 200 MB":          {setup: setup{nginx: []string{"client_max_body_size 0;", "client_max_body_size 200m;"}}, step: "uploads", seen: "100 MiB, and refuses", warns: true},
		"answers are buffered":       {setup: setup{nginx: []string{"proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_min_length 0; gzip_proxied any; gzip_types *;"}}, step: "buffering", hint: "proxy_buffering off", warns: true},
		"an app that is away":        {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Target = fmt.Sprintf("127.0.0.1:%d", sshdtest.FreePort()) }}, step: "app", seen: "refused"},
		"an app that fails":          {setup: setup{app: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }}, step: "page", seen: "500", hint: "the app itself"},
		"an app that refuses the host": {setup: setup{app: func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.Host, "localhost") {
				w.WriteHeader(http.StatusBadRequest)
			}
		}}, step: "page", seen: "400", hint: "ALLOWED_HOSTS", warns: true},
		"no app is named": {setup: setup{change: func(_ *testing.T, c *tunnel.Config) { c.Target = "" }}, step: "app", hint: "Config.Target", warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			rows := c.look(t)
			got := first(rows)
			if got.Step != c.step || got.Warn != c.warns || !strings.Contains(got.Seen, c.seen) || !strings.Contains(got.Hint.String(), c.hint) {
				t.Errorf("the culprit is %+v in\n%s", got, table(rows))
			}
			for _, row := range rows {
				if row.Skipped && !strings.HasPrefix(row.Seen, "skipped: ") {
					t.Errorf("%+v", row)
				}
			}
		})
	}
}

// redirected is a site that leads from http to https, with a certificate of its own.
func redirected(t *testing.T, c tunnel.Config) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	u, err := url.Parse(c.URL)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	occupy(t, port, http.RedirectHandler(secure.URL+"/", http.StatusFound))
}

// occupy has a port of this machine be another program's, which answers if it can.
func occupy(t *testing.T, port int, answer http.Handler) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	must(t, err)
	if answer == nil {
		t.Cleanup(func() { _ = l.Close() })
		return
	}
	s := httptest.NewUnstartedServer(answer)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// What carries bytes of any kind is not asked in HTTP.
func TestRawIsNotAsked(t *testing.T) {
	rows := setup{change: func(_ *testing.T, c *tunnel.Config) { c.Raw, c.Access.Public = true, true }}.look(t)
	for _, row := range rows {
		if skips := slices.Contains([]string{"url", "page", "websocket", "uploads", "buffering"}, row.Step); row.Skipped != skips || !skips && (!row.OK || row.Warn) {
			t.Errorf("%+v", row)
		}
	}
}

// A prepared proxy is looked at as Machine does, for the one app.
func TestAPreparedProxy(t *testing.T) {
	p := newChecked(t)
	p.EndStale()
	way := p.way()
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	cfg := tunnel.Config{Server: tunnel.Servers{way.Server}, Key: way.Key, HostKey: way.HostKey, SSHConfig: "none", Target: app.Listener.Addr().String()}
	rows := doctor.Look(within(t, time.Minute), cfg, nil)
	want := "settings app name connection ssh host key login description commands ports addresses files sockets slots nginx stale links url"
	if got := strings.Join(steps(rows), " "); got != want || first(rows).Step != "" {
		t.Errorf("%q\n%s", got, table(rows))
	}
	cfg.Name = "nobody"
	if row := first(doctor.Look(within(t, time.Minute), cfg, nil)); row.Step != "description" || !strings.Contains(row.Seen, "nobody") {
		t.Errorf("%+v", row)
	}
	cfg.Name = "sales"
	p.Nginx.Stop()
	if row := first(doctor.Look(within(t, time.Minute), cfg, nil)); row.Step != "nginx" {
		t.Errorf("%+v", row)
	}
	must(t, os.RemoveAll(filepath.Join(p.Slots())))
	if row := first(doctor.Look(within(t, time.Minute), cfg, nil)); row.Step != "slots" {
		t.Errorf("%+v", row)
	}
}
