// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
)

// plainAt is a tunnel to a plain proxy, that nothing serves.
func plainAt(host string, port int) *Tunnel {
	cfg := Config{Server: Servers{"me@" + host}, Remote: port}
	return newTunnel(resolved{Config: cfg, server: &destination.Destination{Host: host}, plainGiven: true}, nil)
}

// Where nothing answers the look is over after a second, and nothing goes on after it.
func TestSilenceCostsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := plainAt("127.0.0.1", 8080)
		defer tun.end()
		began := time.Now()
		silent := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if found := tun.lookPast(t.Context(), silent); found != untold {
			t.Errorf("%v", found)
		}
		tun.tasks.Wait()
		if took := time.Since(began); took != exposureWait {
			t.Errorf("it took %v", took)
		}
	})
}

// Where the account may open no connection from the proxy, this machine asks the port itself.
func TestSlotThatThisMachineReaches(t *testing.T) {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	host := ""
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			host = ip.String()
		}
	}
	if host == "" {
		t.Skip("this machine has no address but its loopback")
	}
	tun := plainAt(host, listener.Addr().(*net.TCPAddr).Port)
	defer func() { tun.end(); tun.tasks.Wait() }()
	web := ""
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if web != "" {
			w.Header().Set("Server", web)
		}
		tun.check.serve(w, r)
	})}
	go func() { _ = s.Serve(listener) }()
	defer s.Close()
	forbidden := func(context.Context, string) (net.Conn, error) { return nil, errors.New("prohibited") }
	if found := tun.lookPast(t.Context(), forbidden); found != exposed {
		t.Errorf("%v", found)
	}
	web = "nginx" // listens on the same port, at other addresses
	if found := tun.lookPast(t.Context(), forbidden); found != untold {
		t.Errorf("by way of a web server: %v", found)
	}
}
