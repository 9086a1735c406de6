// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// An answer that takes its time on a narrow link is whole when Shutdown returns, with the gate and without.
func TestPromiseDrain(t *testing.T) {
	for _, raw := range []bool{false, true} {
		t.Run(map[bool]string{false: "gate", true: "raw"}[raw], func(t *testing.T) {
			c := newChain(t, sshdtest.Options{})
			text := strings.Repeat("0123456789abcdef", 20<<10) // 320 KiB
			cfg := public(c.config(serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "image/png") // is not compressed
				_, _ = io.WriteString(w, text)
			})))
			cfg.Raw = raw
			way := relay.Start(t, c.Addr())
			way.Delay(5 * time.Millisecond)
			way.Rate(100 << 10) // from the start: what a wide way has let into the kernel's buffers would stand still for seconds
			tun := open(t, c.by(way, cfg))
			conn := c.visitor(t)
			_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
			must(t, err)
			if raw { // the gate would take it for a visitor who has left
				must(t, conn.CloseWrite())
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			must(t, err)
			time.Sleep(time.Second) // of 3.2: the app has closed, and the rest lies with us
			down := make(chan error, 1)
			go func() { down <- tun.Shutdown(within(t, 15*time.Second)) }()
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || len(got) != len(text) {
				t.Errorf("a visitor got %d of %d bytes, %v", len(got), len(text), err)
			}
			if err := <-down; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
}

// http.Server.Shutdown over a tunnel finishes what is under way, as it does over TCP.
func TestPromiseServerShutdown(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	begun := make(chan struct{})
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			time.Sleep(300 * time.Millisecond) // Shutdown has closed its listener
		}
		_, _ = io.WriteString(w, "finished")
	})}
	c.listen(t, srv)
	type answer struct {
		body string
		err  error
	}
	got := make(chan answer, 1)
	go func() { body, err := get(c.url + "slow"); got <- answer{body, err} }()
	<-begun
	if err := srv.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if a := <-got; a.body != "finished" || a.err != nil {
		t.Errorf("a visitor got %q, %v", a.body, a.err)
	}
}

// A server whose tunnel has failed for good ends, and says why.
func TestPromiseServeEnds(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	hosts := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(hosts, []byte(c.KnownHostsLine()), 0o600))
	cfg := c.config("")
	cfg.HostKey = hosts
	tun, err := tunnel.Listen(within(t, 20*time.Second), cfg)
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- http.Serve(tun, http.NotFoundHandler()) }()
	c.renewHostKey(t)
	await(t, tun, "failed", func(s tunnel.Status) bool { // http.Serve closes it at once then
		return s.State == tunnel.Failed || s.State == tunnel.StateClosed
	})
	select {
	case err := <-ended:
		if !errors.Is(err, tunnel.ErrHostKey) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("http.Serve: %v", err)
		}
	case <-time.After(2 * time.Second):
		t.Error("http.Serve still waits")
		_ = tun.Close()
		<-ended
	}
}

// renewHostKey restarts sshd with another host key, and returns its line for known_hosts.
func (c *chain) renewHostKey(t testing.TB) string {
	t.Helper()
	fresh := c.NewKeyFile("ed25519")
	for _, end := range []string{"", ".pub"} {
		text, err := os.ReadFile(fresh + end)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(filepath.Dir(c.KeyFile), "host_ed25519"+end), text, 0o600))
	}
	line, err := os.ReadFile(fresh + ".pub")
	must(t, err)
	c.Restart()
	return fmt.Sprintf("[%s]:%d %s", c.Host, c.Port, line)
}

// A host key that was renewed, and is known by now, is no obstacle to Reconnect. Until then it is one.
func TestPromiseAHostKeyThatIsRenewed(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	hosts := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(hosts, []byte(c.KnownHostsLine()), 0o600))
	cfg := c.config(app(t, "hello"))
	cfg.HostKey = hosts
	tun := open(t, cfg)
	line := c.renewHostKey(t)
	if s := await(t, tun, "failed", inState(tunnel.Failed)); !errors.Is(s.LastError, tunnel.ErrHostKey) {
		t.Errorf("%+v", s)
	}
	must(t, os.WriteFile(hosts, []byte(line), 0o600))
	must(t, tun.Reconnect())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for s := range tun.Watch(ctx) {
		if s.State == tunnel.Up {
			return
		}
	}
	t.Error(brief(tun))
}
