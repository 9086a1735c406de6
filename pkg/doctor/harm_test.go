// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Fifty looks beside an open tunnel whose visitors make a hundred requests a second: none of those fails, and the tunnel notices nothing.
func TestFiftyLooksHarmNothing(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "app") }))
	defer app.Close()
	t.Run("plain", func(t *testing.T) {
		leak.Check(t)
		s := sshdtest.Start(t, sshdtest.Options{})
		slot, web := s.FreePort(), s.FreePort()
		nginxtest.Start(t, fmt.Sprintf(site, web, slot), web)
		harmless(t, tunnel.Config{Server: tunnel.Servers{s.User + "@" + s.Addr()}, Key: s.KeyFile, HostKey: s.Fingerprint(), SSHConfig: "none", Agent: "none",
			Remote: slot, URL: fmt.Sprintf("http://127.0.0.1:%d/", web), Target: app.Listener.Addr().String(), Access: tunnel.Access{Public: true}})
	})
	t.Run("prepared", func(t *testing.T) {
		p := newChecked(t)
		way := p.way()
		harmless(t, tunnel.Config{Server: tunnel.Servers{way.Server}, Key: way.Key, HostKey: way.HostKey, SSHConfig: "none", Agent: "none",
			Target: app.Listener.Addr().String(), Access: tunnel.Access{Public: true}})
	})
}

const looks = 50 // of each kind of proxy

func harmless(t *testing.T, cfg tunnel.Config) {
	t.Helper()
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	must(t, err)
	defer func() { _ = tun.Close() }()
	for s := range tun.Watch(within(t, 20*time.Second)) {
		if s.State == tunnel.Up && s.Links == 2 {
			break
		}
	}
	before := tun.Status()
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	var mu sync.Mutex
	asked, failed := 0, []string{}
	visitors.Go(func() {
		every := time.NewTicker(10 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-stop:
				return
			case <-every.C:
			}
			visitors.Go(func() {
				said := ""
				resp, err := http.Get(tun.URL())
				if err == nil {
					body, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					said = string(body)
				}
				mu.Lock()
				defer mu.Unlock()
				if asked++; err != nil || said != "app" {
					failed = append(failed, fmt.Sprintf("%v %.80q", err, said))
				}
			})
		}
	})
	for n := range looks {
		for _, row := range doctor.Look(within(t, time.Minute), cfg, nil) {
			if !row.OK && !row.Skipped {
				t.Errorf("look %d: %+v", n, row)
			}
		}
	}
	close(stop)
	visitors.Wait()
	http.DefaultClient.CloseIdleConnections()
	after := tun.Status()
	if len(failed) > 0 || asked < looks {
		t.Errorf("%d of %d failed: %s", len(failed), asked, strings.Join(failed, "; "))
	}
	if after.State != tunnel.Up || after.Reconnects != before.Reconnects || after.Links != 2 {
		t.Errorf("the tunnel was %+v, and is %+v", before, after)
	}
	t.Logf("%d looks, %d requests", looks, asked)
}
