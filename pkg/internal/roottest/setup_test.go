// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyadmin"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// setUp runs the script for h through SSH, as root.
func (m *machine) setUp(ctx context.Context, h proxyhost.Host, remove bool, said func(string), change ...string) (*proxyadmin.Machine, error) {
	m.t.Helper()
	text, err := proxyhost.Script(h)
	must(m.t, err)
	return proxyadmin.SetUp(ctx, m.way("root"), proxyadmin.Change{Script: strings.NewReplacer(change...).Replace(text), Remove: remove, Said: said})
}

// throughSSH is a machine's life without anybody at its terminal. fresh is what is there before and afterwards.
func (m *machine) throughSSH(t *testing.T, fresh []string) {
	m.must("mkdir -p -m 700 /root/.ssh")
	must(t, os.WriteFile(m.root+"/root/.ssh/authorized_keys", []byte(m.public("")), 0o600))
	h := proxyhost.Host{TLS: proxyhost.TLS{Mode: "self-signed"}, Tenants: []proxyhost.Tenant{{Name: "sales", Keys: []string{m.public("")},
		Host: "127.0.0.1", Apps: []proxyhost.Declared{{Name: "forecast"}}}}}

	// Given up half way, when nobody hears what it says any more.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := m.setUp(ctx, h, false, func(line string) {
		if line == "taipy-tunnel: half" {
			if len(m.etc()) == len(fresh) {
				t.Error("it has not done anything yet")
			}
			cancel()
		}
	}, "sshd -t || die", "say half; sleep 60\nsshd -t || die")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	for deadline := time.Now().Add(20 * time.Second); !slices.Equal(m.etc(), fresh) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	m.unchanged("given up", fresh)
	m.must("for n in 1 2 3 4 5; do flock -n /run/taipy-tunnel.lock true && exit; sleep 1; done; exit 1") // it has ended

	said := ""
	hear := func(line string) { said += line + "\n" }
	made, err := m.setUp(t.Context(), h, false, hear)
	if err != nil || !strings.Contains(said, "changed:") || !strings.HasSuffix(said, "taipy-tunnel: host key "+m.hostKey()+"\n") {
		t.Fatalf("%v\n%s", err, said)
	}
	if made.HostKey != m.hostKey() || made.Server("sales") != "sales@127.0.0.1" {
		t.Errorf("%+v, %s", made, made.Server("sales"))
	}
	m.endStale()
	m.looksGood(t, "no tunnel is open now")
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	tun, err := m.expose("sales", "", app.Listener.Addr().String())
	must(t, err)
	defer func() { _ = tun.Close() }()
	m.looksGood(t, "a tunnel answers now")
	said = ""
	if _, err := m.setUp(t.Context(), h, false, hear); err != nil || !strings.Contains(said, "unchanged") {
		t.Errorf("%v\n%s", err, said)
	}
	if _, err := m.setUp(t.Context(), h, true, hear); err != nil || !strings.Contains(said, "removed") {
		t.Errorf("%v\n%s", err, said)
	}
	m.unchanged("removed through SSH", fresh)
	if left := m.must("ls /run | grep taipy-tunnel || true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// looksGood has the tenant look at the machine. nginx may still be reading its files.
func (m *machine) looksGood(t *testing.T, now string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		rows, err := doctor.Machine(t.Context(), m.way("sales"), "")
		must(t, err)
		good := len(rows) == 13
		for _, row := range rows {
			good = good && row.OK && row.Warn == (row.Step == "certificate") && (row.Step != "nginx" || strings.HasSuffix(row.Seen, now))
		}
		if good {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%+v", rows)
			return
		}
	}
}
