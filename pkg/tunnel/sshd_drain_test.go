// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// small has a socket hold little, so that what is written and has not arrived is ours.
func small(option int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 8<<10) })
	}
}

// uplink passes connections on to an address, at 100 KiB/s.
func uplink(t *testing.T, to string) string {
	t.Helper()
	l, err := (&net.ListenConfig{Control: small(syscall.SO_RCVBUF)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	pass := func(near net.Conn) {
		far, err := net.Dial("tcp", to)
		if err != nil {
			_ = near.Close()
			return
		}
		tasks.Go(func() {
			_, _ = io.Copy(near, far)
			_ = near.Close()
		})
		piece := make([]byte, 4<<10)
		for pace := time.NewTicker(40 * time.Millisecond); ; <-pace.C {
			n, err := near.Read(piece)
			if _, failed := far.Write(piece[:n]); err != nil || failed != nil {
				pace.Stop()
				_, _ = near.Close(), far.Close()
				return
			}
		}
	}
	tasks.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { pass(near) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); tasks.Wait() })
	return l.Addr().String()
}

// An answer that is under way at Shutdown arrives whole, however long that takes: a connection is open until the proxy has
// its last byte, and not until it was written here.
func TestShutdownWaitsForTheLastByte(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	answer := bytes.Repeat([]byte("0123456789abcdef"), 20<<10) // 320 KiB
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(answer)
	})
	server := tunnel.Servers{c.User + "@" + uplink(t, c.Addr())}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for name, raw := range map[string]bool{"raw": true, "gate": false} {
		cfg := c.config(target)
		cfg.Raw, cfg.Server, cfg.Control = raw, server, small(syscall.SO_SNDBUF)
		cfg.Remote = c.FreePort()
		cfg.URL = front(t, cfg.Remote)
		tun := open(t, cfg)
		tasks.Go(func() {
			resp, err := http.Get(cfg.URL)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			defer func() { _ = resp.Body.Close() }()
			down := make(chan error, 1)
			ctx := within(t, 30*time.Second)
			tasks.Go(func() { down <- tun.Shutdown(ctx) })
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("%s: the visitor got %d of %d bytes, %v", name, len(got), len(answer), err)
			}
			if err := <-down; err != nil {
				t.Errorf("%s: Shutdown: %v", name, err)
			}
		})
	}
}

// Websockets have no end, and are not waited for: the visitor is told that the server goes away, over the link that is about
// to end, and Shutdown cuts nothing.
func TestShutdownEndsWebsockets(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.gated(t, func(cfg *tunnel.Config) {
		cfg.Target = serve(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, rw)
		})
	})
	conn := c.visitor(t)
	_, _ = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", tokenOf(tun))
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	began := time.Now()
	if err := tun.Shutdown(within(t, 30*time.Second)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	t.Logf("Shutdown took %v", time.Since(began))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, []byte{0x88, 2, 0x03, 0xe9}) {
		t.Errorf("the visitor was told %x, %v", got, err)
	}
}
