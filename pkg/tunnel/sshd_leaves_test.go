// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// A link that was renewed ends although visitors come all the time, on connections that nginx keeps to it; one of them fails
// in no case. A websocket stays on its link, which is then the only one left.
func TestARenewedLinkEndsUnderLoad(t *testing.T) {
	const soon = 10 * time.Second // 0.7 s were measured on a busy machine; nginx would use a kept connection for 1000 requests, 40 s here
	r := newRendered(t)
	speak := echo(t)
	tun := r.exposed(t, "sales", serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			speak(w, r)
		}
	}))
	await(t, tun, "two links", whole)
	conn, err := net.Dial("tcp", at(r.http))
	must(t, err)
	defer func() { _ = conn.Close() }()
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, _ = fmt.Fprintf(conn, "GET /sales/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", tokenOf(tun))
	reader := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(reader, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}

	warm, stop := make(chan struct{}), make(chan struct{})
	var visitors sync.WaitGroup
	asked := 0
	visitors.Go(func() {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
		defer client.CloseIdleConnections()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ; ; asked++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if asked == 20 { // each slot has a connection that nginx keeps
				close(warm)
			}
			method, size := http.MethodGet, 0
			if asked%2 == 0 {
				method, size = http.MethodPost, 100
			}
			if status, _, err := askAs(client, method, r.url, tokenOf(tun), size); err != nil || status != http.StatusOK {
				t.Errorf("request %d: %d, %v", asked, status, err)
			}
		}
	})
	<-warm
	earlier := r.Links()
	left := func() (n int) {
		now := r.Links()
		for _, link := range earlier {
			if slices.Contains(now, link) {
				n++
			}
		}
		return n
	}
	reconnect(t, &r.chain, tun, tunnel.Config{})
	begin := time.Now()
	for left() > 1 && time.Since(begin) < soon {
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d of %d earlier links are left after %v", left(), len(earlier), time.Since(begin).Round(10*time.Millisecond))
	if left() != 1 {
		t.Errorf("%d of %d earlier links are left, want that of the websocket", left(), len(earlier))
	}
	converse(t, conn, reader)
	_ = conn.Close()
	for left() > 0 && time.Since(begin) < 2*soon {
		time.Sleep(20 * time.Millisecond)
	}
	if left() > 0 {
		t.Error("the link of a websocket that has ended is left")
	}
	close(stop)
	visitors.Wait()
	t.Logf("%d requests", asked)
}
