// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A kernel goes silent, as one that was stopped, with requests begun, and another one exposes the name. nginx sends it
// the requests of the first when sshd has ended the stale links: what may not run twice is not begun again, and who asked
// is told so. What was asked of the second is.
func TestSilentKernelAndTheNext(t *testing.T) {
	var mu sync.Mutex
	ran, begun, over := map[string]int{}, sync.WaitGroup{}, make(chan struct{})
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" {
			return
		}
		mu.Lock()
		ran[r.Method+r.RequestURI]++
		first := ran[r.Method+r.RequestURI] == 1
		mu.Unlock()
		if r.URL.Path == "/slow" && first {
			begun.Done()
			<-over
		}
		_, _ = fmt.Fprint(w, "done")
	}
	r := newRendered(t)
	cfg := public(r.described("sales", serve(t, app)))
	way := relay.Start(t, r.Addr())
	first := open(t, r.by(way, cfg))
	await(t, first, "its links", whole)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	var visitors sync.WaitGroup
	begun.Add(20)
	for n := range 20 {
		method := []string{"POST", "GET"}[n%2]
		visitors.Go(func() {
			status, said, err := askAs(client, method, r.url+fmt.Sprint("slow?", n), "", 0)
			done := status == 200 && said == "done" // by the next one, or by the first, where that is back for a moment
			if err != nil || !done && (method == "GET" || status != http.StatusBadGateway || !strings.Contains(said, "may have been done")) {
				t.Errorf("%s %d: %d %.200q, %v", method, n, status, said, err)
			}
		})
	}
	begun.Wait()
	stale := r.Links()
	way.Mute()
	next := open(t, cfg)
	await(t, next, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 && s.Slots == 4 })
	for n := range 20 {
		if status, said, err := askAs(client, "POST", r.url+fmt.Sprint("new?", n), "", 10); status != 200 || err != nil {
			t.Errorf("asked of the second: %d %.200q, %v", status, said, err)
		}
	}
	r.EndLinks(stale)
	time.AfterFunc(10*time.Second, func() { close(over) }) // what the first has begun goes on all the time
	visitors.Wait()
	<-over
	mu.Lock()
	defer mu.Unlock()
	for id, n := range ran {
		if strings.HasPrefix(id, "POST") && n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
}

// A connection that nginx keeps leads to the tunnel that was there when it was made. A request that came by it after the next
// tunnel was there, and whose link goes silent, is not begun by that one: nginx says that it has sent it before.
func TestAKeptConnection(t *testing.T) {
	var mu sync.Mutex
	ran, begun, over := map[string][]string{}, sync.WaitGroup{}, make(chan struct{})
	app := func(name string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/slow" {
				time.Sleep(200 * time.Millisecond) // so that each has a connection of its own
				return
			}
			mu.Lock()
			ran[r.RequestURI] = append(ran[r.RequestURI], name)
			n := len(ran[r.RequestURI])
			mu.Unlock()
			if n == 1 {
				begun.Done()
				<-over
			}
		})
	}
	r := newRendered(t)
	cfg := public(r.described("sales", app("first")))
	way := relay.Start(t, r.Addr())
	first := open(t, r.by(way, cfg))
	await(t, first, "its links", whole)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	var visitors sync.WaitGroup
	ask := func(method, path string) {
		visitors.Go(func() {
			if status, said, _ := askAs(client, method, r.url+path, "", 0); method == "POST" && (status != http.StatusBadGateway || !strings.Contains(said, "may have been done")) {
				t.Errorf("%s: %d %.200q", path, status, said)
			}
		})
	}
	for range 16 {
		ask("GET", "kept")
	}
	visitors.Wait()
	stale := r.Links() // before there are others: a pid says nothing of which came first
	cfg.Target = app("next")
	open(t, cfg)
	begun.Add(8)
	for n := range 8 {
		ask("POST", fmt.Sprint("slow?", n))
	}
	begun.Wait()
	way.Mute()
	r.EndLinks(stale)
	visitors.Wait()
	close(over)
	mu.Lock()
	defer mu.Unlock()
	if len(ran) != 8 {
		t.Errorf("%d were begun", len(ran))
	}
	for id, by := range ran {
		if len(by) != 1 || by[0] != "first" {
			t.Errorf("%s ran by %v", id, by)
		}
	}
}
