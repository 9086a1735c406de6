// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// checked is a rendered machine with one app, whose slots are as the script makes them.
type checked struct{ *proxytest.Proxy }

func newChecked(t testing.TB) checked {
	t.Helper()
	return checked{proxytest.Start(t, proxytest.Options{Change: func(h *proxyhost.Host) {
		h.Tenants[0].Apps, h.Tenants[0].SelfService = []proxyhost.Declared{{Name: "sales"}}, ""
	}})}
}

func (c checked) way() destination.Config {
	return destination.Config{Server: c.User + "@" + c.Addr(), Key: c.KeyFile, HostKey: c.Fingerprint()}
}

func (c checked) inspect(t testing.TB, change ...func(*destination.Config)) []probe.Checked {
	t.Helper()
	cfg := c.way()
	for _, change := range change {
		change(&cfg)
	}
	rows, err := doctor.Machine(within(t, 30*time.Second), cfg, "")
	must(t, err)
	return rows
}

// exposed is a tunnel that is there whole.
func (c checked) exposed(t testing.TB) *tunnel.Tunnel {
	t.Helper()
	app := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(app.Close)
	to := c.way()
	tun, err := tunnel.Expose(within(t, 20*time.Second), tunnel.Config{Server: tunnel.Servers{to.Server}, Key: to.Key, HostKey: to.HostKey, Target: app.Listener.Addr().String()})
	must(t, err)
	t.Cleanup(func() { _ = tun.Close() })
	for s := range tun.Watch(within(t, 20*time.Second)) {
		if whole(s) {
			return tun
		}
	}
	t.Fatalf("it stays %+v", tun.Status())
	return nil
}

func whole(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 && s.Slots == 4 }

// rewrite replaces texts in a file.
func rewrite(t testing.TB, path string, change ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	changed := strings.NewReplacer(change...).Replace(string(text))
	if changed == string(text) {
		t.Fatalf("%s has none of %q", path, change)
	}
	must(t, os.WriteFile(path, []byte(changed), 0o644))
}

var stepsOfACheck = []string{"login", "host key", "description", "commands", "ports", "addresses", "files", "sockets", "slots", "nginx", "stale links", "url"}

func steps(rows []probe.Checked) (names []string) {
	for _, row := range rows {
		names = append(names, row.Step)
	}
	return names
}

// A machine with nothing amiss has nothing amiss, with and without a tunnel, which does not notice.
func TestCheckOfAGoodProxy(t *testing.T) {
	c := newChecked(t)
	c.EndStale()
	good := func(now string) {
		t.Helper()
		rows := c.inspect(t)
		if got := steps(rows); !slices.Equal(got, stepsOfACheck) {
			t.Errorf("steps %v", got)
		}
		for _, row := range rows {
			if !row.OK || row.Warn || row.Hint != "" {
				t.Errorf("%+v", row)
			}
			if row.Step == "nginx" && row.Seen != "sales: nginx knows it; "+now || row.Step == "url" && row.Seen != c.URL("sales")+" can be opened from here; "+now {
				t.Errorf("%+v", row)
			}
		}
	}
	good("no tunnel is open now")
	if left, _ := os.ReadDir(c.Slots()); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	tun := c.exposed(t)
	before, _ := os.ReadDir(c.Slots())
	for range 3 {
		good("a tunnel answers now")
	}
	if s := tun.Status(); !whole(s) || s.Reconnects != 0 || s.Failed != 0 {
		t.Errorf("the tunnel noticed: %+v", s)
	}
	if after, _ := os.ReadDir(c.Slots()); len(after) != len(before) {
		t.Errorf("sockets %v, before %v", after, before)
	}
	rows := c.inspect(t, func(cfg *destination.Config) { cfg.HostKey = c.KnownHostsLine() })
	if want := fmt.Sprintf("to pin it: Config.HostKey = %q", c.Fingerprint()); rows[1].Hint.String() != want || !rows[1].OK {
		t.Errorf("%+v", rows[1])
	}
}

// Whatever is broken, its own row says so, with what to do, and only that one.
func TestCheckOfABrokenProxy(t *testing.T) {
	c := newChecked(t)
	sshd, err := os.ReadFile(c.Layout.SSHD)
	must(t, err)
	description, err := os.ReadFile(c.Own() + "/proxy.json")
	must(t, err)
	config := func(change ...string) func() {
		return func() { rewrite(t, c.Layout.SSHD, change...); c.Restart() }
	}
	describe := func(change ...string) func() { return func() { rewrite(t, c.Own()+"/proxy.json", change...) } }
	mode := func(mode fs.FileMode) func() { return func() { must(t, os.Chmod(c.Slots(), mode)) } }
	nobody := fmt.Sprint(c.FreePort())
	check := fmt.Sprint(c.Check())
	silent := c.FreePort()
	sshdtest.BlackHole(t, "127.0.0.1", silent)
	hole := fmt.Sprint(silent)
	const after = "…" // nothing comes after it
	for name, b := range map[string]struct {
		spoil      func()
		steps      string // those that fail
		seen, hint string // in the first of them
	}{
		"ports":                 {config("PermitListen none", "PermitListen any"), "ports", "may listen on TCP ports", "sshd -T -C user=" + c.User},
		"addresses":             {config("PermitOpen 127.0.0.1:"+check, "PermitOpen any"), "addresses", "127.0.0.1:9", "setup"},
		"any port here":         {config("PermitOpen 127.0.0.1:"+check, "PermitOpen 127.0.0.1:*"), "addresses", "127.0.0.1:9", "setup"},
		"files":                 {config("internal-sftp -R", "internal-sftp"), "files", "may change files", "setup"},
		"no sockets":            {config("AllowStreamLocalForwarding remote", "AllowStreamLocalForwarding no"), "sockets", "serve nothing", "setup"},
		"no way to its port":    {config("PermitOpen 127.0.0.1:"+check, "PermitOpen 127.0.0.1:1"), "nginx", "may not connect to its check port", "setup"},
		"a plain account":       {config("ForceCommand internal-sftp -R", "", "ChrootDirectory", "#"), "description,files", "ordinary account", "proxy setup root@MACHINE FILE"},
		"no nginx":              {func() { describe(check, nobody)(); config(check, nobody)() }, "nginx", "nginx does not run", "systemctl"},
		"no directory":          {func() { must(t, os.RemoveAll(c.Own())) }, "description" + after, "connection ends after the login", "systemd-tmpfiles"},
		"others may write":      {func() { must(t, os.Chmod(c.Own(), 0o777)) }, "description" + after, "connection ends after the login", "systemd-tmpfiles"},
		"no description":        {func() { must(t, os.Remove(c.Own()+"/proxy.json")) }, "description", "shows no /proxy.json", "setup"},
		"no JSON":               {describe("{", "("), "description", "cannot be used", "setup"},
		"of another version":    {describe(`"version": 1`, `"version": 2`), "description", "version 2", "setup"},
		"another's description": {describe(`"tenant": "`+c.User+`"`, `"tenant": "x\u001b[2J"`), "description", "that of", "setup"},
		"no slots":              {func() { must(t, os.Remove(c.Slots())) }, "slots", "/s of the sockets is missing", "systemd-tmpfiles"},
		"a file":                {func() { must(t, os.Remove(c.Slots())); must(t, os.WriteFile(c.Slots(), nil, 0o600)) }, "slots", "no directory", "systemd-tmpfiles"},
		"not setgid":            {mode(0o750), "slots", "not setgid", "systemd-tmpfiles"},
		"open slots":            {mode(0o755 | fs.ModeSetgid), "slots", "open to everybody", "systemd-tmpfiles"},
		"slots of root":         {func() { must(t, os.Chown(c.Slots(), 0, 0)) }, "slots", "not the account's", "systemd-tmpfiles"},
		"slots without writing": {mode(0o550 | fs.ModeSetgid), "slots", "not the account's", "systemd-tmpfiles"},
		"an app that nginx does not know": {describe(`"name":"sales"`, `"name":"more"`, "/sales/", "/more/"), "nginx,url",
			"more: nginx runs, but does not know it", "systemctl"},
		"an address with orders to a terminal": {describe("/sales/", `/\u202e\u009bsales/`), "nginx,url", "does not know it", "systemctl"},
		"an address that is not there":         {describe(fmt.Sprintf(":%d/", c.HTTP), ":1/"), "url", "cannot be opened from here", "nothing listens on port 1"},
		"a firewall before it":                 {describe(fmt.Sprintf(":%d/", c.HTTP), ":"+hole+"/"), "url", "cannot be opened from here", "let the port in, in a cloud by the security group"},
	} {
		b.spoil()
		rows := c.inspect(t)
		var failed []string
		for _, row := range rows {
			if strings.ContainsFunc(row.Seen, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s: %q", name, row.Seen)
			}
			if !row.OK {
				failed = append(failed, row.Step)
				if len(failed) == 1 && (!strings.Contains(row.Seen, b.seen) || !strings.Contains(row.Hint.String(), b.hint)) {
					t.Errorf("%s: %+v", name, row)
				}
			}
		}
		want, last := strings.CutSuffix(b.steps, after)
		if strings.Join(failed, ",") != want || last && rows[len(rows)-1].Step != want {
			t.Errorf("%s: %v fail, want %s: %+v", name, failed, want, rows)
		}
		must(t, os.RemoveAll(c.Slots()))
		must(t, os.MkdirAll(c.Slots(), 0o755))
		must(t, os.Chmod(c.Own(), 0o755))
		must(t, os.Chown(c.Slots(), c.TenantID(), 0))
		mode(0o750 | fs.ModeSetgid)()
		must(t, os.WriteFile(c.Own()+"/proxy.json", description, 0o644))
		if now, _ := os.ReadFile(c.Layout.SSHD); string(now) != string(sshd) {
			must(t, os.WriteFile(c.Layout.SSHD, sshd, 0o644))
			c.Restart()
		}
	}
}

// An account with a shell is a finding, and so is a login that fails, in expose()'s own words.
func TestCheckOfOtherAccounts(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp"}})
	cfg := destination.Config{Server: s.User + "@" + s.Addr(), Key: s.KeyFile, HostKey: s.Fingerprint()}
	rows, err := doctor.Machine(within(t, 20*time.Second), cfg, "")
	must(t, err)
	if got, want := steps(rows), stepsOfACheck[:8]; !slices.Equal(got, want) {
		t.Errorf("steps %v", got)
	}
	for n, row := range rows {
		if should := n < 2 || n == 7; row.OK != should || !should && row.Hint == "" {
			t.Errorf("%+v", row)
		}
	}
	for name, spoil := range map[string]func(*destination.Config){
		"refused":       func(cfg *destination.Config) { cfg.Key = sshdtest.NewKey(t, "ed25519") },
		s.Fingerprint(): func(cfg *destination.Config) { cfg.HostKey = "SHA256:" + strings.Repeat("A", 43) },
	} {
		cfg := cfg
		spoil(&cfg)
		rows, err := doctor.Machine(within(t, 20*time.Second), cfg, "")
		if err != nil || len(rows) != 1 || rows[0].Step != "login" || rows[0].OK || !strings.Contains(rows[0].Seen, name) || rows[0].Hint == "" {
			t.Errorf("%s: %+v, %v", name, rows, err)
		}
	}
	cfg.Server = "@"
	if rows, err := doctor.Machine(t.Context(), cfg, ""); !errors.Is(err, tunnel.ErrConfig) || rows != nil {
		t.Errorf("%+v, %v", rows, err)
	}
}

// signed makes a certificate for a name that ends in so long; by is who signs it, nil: itself.
func signed(t testing.TB, name string, left time.Duration, by *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	text := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "of " + name}, NotBefore: time.Now().Add(-100 * 24 * time.Hour),
		NotAfter: time.Now().Add(left), BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if ip := net.ParseIP(name); ip != nil {
		text.IPAddresses = []net.IP{ip}
	} else {
		text.DNSNames = []string{name}
	}
	parent, signer := text, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, text, parent, &key.PublicKey, signer)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A certificate is judged as visitors' browsers will.
func TestCheckOfCertificates(t *testing.T) {
	c := newChecked(t)
	authority := signed(t, "authority", 1000*time.Hour, nil)
	trusted := filepath.Join(t.TempDir(), "authorities.pem")
	must(t, os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]}), 0o644))
	description, err := os.ReadFile(c.Own() + "/proxy.json")
	must(t, err)
	const day = 24 * time.Hour
	for name, k := range map[string]struct {
		cert     tls.Certificate
		trust    bool
		ok, warn bool
		seen     string
	}{
		"good":           {signed(t, "127.0.0.1", 90*day+time.Hour, &authority), true, true, false, `(90 days), by "CN=of authority"`},
		"nearly over":    {signed(t, "127.0.0.1", 13*day+time.Hour, &authority), true, true, true, "(13 days)"},
		"self-signed":    {signed(t, "127.0.0.1", 90*day, nil), true, true, true, "self-signed"},
		"unknown signer": {signed(t, "127.0.0.1", 90*day, &authority), false, true, true, `nobody known here vouches for it, but "CN=of authority"`},
		"over":           {signed(t, "127.0.0.1", -time.Hour, &authority), true, false, false, "it is valid from"},
		"another name":   {signed(t, "example.com", 90*day, &authority), true, false, false, "not for this name"},
	} {
		front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
		front.TLS = &tls.Config{Certificates: []tls.Certificate{k.cert}}
		front.StartTLS()
		rewrite(t, c.Own()+"/proxy.json", fmt.Sprintf(`"http://127.0.0.1:%d/`, c.HTTP), fmt.Sprintf(`"%s/`, front.URL))
		rows := c.inspect(t, func(cfg *destination.Config) {
			cfg.Environment = map[string]string{}
			if k.trust {
				cfg.Environment["SSL_CERT_FILE"] = trusted
			}
		})
		front.Close()
		row := rows[len(rows)-1]
		if row.Step != "certificate" || row.OK != k.ok || row.Warn != k.warn || !strings.Contains(row.Seen, k.seen) || (row.Hint == "") != (k.ok && !k.warn) {
			t.Errorf("%s: %+v", name, row)
		}
		if url := rows[len(rows)-2]; url.Step != "url" || !url.OK || url.Warn {
			t.Errorf("%s: %+v", name, url)
		}
		must(t, os.WriteFile(c.Own()+"/proxy.json", description, 0o644))
	}
}

// Whether stale links are ended is seen, and what to do where they are not.
func TestCheckOfWhatEndsStaleLinks(t *testing.T) {
	c := newChecked(t)
	row := func(what, seen, hint string) {
		t.Helper()
		for _, row := range c.inspect(t) {
			if row.Step == "stale links" && (!row.OK || row.Warn != (hint != "") || !strings.Contains(row.Seen, seen) || !strings.Contains(row.Hint.String(), hint)) {
				t.Errorf("%s: %+v", what, row)
			}
		}
	}
	state := c.Layout.Run + "/.stale"
	row("never", "has not run since", "systemctl enable --now")
	must(t, os.WriteFile(state, []byte("looks\n"), 0o644))
	row("now", "within seconds", "")
	must(t, os.WriteFile(state, []byte("ss: not \x1bfound\n"), 0o644))
	row("without ss", "does not work: ss: not found", "journalctl")
	must(t, os.Chtimes(state, time.Time{}, time.Now().Add(-time.Minute)))
	row("once", "last looked 1m", "systemctl")
	rewrite(t, c.Own()+"/proxy.json", `"ends_stale": true`, `"ends_stale": false`)
	row("an older machine", "an older version", "proxy setup")
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Who has set a machine up is told, without a login, whether its addresses can be opened from there.
func TestVisitors(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	rows, err := doctor.Visitors(within(t, 20*time.Second), destination.Config{Server: "root@127.0.0.1", SSHConfig: "none"}, []string{"http://no-such-host.invalid/", web.URL})
	must(t, err)
	if len(rows) != 2 || rows[0].OK || !strings.Contains(rows[0].Hint.String(), "have the name no-such-host.invalid lead to the machine (DNS)") || !rows[1].OK {
		t.Errorf("%+v", rows)
	}
}
