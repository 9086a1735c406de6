// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const slotsOfAnApp = 4

// prepared is a proxy machine that describes itself: an account that is shut in a directory of its
// own and may do nothing but take slots there, and nginx before them.
type prepared struct {
	chain
	root  string
	check int
	desc  proxyhost.Description
}

// newPrepared has one declared app, "sales".
func newPrepared(t testing.TB) *prepared {
	t.Helper()
	leak.Check(t)
	p := &prepared{root: fmt.Sprintf("/run/taipy-tunnel-test-%d-%d", os.Getpid(), time.Now().UnixNano())}
	p.Server = sshdtest.Start(t, sshdtest.Options{Tenant: true, Config: []string{
		"Subsystem sftp internal-sftp", "ForceCommand internal-sftp -R", "ChrootDirectory " + p.root, "MaxSessions 1",
		"StreamLocalBindUnlink yes", "PermitListen none"}})
	t.Cleanup(func() { _ = os.RemoveAll(p.root) })
	slots := filepath.Join(p.root, "slots")
	must(t, os.MkdirAll(slots, 0o755)) // sshd wants every part of the path but the last to be root's alone
	must(t, os.Chown(slots, p.TenantID(), 0))
	p.port, p.check = p.FreePort(), p.FreePort()
	p.url = fmt.Sprintf("http://127.0.0.1:%d/", p.port)
	p.desc = proxyhost.Description{Version: 1, Tenant: p.User, Check: fmt.Sprintf("127.0.0.1:%d", p.check)}
	p.declare(t, "sales", p.url)
	nginxtest.Start(t, p.nginx(), p.port, p.check)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// declare adds an app to the description.
func (p *prepared) declare(t testing.TB, name, url string) {
	t.Helper()
	app := proxyhost.App{Name: name, URL: url}
	for slot := range slotsOfAnApp {
		app.Slots = append(app.Slots, fmt.Sprintf("/slots/%s.%d.sock", name, slot))
	}
	p.desc.Apps = append(p.desc.Apps, app)
	p.describe(t)
}

func (p *prepared) describe(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(p.desc)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.root, "proxy.json"), text, 0o644))
}

func (p *prepared) nginx() string {
	var servers strings.Builder
	for slot := range slotsOfAnApp {
		for range 2 { // each twice: one that was found dead is tried once more
			fmt.Fprintf(&servers, "server unix:%s/slots/sales.%d.sock max_fails=0;\n", p.root, slot)
		}
	}
	location := `proxy_pass http://sales; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
		proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Prefix ""; proxy_set_header X-Taipy-Tunnel-Request $request_id;
		proxy_next_upstream error timeout non_idempotent; client_body_buffer_size 1m;`
	// Connections that nginx keeps lead to the tunnel that was there when they were made. Questions
	// whether another one is there now need new ones.
	fresh := "location = /.well-known/taipy-tunnel { " + strings.Replace(location, "http://sales", "http://fresh", 1) + " }"
	return fmt.Sprintf(`upstream sales { least_conn; keepalive 32; %[1]s } upstream fresh { %[1]s }
		server { listen 127.0.0.1:%[2]d; %[3]s location / { %[4]s } }
		server { listen 127.0.0.1:%[5]d; %[3]s location / { return 404; } }`,
		servers.String(), p.port, fresh, location, p.check)
}

// described leaves everything to the proxy's description; name is the app's, "" for the only one.
func (c *chain) described(name, target string) tunnel.Config {
	return tunnel.Config{Name: name, Server: tunnel.Servers{fmt.Sprintf("%s@%s", c.User, c.Addr())}, Key: c.KeyFile, HostKey: c.Fingerprint(),
		Target: target, Log: slog.New(slog.NewJSONHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func whole(s tunnel.Status) bool {
	return s.State == tunnel.Up && s.Links == 2 && s.Slots == slotsOfAnApp
}

// Who has a proxy that an older version has prepared is told what that costs, by the status, the log and the doctor alike.
func TestProxyThatAnOlderVersionHasPrepared(t *testing.T) {
	p := newPrepared(t)
	const twice, waits = "may run twice", "wait for a minute"
	for name, c := range map[string]struct {
		repeatWithin int
		endsStale    bool
		says         []string
	}{
		"neither":             {0, false, []string{twice, waits}},
		"it does not stamp":   {0, true, []string{twice}},
		"it ends no links":    {100, false, []string{waits}},
		"one of this version": {100, true, nil},
	} {
		p.desc.RepeatWithin, p.desc.EndsStale = c.repeatWithin, c.endsStale
		p.describe(t)
		var log proxytest.Log
		cfg := p.described("", app(t, "company data"))
		cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
		tun := open(t, cfg)
		s, row := tun.Status(), rowOf(t, tun, "link")
		if (s.Warning != nil) != (c.says != nil) || row.Warn != (c.says != nil) || !row.OK || s.State != tunnel.Up {
			t.Fatalf("%s: %v, %+v", name, s.Warning, row)
		}
		for _, words := range []string{twice, waits} {
			want := slices.Contains(c.says, words)
			if strings.Contains(row.Seen, words) != want || strings.Contains(log.String(), words) != want || want && !strings.Contains(s.Warning.Error(), words) {
				t.Errorf("%s: %v, %+v", name, s.Warning, row)
			}
		}
		if c.says != nil && (s.Warning.Hint != row.Hint || !strings.Contains(row.Hint.String(), "proxy setup")) {
			t.Errorf("%s: %+v", name, row)
		}
		_ = tun.Close()
	}
}

// Nothing but the account has to be given: name, slots and URL are the proxy's.
func TestPreparedProxyDescribesItself(t *testing.T) {
	p := newPrepared(t)
	tun := open(t, p.described("", app(t, "company data")))
	s := await(t, tun, "two links", whole)
	if s.Name != "sales" || s.URL != p.url || s.Checked != "url" || tun.Addr().String() != "/slots/sales.0.sock" {
		t.Errorf("%+v", s)
	}
	if without, with := p.status(t, ""), p.status(t, tokenOf(tun)); without != 403 || with != 200 {
		t.Errorf("without the token %d, with it %d", without, with)
	}
	if r := tun.Requests(10); len(r) == 0 || r[len(r)-1].Client != "127.0.0.1" {
		t.Errorf("the visitor's address: %+v", r)
	}
	token := tokenOf(tun)
	_ = tun.Close()
	if again := open(t, p.described("", app(t, "again"))); tokenOf(again) != token {
		t.Error("the link is another one after a restart")
	}
}

// ask sends one request and compares the answer.
func (p *prepared) ask(client *http.Client, token string, post bool, text string) error {
	method, body := http.MethodGet, io.Reader(nil)
	if post {
		method, body = http.MethodPost, strings.NewReader(text)
	} else {
		text = ""
	}
	req, err := http.NewRequest(method, p.url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(got) != text) {
		err = fmt.Errorf("%s %.80q", resp.Status, got)
	}
	return err
}

// The newest expose() of a name has it at once; the one before learns that and closes.
func TestPreparedProxyBelongsToTheNewest(t *testing.T) {
	p := newPrepared(t)
	older := open(t, p.described("", app(t, "old")))
	await(t, older, "two links", whole)
	cfg := p.described("", app(t, "new"))
	cfg.Token = "another-token-of-more-than-128-bits"
	newer := open(t, cfg)
	if got := p.status(t, tokenOf(newer)); got != http.StatusOK {
		t.Errorf("the newer one's visitors get %d", got)
	}
	replaced(t, older)
	await(t, newer, "two links", whole)
	for range 20 {
		if got := p.status(t, tokenOf(newer)); got != http.StatusOK {
			t.Fatalf("the newer one's visitors get %d", got)
		}
	}
}

// Names are chosen among those that there are; where the admin allows it, freely.
func TestNamesOfAPreparedProxy(t *testing.T) {
	p := newPrepared(t)
	p.declare(t, "hr", p.url)
	for name, want := range map[string]string{"": "there are several names: hr, sales", "nosuch": `there is no app "nosuch"; there is hr, sales`, "No": `name "No" is none`} {
		cfg := p.described("", "")
		cfg.Name = name
		_, err := tunnel.Expose(within(t, 20*time.Second), cfg)
		if !errors.Is(err, tunnel.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	cfg := p.described("", app(t, "sales"))
	cfg.Name, cfg.Allow = "sales", []string{"127.0.0.0/8"}
	tun := open(t, cfg)
	if got := p.status(t, tokenOf(tun)); got != http.StatusOK {
		t.Errorf("sales: %d", got)
	}
	_ = tun.Close()
	p.desc.Check = "" // this nginx knows no such name
	p.desc.SelfService = &proxyhost.SelfService{URL: p.url, Slots: []string{"/slots/{name}.0.sock", "/slots/{name}.1.sock"}}
	p.describe(t)
	cfg.Name, cfg.Allow = "mine", nil
	cfg.URL = fmt.Sprintf("http://nosuchname.invalid:%d/", p.FreePort())
	tun = open(t, cfg)
	s := await(t, tun, "two links", func(s tunnel.Status) bool { return s.Links == 2 && s.Slots == 2 })
	if s.Name != "mine" || tun.Addr().String() != "/slots/mine.0.sock" {
		t.Errorf("%+v", s)
	}
}

// Where this machine cannot open the URL, it is asked at the one address that the account may open.
func TestPreparedProxyIsCheckedFromWithin(t *testing.T) {
	p := newPrepared(t)
	p.desc.Apps[0].URL = "https://nosuchname.invalid/"
	p.describe(t)
	tun := open(t, p.described("", app(t, "hello")))
	if s := tun.Status(); s.Checked != "link" || s.URL != "https://nosuchname.invalid/" {
		t.Errorf("%+v", s)
	}
}

// What the admin has changed is told when the links are made anew.
func TestPreparedProxyChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *prepared)
		want   string
	}{
		"the app is gone": {func(p *prepared) { p.desc.Apps = nil }, "no app"},
		"other slots":     {func(p *prepared) { p.desc.Apps[0].Slots = []string{"/other/sales.0.sock"} }, "other slots"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrepared(t)
			tun := open(t, p.described("", app(t, "hello")))
			await(t, tun, "two links", whole)
			p.away(t)
			c.change(p)
			p.describe(t)
			p.KillLinks()
			s := await(t, tun, "the end", func(s tunnel.Status) bool { return s.State == tunnel.Failed })
			if !errors.Is(s.LastError, tunnel.ErrConfig) || !strings.Contains(s.LastError.Error(), c.want) {
				t.Errorf("%v", s.LastError)
			}
		})
	}
	// Emptied by a restart, and made again from the same description: it comes back by itself.
	p := newPrepared(t)
	tun := open(t, p.described("", app(t, "hello")))
	await(t, tun, "two links", whole)
	slots := p.away(t)
	p.KillLinks()
	await(t, tun, "a refusal", func(s tunnel.Status) bool { return s.LastError != nil && errors.Is(s.LastError, tunnel.ErrForward) })
	must(t, os.Mkdir(slots, 0o755))
	must(t, os.Chown(slots, p.TenantID(), 0))
	await(t, tun, "its return", whole)
}

// away has the directory of the slots vanish, at once: sshd may be about to make one there. It returns where it was.
func (p *prepared) away(t *testing.T) string {
	t.Helper()
	slots := filepath.Join(p.root, "slots")
	must(t, os.Rename(slots, slots+".gone"))
	return slots
}

// A plain proxy has no names, and what it says of visitors is not believed.
func TestPlainProxyHasNoNames(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	for what, change := range map[string]func(*tunnel.Config){
		"name":  func(cfg *tunnel.Config) { cfg.Remote, cfg.Name = 0, "sales" },
		"allow": func(cfg *tunnel.Config) { cfg.Remote, cfg.Allow = 0, []string{"10.0.0.0/8"} },
	} {
		cfg := c.config("")
		cfg.Raw = false
		change(&cfg)
		_, err := tunnel.Expose(within(t, 20*time.Second), cfg)
		if !errors.Is(err, tunnel.ErrConfig) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A description that cannot be used will not be better when it is read again.
func TestDescriptionThatCannotBeUsed(t *testing.T) {
	p := newPrepared(t)
	for name, text := range map[string]string{"no JSON": "{", "too large": strings.Repeat(" ", proxyhost.DescriptionMost) + "{}"} {
		must(t, os.WriteFile(filepath.Join(p.root, "proxy.json"), []byte(text), 0o644))
		_, err := tunnel.Expose(within(t, 20*time.Second), p.described("", ""))
		if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrConfig) || !e.Permanent || !strings.Contains(e.Error(), "cannot be used") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Sshd ends the connection of an account that it cannot shut in its directory, and says nothing. The error tells what it may be, and the
// tunnel opens once that is mended.
func TestDirectoryWithWrongModes(t *testing.T) {
	p := newPrepared(t)
	must(t, os.Chmod(p.root, 0o777))
	_, err := tunnel.Expose(within(t, 3*time.Second), p.described("", app(t, "hello")))
	e := tunnel.AsError(err)
	if !errors.Is(err, tunnel.ErrUnreachable) || e.Permanent || e.Op != "description" || !strings.Contains(e.Error(), "the connection ends after the login") ||
		!strings.Contains(e.Hint.String(), "others than root may write") || !strings.Contains(e.Hint.String(), "systemd-tmpfiles") {
		t.Errorf("%v; %s", err, e.Hint)
	}
	if strings.Contains(p.log.String(), "unexpected packet") {
		t.Error("the log has the words of the protocol")
	}
	must(t, os.Chmod(p.root, 0o755))
	open(t, p.described("", app(t, "hello")))
}

// A server that does not say what it is, is not taken for a plain proxy, and is asked again.
func TestProxyThatDoesNotSayWhatItIs(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp", "ForceCommand exec sleep 20"}})
	for name, change := range map[string]func(*tunnel.Config){"name": func(cfg *tunnel.Config) { cfg.Name = "sales" }, "none": func(*tunnel.Config) {}} {
		cfg := c.config("")
		cfg.Remote = 0
		change(&cfg)
		_, err := tunnel.Expose(within(t, 2*time.Second), cfg)
		if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrUnreachable) || e.Permanent || !strings.Contains(e.Hint.String(), "Config.Remote") {
			t.Errorf("%s: %v; %s", name, err, e.Hint)
		}
	}
}
