// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

const viaSecret = "hunter2-p@ss/word:%"

// escaped is viaSecret as it stands in an address.
const escaped = "hunter2-p%40ss%2Fword%3A%25"

func via(t testing.TB, text string, roots ...*sshdtest.Authority) *Via {
	t.Helper()
	check := &TLS{}
	for _, a := range roots {
		check.Roots = a.Pool
	}
	v, err := ParseVia("via", text, check)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// carries holds that a link carries bytes both ways and leaves nothing behind.
func carries(t *testing.T, s *sshdtest.Server, cfg Config) *Link {
	t.Helper()
	sockets := atomic.Int32{}
	cfg.Control = func(string, string, syscall.RawConn) error { sockets.Add(1); return nil }
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.Hold(within(t, 20*time.Second), "sh -c 'read x'"); err != nil {
		t.Fatal(err)
	}
	visitor, accepted := visit(t, bind(t, s, l))
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { _, _ = accepted.Write(text); _ = accepted.CloseWrite() }()
	if got, err := io.ReadAll(visitor); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, ours := l.wire.socket.(*net.TCPConn); !ours || sockets.Load() == 0 {
		t.Errorf("socket %T, %d seen by Control", l.wire.socket, sockets.Load())
	}
	if before := acked(l.wire.socket); before == 0 {
		t.Error("no acknowledged bytes are seen")
	}
	return l
}

// Each kind of egress proxy, with and without a password, in clear and in TLS, and SSH in TLS besides.
func TestLinkByWayOfProxies(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	ca := sshdtest.NewAuthority(t)
	open := sshdtest.StartTinyproxy(t)
	locked := sshdtest.StartTinyproxy(t, "BasicAuth me "+strings.NewReplacer("@", "a", "/", "b", ":", "c", "%", "d").Replace(viaSecret))
	socks := sshdtest.StartMicrosocks(t)
	lockedSocks := sshdtest.StartMicrosocks(t, "-u", "me", "-P", viaSecret)
	front := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), open.Addr())
	inTLS := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), s.Addr())
	for name, way := range map[string]string{
		"CONNECT":                "http://" + open.Addr(),
		"CONNECT, password":      "http://me:hunter2-passbwordcd@" + locked.Addr(),
		"CONNECT in TLS":         "https://" + front.Addr(),
		"SOCKS5":                 "socks5://" + socks.Addr(),
		"SOCKS5, password":       "socks5h://me:" + escaped + "@" + lockedSocks.Addr(),
		"SOCKS5, password to no": "socks5://me:unused@" + socks.Addr(),
		"direct":                 "",
	} {
		for _, wrapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, wrapped), func(t *testing.T) {
				leak.Check(t)
				cfg := config(t, s)
				if way != "" {
					cfg.Via = via(t, way, ca)
				}
				if wrapped {
					cfg.Port, cfg.TLS = inTLS.Port, &TLS{Roots: ca.Pool}
				}
				l := carries(t, s, cfg)
				_, over := l.wire.Conn.(*tls.Conn)
				if direct := l.wire.Conn == l.wire.socket; over == direct || way == "" && over != wrapped {
					t.Errorf("the wire is a %T", l.wire.Conn)
				}
			})
		}
	}
}

// What is no address of a proxy is refused without a word of it: it may hold a password.
func TestViaThatIsRefused(t *testing.T) {
	for _, text := range []string{
		"http://", "http://:80", "ftp://me:hunter2@proxy:1", "socks4://proxy:1", "http://me:hunter2@proxy:99999", "http://me:hunter2@proxy:0",
		"http://me:hun#ter2@proxy:1", "http://me:12/ter2@proxy:1", "http://me:12?ter2@proxy:1", "http://me:hunter2%zz@proxy:1", "http://proxy:1/path",
		"http://me:hunter2@pro xy:1", "http://me:" + strings.Repeat("hunter2", 40) + "@proxy:1", "hunter2\x00",
	} {
		_, err := ParseVia("via", text, nil)
		e := wantFault(t, err, fault.ErrConfig, true)
		if all := e.Error() + e.Hint; strings.Contains(all, "hun") || strings.Contains(all, "ter2") || !strings.Contains(all, "via") {
			t.Errorf("%q: %v, %s", text, e, e.Hint)
		}
	}
	for text, want := range map[string]string{
		"proxy:3128": "http://proxy:3128", "http://proxy": "http://proxy:80", "HTTPS://me:hunter2@proxy/": "https://proxy:443",
		"socks5h://me@[2001:db8::1]:1": "socks5://[2001:db8::1]:1", " socks5://proxy ": "socks5://proxy:1080",
	} {
		v, err := ParseVia("via", text, nil)
		if err != nil || v.String() != want || strings.Contains(fmt.Sprintf("%v %+v %s", v, Config{Via: v}, v), "hunter2") {
			t.Errorf("%q is %v, %v; want %s", text, v, err, want)
		}
	}
}

func TestViaFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		addr string
		want string
	}{
		{nil, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "proxy:3128"}, "host:22", "http://proxy:3128 (HTTPS_PROXY)"},
		{map[string]string{"HTTPS_PROXY": "http://up:1", "https_proxy": "http://low:1", "ALL_PROXY": "http://all:1"}, "host:22", "http://low:1 (https_proxy)"},
		{map[string]string{"ALL_PROXY": "socks5://me:hunter2@all:1"}, "192.0.2.1:22", "socks5://all:1 (ALL_PROXY)"},
		{map[string]string{"HTTP_PROXY": "http://proxy:1"}, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "127.0.0.1:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "[::1]:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "localhost:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.com, 10.0.0.0/8"}, "Proxy.Example.com:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "host:443"}, "host:22", "http://proxy:1 (HTTPS_PROXY)"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "socks4://me:hunter2@proxy:1", "NO_PROXY": "host"}, "host:22", "<nil>"},
	} {
		v, err := ViaFromEnvironment(func(name string) string { return c.env[name] }, c.addr, nil)
		if got := fmt.Sprint(v); err != nil || got != c.want && (v != nil || c.want != "<nil>") {
			t.Errorf("%v for %s: %s, %v; want %s", c.env, c.addr, got, err, c.want)
		}
	}
	_, err := ViaFromEnvironment(func(string) string { return "socks4://me:hunter2@proxy:1" }, "host:22", nil)
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "https_proxy") || strings.Contains(e.Error(), "hunter2") {
		t.Errorf("%v", e)
	}
}
