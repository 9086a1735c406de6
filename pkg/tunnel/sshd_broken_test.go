// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An app that breaks off its answer is asked once. The visitor's connection is cut, or a page says what happened:
// never that the app is away, for then the browser asks again every 3 s.
func TestBrokenAnswersAreNotAskedForAgain(t *testing.T) {
	for _, kind := range []string{"prepared", "plain"} {
		t.Run(kind, func(t *testing.T) {
			var ran atomic.Int64
			line := strings.Repeat(`{"region": "north", "sales": 12345},`, 100)
			c, cfg := machine(t, kind, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/report") {
					return
				}
				ran.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				switch r.URL.Path {
				case "/report.headless":
					conn, _, _ := w.(http.Hijacker).Hijack()
					_ = conn.Close()
					return
				case "/report.fits.js": // which nginx looks for in its cache
					w.Header().Set("X-Large", strings.Repeat("x", 13_900))
					w.Header().Set("Etag", `"1"`)
					_, _ = io.WriteString(w, line)
					return
				case "/report.heads":
					for n := range 22 {
						w.Header().Set(fmt.Sprint("X-", n), strings.Repeat("x", 1000))
					}
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "1000000")
				for n := 0; n < 440_000; n += len(line) {
					_, _ = io.WriteString(w, line)
				}
				panic(http.ErrAbortHandler)
			})
			tun := open(t, cfg)
			if kind == "prepared" {
				if status, said, err := askAs(http.DefaultClient, "GET", c.url+"report.fits.js?"+strings.Repeat("q", 1000), tokenOf(tun), 0, "Connection", "close"); status != http.StatusOK || err != nil {
					t.Errorf("as large a head as there may be: %d %.200q, %v", status, said, err)
				}
			}
			for path, says := range map[string]string{"report.json": "", "report.headless": "The app broke off its answer", "report.heads": "The app's answer cannot be passed on"} {
				if kind == "plain" && path == "report.heads" {
					continue // what is too large there is up to its admin's nginx
				}
				for _, coding := range []string{"identity", "gzip"} {
					for method, size := range map[string]int{"GET": 0, "POST": 10, "PUT": 1_500_000} {
						ran.Store(0)
						client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, Timeout: 30 * time.Second}
						status, said, err := askAs(client, method, c.url+path, tokenOf(tun), size, "Accept-Encoding", coding)
						what := fmt.Sprintf("%s %s %s %s", kind, method, path, coding)
						if ran.Load() != 1 {
							t.Errorf("%s: ran %d times", what, ran.Load())
						}
						cut, told := err != nil && status == http.StatusOK, err == nil && status == http.StatusBadGateway && strings.HasPrefix(said, says)
						if cut != (says == "") || told == cut {
							t.Errorf("%s: %d %.200q, %v", what, status, said, err)
						}
					}
				}
			}
		})
	}
}
