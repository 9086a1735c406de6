// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// An account is told its own apps, which of them are up, and since when; sockets of tunnels that have gone are no apps.
func TestStatus(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	way := destination.Config{Server: p.User + "@" + p.Addr(), Key: p.KeyFile, HostKey: p.Fingerprint(), SSHConfig: "none"}
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	began := time.Now().Add(-2 * time.Second)
	open := map[string]*tunnel.Tunnel{}
	for _, name := range []string{"sales", "mine"} {
		tun, err := tunnel.Expose(within(t, 20*time.Second), tunnel.Config{Server: tunnel.Servers{way.Server}, Key: way.Key, HostKey: way.HostKey, SSHConfig: "none", Name: name, Target: app.Listener.Addr().String()})
		must(t, err)
		defer func() { _ = tun.Close() }()
		open[name] = tun
	}
	up := func() string {
		t.Helper()
		a, err := doctor.Status(within(t, 20*time.Second), way)
		must(t, err)
		var names []string
		for _, app := range a.Apps {
			if !app.Up {
				continue
			}
			if names = append(names, app.Name+" "+app.URL); app.Since.Before(began) || app.Since.After(time.Now().Add(2*time.Second)) {
				t.Errorf("%s is up since %v", app.Name, app.Since)
			}
		}
		if !strings.HasPrefix(a.Key, "SHA256:") || a.Server != way.Server || len(a.Apps) < 3 {
			t.Errorf("%+v", a)
		}
		return strings.Join(names, ", ")
	}
	sales, mine := "sales "+p.URL("sales"), "mine http://mine--"+p.User+".apps.invalid/"
	if got := up(); !strings.HasPrefix(got, sales+", ") || !strings.Contains(got, "mine ") {
		t.Errorf("up: %q, want %q", got, sales+", "+mine)
	}
	must(t, open["mine"].Close())
	if got := up(); got != sales {
		t.Errorf("up: %q, want %q", got, sales)
	}
	if s := open["sales"].Status(); s.State != tunnel.Up || s.Reconnects != 0 {
		t.Errorf("the tunnel is %+v", s)
	}
}

func TestStatusOfAPlainProxy(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	_, err := doctor.Status(within(t, 20*time.Second), destination.Config{Server: s.User + "@" + s.Addr(), Key: s.KeyFile, HostKey: s.Fingerprint(), SSHConfig: "none"})
	if e := tunnel.AsError(err); e == nil || !strings.Contains(e.Error(), "prepared proxy") || !strings.Contains(e.Hint.String(), "taipy-tunnel doctor") {
		t.Errorf("%v", err)
	}
}
