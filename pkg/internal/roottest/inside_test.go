// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// within finds the root that TestRoots has mounted.
func within(t *testing.T) *machine {
	t.Helper()
	if os.Getenv(insideVariable) == "" {
		t.Fatal("TestRoots runs it")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	m := &machine{t: t, key: filepath.Join(t.TempDir(), "key")}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "overlay" && strings.HasSuffix(f[1], "/root") {
			m.root = f[1]
		}
	}
	for _, name := range []string{m.key, m.key + "2"} {
		must(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name).Run())
	}
	m.must("mkdir -p /run/sshd && /usr/sbin/sshd && /usr/sbin/nginx")
	return m
}

func (m *machine) public(suffix string) string {
	text, err := os.ReadFile(m.key + suffix + ".pub")
	must(m.t, err)
	return string(text)
}

// A machine's life: made, made again, broken, changed, and what was made removed.
func TestInside(t *testing.T) {
	m := within(t)
	m.must("useradd -m visitor") // somebody who has an account there
	fresh := m.etc()
	sales := proxyhost.Tenant{Name: "sales", Keys: []string{m.public("")}, SelfService: "apps.example.com",
		Apps: []proxyhost.Declared{{Name: "forecast", Host: "forecast.example.com"}, {Name: "board", Host: "board.example.com"}}}
	h := proxyhost.Host{TLS: proxyhost.TLS{Mode: "self-signed"}, Tenants: []proxyhost.Tenant{sales}}

	m.refuses(h)
	m.unchanged("what was refused", fresh)
	m.installs(h, "changed:")
	m.installs(h, "unchanged")
	made := m.etc()
	m.endStale()
	m.endsASilentLink()

	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "figures") }))
	defer app.Close()
	tun, err := m.expose("sales", "forecast", app.Listener.Addr().String())
	must(t, err)
	defer func() { _ = tun.Close() }()
	await(t, tun, func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
	_, token, _ := strings.Cut(tun.URL(), "#token=")
	serves := func(what string) {
		t.Helper()
		if status, said := m.visit("forecast.example.com", token); status != 200 || said != "figures" {
			t.Errorf("%s: %d %q", what, status, said)
		}
		if said, err := m.sh("bash -c '" + othersPage + "'"); err != nil || !strings.Contains(said, "Welcome to nginx") {
			t.Errorf("%s: the machine's other site: %v\n%s", what, err, said)
		}
	}
	serves("made")
	if said, err := m.sh("su -s /bin/sh visitor -c 'ls /run/taipy-tunnel/sales/s'"); err == nil || !strings.Contains(said, "Permission denied") {
		t.Errorf("another local user goes around nginx: %v\n%s", err, said)
	}

	// Another tenant comes, a key comes: nobody's link ends.
	h.Tenants = append(h.Tenants, proxyhost.Tenant{Name: "hr", Keys: sales.Keys, Host: "hr.example.com", Apps: []proxyhost.Declared{{Name: "staff"}}})
	h.Tenants[0].Keys = []string{m.public(""), m.public("2")}
	m.installs(h, "changed:")
	serves("with another tenant")
	m.refuses(h)
	serves("after refusals")
	if s := tun.Status(); s.Reconnects != 0 || s.Links != 2 {
		t.Errorf("links were not kept: %+v", s)
	}
	other, err := m.expose("hr", "", app.Listener.Addr().String())
	must(t, err)
	defer func() { _ = other.Close() }()

	// A start of the machine: /run is empty.
	m.must("rm -rf /run/taipy-tunnel && systemd-tmpfiles --create taipy-tunnel.conf")
	if said := m.must("stat -c '%U:%G %a' /run/taipy-tunnel/sales /run/taipy-tunnel/sales/s && cat /run/taipy-tunnel/sales/proxy.json"); !strings.HasPrefix(said, "root:root 755\nsales:www-data 2750\n{") {
		t.Errorf("after a start: %s", said)
	}
	must(t, tun.Reconnect())

	// Its key goes, and its links with it; the other's stay.
	h.Tenants[0].Keys = []string{m.public("2")}
	m.installs(h, "ended the links of sales")
	await(t, tun, refusedKey)
	if status, said := m.visit("forecast.example.com", token); status != 503 || !strings.Contains(said, "The app is away") {
		t.Errorf("without its key: %d %q", status, said)
	}

	// Back to one tenant as it was at first: what is there is what was there.
	h.Tenants = []proxyhost.Tenant{sales}
	m.installs(h, "account:hr")
	await(t, other, refusedKey)
	m.unchanged("the first set-up again", made)
	if said, err := m.sh("id hr || ls /run/taipy-tunnel/hr"); err == nil {
		t.Errorf("hr is still there: %s", said)
	}
	m.must("sh /root/install.sh remove")
	m.unchanged("removed", fresh)
	if said := m.must("ls -d /run/taipy-tunnel /var/cache/taipy-tunnel /var/log/nginx/taipy* 2>/dev/null; getent group taipy-tunnel; id visitor"); !strings.HasPrefix(said, "uid=") {
		t.Errorf("removed, and still there: %s", said)
	}
	m.must("nginx -t -q && sshd -t")
	m.throughSSH(t, fresh)
	m.quickstart(t, fresh)
	m.killed(t, fresh)
	m.bySudo(t)
	m.byCertbot(t)
	m.bySystemd(t, h)
}

// bySystemd sees what systemd is told, which does not run here: of the service that ends stale links.
func (m *machine) bySystemd(t *testing.T, h proxyhost.Host) {
	const link = "/etc/systemd/system/multi-user.target.wants/taipy-tunnel-stale.service"
	m.must("mkdir -p /run/systemd/system; mv /usr/bin/systemctl /usr/bin/systemctl.real")
	m.must(`printf '#!/bin/sh\necho "$@" >>/run/told; [ "$2 $3" != "enable --now" ] || exec systemctl.real -q enable "$4"\n' >/usr/bin/systemctl && chmod 755 /usr/bin/systemctl`)
	told := func(want ...string) {
		t.Helper()
		lines := strings.Split(m.must("grep -e stale -e daemon /run/told; rm /run/told"), "\n")
		if !slices.Equal(lines, want) {
			t.Errorf("systemd is told %q, want %q", lines, want)
		}
	}
	const unit = "taipy-tunnel-stale.service"
	m.installs(h, "changed:")
	told("daemon-reload", "stop "+unit, "-q enable --now "+unit)
	m.must("systemd-analyze verify /etc/systemd/system/" + unit + " && test -h " + link)
	m.installs(h, "unchanged")
	told("-q enable --now " + unit)
	m.must("sh /root/install.sh remove")
	told("stop "+unit, "daemon-reload")
	m.must("! test -h " + link + " && ! test -e /etc/systemd/system/" + unit)
}

// refuses sees that what cannot be is refused, and taken back.
func (m *machine) refuses(h proxyhost.Host) {
	m.t.Helper()
	refused := func(what, says string, h proxyhost.Host, change ...string) {
		m.t.Helper()
		before := m.etc()
		if said, err := m.install(h, change...); err == nil || !strings.Contains(said, says) {
			m.t.Errorf("%s: %v\n%s", what, err, said)
		}
		m.unchanged(what, before)
	}
	taken := h
	taken.Tenants = []proxyhost.Tenant{{Name: "visitor", Keys: h.Tenants[0].Keys, Apps: h.Tenants[0].Apps}}
	refused("somebody's account", "visitor exists and is not ours", taken)
	refused("by nginx", "taken back", h, "least_conn;", "least_con;")
	refused("by sshd", "taken back", h, "MaxSessions 1", "MaxSesions 1")
	refused("what changes others' logins", "taken back", h, "Match all", "Match all\nX11Forwarding no")
	m.must("mv /etc/os-release /root/os-release && echo ID=fedora >/etc/os-release")
	refused("another system", "By hand:", h)
	m.must("mv /root/os-release /etc/os-release")
}

// othersPage is a command that shows the page of the site that Debian's nginx has at first.
const othersPage = `exec 3<>/dev/tcp/127.0.0.1/80 && printf "GET / HTTP/1.0\r\nHost: other.example.com\r\n\r\n" >&3 && cat <&3`

// refusedKey: the tunnel has lost its links, and says that the login is refused. It goes on asking, seldom: the key has logged in before.
func refusedKey(s tunnel.Status) bool {
	return s.State == tunnel.Reconnecting && s.LastError != nil && errors.Is(s.LastError, tunnel.ErrAuth)
}

func await(t *testing.T, tun *tunnel.Tunnel, pleases func(tunnel.Status) bool) tunnel.Status {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for s := range tun.Watch(t.Context()) {
		if pleases(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("it stays %+v", s)
		default:
		}
	}
	s := tun.Status()
	if !pleases(s) {
		t.Fatalf("it ended as %+v", s)
	}
	return s
}
