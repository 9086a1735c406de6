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

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

const viaSecret = "hunter2-p@ss/word:%"

// escaped is viaSecret as it stands in an address.
const escaped = "hunter2-p%40ss%2Fword%3A%25"

func via(t testing.TB, text string, roots ...*sshdtest.Authority) *egress.Via {
	t.Helper()
	check := &egress.TLS{}
	for _, a := range roots {
		check.Roots = a.Roots
	}
	v, err := egress.ParseVia("via", text, check)
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
	if err := l.Hold(within(t, 20*time.Second), text("sh -c 'read x'"), nil); err != nil {
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
					cfg.Port, cfg.TLS = inTLS.Port, &egress.TLS{Roots: ca.Roots}
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
