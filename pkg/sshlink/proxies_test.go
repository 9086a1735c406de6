// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// wantViaFault holds that an error by way of a proxy is of a class, has these words and holds no secret.
func wantViaFault(t *testing.T, err, class error, permanent bool, words, advice string) {
	t.Helper()
	e := wantFault(t, err, class, permanent)
	if !strings.Contains(e.Error(), words) || !strings.Contains(e.Hint.String(), advice) || e.Hint == "" {
		t.Errorf("%v, hint %q; want %q, %q", e, e.Hint, words, advice)
	}
	all := fmt.Sprintf("%+v %v %s", err, errors.Unwrap(e.Err), e.Hint)
	for _, secret := range []string{"hunter2", base64.StdEncoding.EncodeToString([]byte("me:" + viaSecret))[:12]} {
		if strings.Contains(all, secret) {
			t.Errorf("the error holds %q: %s", secret, all)
		}
	}
}

// What real proxies refuse is told apart.
func TestProxiesThatRefuse(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	http := sshdtest.StartTinyproxy(t).Addr()
	locked := sshdtest.StartTinyproxy(t, "BasicAuth me right").Addr()
	only443 := sshdtest.StartTinyproxy(t, "ConnectPort 443").Addr()
	socks := sshdtest.StartMicrosocks(t).Addr()
	lockedSocks := sshdtest.StartMicrosocks(t, "-u", "me", "-P", "right").Addr()
	closed := fmt.Sprintf("127.0.0.1:%d", s.FreePort())
	silent := accepting(t, silence).String() // as tinyproxy is, unless a newline is in the hello by chance
	for name, c := range map[string]struct {
		via, to       string
		class         error
		permanent     bool
		words, advice string
	}{
		"password wanted":        {"http://" + locked, s.Addr(), fault.ErrHop, true, "wants a password", "user:password@"},
		"another password":       {"http://me:" + escaped + "@" + locked, s.Addr(), fault.ErrHop, true, "refuses the one that was given", "user:password@"},
		"socks password wanted":  {"socks5://" + lockedSocks, s.Addr(), fault.ErrHop, true, "wants a password", "socks5://user:password@"},
		"another socks password": {"socks5://me:" + escaped + "@" + lockedSocks, s.Addr(), fault.ErrHop, true, "refuses the one that was given", "socks5://user:password@"},
		"port forbidden":         {"http://me:" + escaped + "@" + only443, s.Addr(), fault.ErrHop, true, "refuses a connection to " + s.Addr(), "tls://"},
		"server refuses":         {"http://me:" + escaped + "@" + http, closed, fault.ErrUnreachable, false, "no connection to " + closed + " from the proxy", "sshd listens"},
		"server refuses socks":   {"socks5://me:" + escaped + "@" + socks, closed, fault.ErrUnreachable, false, "connection refused", "sshd listens"},
		"name unknown":           {"http://" + http, "no-such-name.invalid:22", fault.ErrUnreachable, false, "no-such-name.invalid", "as seen from that proxy"},
		"name unknown to socks":  {"socks5://" + socks, "no-such-name.invalid:22", fault.ErrUnreachable, false, "no-such-name.invalid", "as seen from that proxy"},
		"proxy refuses":          {"http://me:" + escaped + "@" + closed, s.Addr(), fault.ErrHop, false, "connection refused", "HTTPS_PROXY"},
		"proxy's name unknown":   {"http://me:" + escaped + "@no-such-name.invalid:3128", s.Addr(), fault.ErrHop, false, "does not resolve", "HTTPS_PROXY"},
		"SSH as HTTP":            {"http://me:" + escaped + "@" + s.Addr(), s.Addr(), fault.ErrHop, true, "SSH-2.0-", "check the port"},
		"SSH as SOCKS":           {"socks5://me:" + escaped + "@" + s.Addr(), s.Addr(), fault.ErrHop, true, "is not such a proxy", "check the port"},
		"HTTP as SOCKS":          {"socks5://me:" + escaped + "@" + http, s.Addr(), fault.ErrHop, false, "no other answer", "another kind"},
		"SOCKS as HTTP":          {"http://me:" + escaped + "@" + socks, s.Addr(), fault.ErrHop, true, `"\x05\xff"`, "kind"},
		"silence as HTTPS":       {"https://me:" + escaped + "@" + silent, s.Addr(), fault.ErrHop, false, "did not answer the TLS handshake", "something else than TLS"},
		"SSH as HTTPS":           {"https://me:" + escaped + "@" + s.Addr(), s.Addr(), fault.ErrHop, true, "does not speak TLS", "port"},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			cfg := config(t, s)
			host, port, _ := net.SplitHostPort(c.to)
			cfg.Host = host
			_, _ = fmt.Sscan(port, &cfg.Port)
			cfg.Via = via(t, c.via)
			l, err := Dial(within(t, 3*time.Second), cfg)
			if err == nil {
				_ = l.Close()
				t.Fatal("logged in")
			}
			wantViaFault(t, err, c.class, c.permanent, c.words, c.advice)
		})
	}
}

// after reads a request first.
func after(serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		head := make([]byte, 0, 4096)
		for !bytes.Contains(head, []byte("\r\n\r\n")) {
			n, err := c.Read(head[len(head):cap(head)])
			if err != nil {
				return
			}
			head = head[:len(head)+n]
		}
		serve(c)
	}
}

// What a proxy may say in place of an answer: each is told in time, in its own words.
func TestProxiesThatMisbehave(t *testing.T) {
	leak.Check(t)
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + viaSecret))
	for name, c := range map[string]struct {
		serve         func(net.Conn)
		class         error
		permanent     bool
		words, advice string
	}{
		"login page":           {after(says("HTTP/1.1 302 Found\r\nLocation: https://login/\r\n\r\n")), fault.ErrHop, true, "as for a login", "page"},
		"login page as 200":    {after(says("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>")), fault.ErrHop, true, "as for a login", "page"},
		"login page unsaid":    {after(says("HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE html><html>Please log in")), fault.ErrHop, true, "as for a login", "page"},
		"login wanted by 511":  {after(says("HTTP/1.1 511 Network Authentication Required\r\n\r\n")), fault.ErrHop, true, "as for a login", "page"},
		"other kinds of login": {after(says("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM x\r\n\r\n")), fault.ErrHop, true, `"Negotiate, NTLM"`, "Basic"},
		"web server":           {after(says("HTTP/1.1 405 Not Allowed\r\n\r\n")), fault.ErrHop, true, "is not such a proxy", "port"},
		"bad gateway":          {after(says("HTTP/1.1 502 Bad Gateway\r\n\r\n")), fault.ErrUnreachable, false, "502 Bad Gateway", "sshd listens"},
		"gateway timeout":      {after(says("HTTP/1.1 504 Gateway Timeout\r\n\r\n")), fault.ErrUnreachable, false, "504", "sshd listens"},
		"endless line":         {after(flood("HTTP/1.1 200 ", bytes.Repeat([]byte("x"), 4096))), fault.ErrHop, true, "is not such a proxy", "port"},
		"endless head":         {after(flood("HTTP/1.1 200 OK\r\n", bytes.Repeat([]byte("A: b\r\n"), 600))), fault.ErrHop, true, "is not such a proxy", "port"},
		"endless interims":     {after(flood("", bytes.Repeat([]byte("HTTP/1.1 100 Continue\r\n\r\n"), 100))), fault.ErrHop, true, "is not such a proxy", "port"},
		"garbage":              {after(says("\x00\x1b[2J\xff\n")), fault.ErrHop, true, `\x1b[2J`, "port"},
		"half a head":          {after(says("HTTP/1.1 200 OK\r\nA: b")), fault.ErrHop, true, "is not such a proxy", "port"},
		"end":                  {after(says("")), fault.ErrHop, false, "gave no connection", "kind"},
		"silence":              {after(silence), fault.ErrHop, false, "within", "443"},
		"echo":                 {func(c net.Conn) { _, _ = io.Copy(c, c) }, fault.ErrHop, true, "is not such a proxy", "port"},
		"password in reason":   {after(says("HTTP/1.1 403 no " + viaSecret + " Basic " + basic + "\r\n\r\n")), fault.ErrHop, true, "refuses a connection", "tls://"},
		"password after 200":   {after(says("HTTP/1.1 200 OK\r\n\r\nBasic " + basic + "\r\n")), fault.ErrUnreachable, false, "not an SSH server", "port"},
		"silence after 200":    {after(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); silence(c) }), fault.ErrUnreachable, false, "no SSH banner", "ssh-keyscan"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := accepting(t, c.serve)
			cfg := fakeConfig(t, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22}, newSigner(t))
			cfg.Via = via(t, "http://me:"+escaped+"@"+proxy.String())
			_, err := Dial(within(t, 2*time.Second), cfg)
			wantViaFault(t, err, c.class, c.permanent, c.words, c.advice)
		})
	}
}

// What a SOCKS5 proxy may say: the library tells its refusals by words alone, we by their numbers.
func TestSOCKSThatMisbehaves(t *testing.T) {
	leak.Check(t)
	for name, c := range map[string]struct {
		said          string
		class         error
		permanent     bool
		words, advice string
	}{
		"no method":          {"\x05\xff", fault.ErrHop, true, "wants a password", "user:password@"},
		"by its rules":       {"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", fault.ErrHop, true, "refuses a connection", "443"},
		"by its rules, late": {"\x05\x02\x01\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", fault.ErrHop, true, "refuses a connection", "443"},
		"host unreachable":   {"\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", fault.ErrUnreachable, false, "host unreachable", "sshd listens"},
		"SOCKS4":             {"\x00\x5a\x00\x00\x00\x00\x00\x00", fault.ErrHop, true, "is not such a proxy", "socks5"},
		"half an answer":     {"\x05", fault.ErrHop, false, "gave no connection", "kind"},
		"odd address":        {"\x05\x00\x05\x00\x00\x09\x00", fault.ErrHop, false, "gave no connection", "kind"},
		"silence":            {"", fault.ErrHop, false, "within", "443"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := accepting(t, func(conn net.Conn) {
				if _, err := conn.Read(make([]byte, 64)); err == nil {
					_, _ = io.WriteString(conn, c.said)
				}
				if c.said == "" {
					silence(conn)
				} else {
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				}
			})
			cfg := fakeConfig(t, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22}, newSigner(t))
			cfg.Via = via(t, "socks5://me:"+escaped+"@"+proxy.String())
			_, err := Dial(within(t, 2*time.Second), cfg)
			wantViaFault(t, err, c.class, c.permanent, c.words, c.advice)
		})
	}
}

// A proxy that worked once is not given up for an answer that would be permanent at first, but for
// a password; what follows its head is the server's, in however many pieces it comes.
func TestProxyThatWorkedOnce(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	var answer atomic.Pointer[string]
	proxy := accepting(t, after(func(c net.Conn) {
		if a := answer.Load(); a != nil {
			says(*a)(c)
			return
		}
		to, err := net.Dial("tcp", s.Addr())
		if err != nil {
			return
		}
		defer func() { _ = to.Close() }()
		banner := make([]byte, 256)
		n, _ := to.Read(banner)
		_, _ = c.Write(append([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\nX: y\n\n"), banner[:n]...))
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		_, _ = io.Copy(c, to)
	}))
	cfg := config(t, s)
	cfg.Via = via(t, "http://me:"+escaped+"@"+proxy.String())
	try := func() error {
		l, err := Dial(within(t, 20*time.Second), cfg)
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	forbidden, password := "HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 407 Password\r\n\r\n"
	answer.Store(&forbidden)
	wantFault(t, try(), fault.ErrHop, false)
	answer.Store(&password)
	wantFault(t, try(), fault.ErrHop, true)
}

// Who gives up while a proxy, or TLS, is silent has not to wait for it.
func TestSilentProxyIsCancelled(t *testing.T) {
	for _, way := range []string{"http://", "https://", "socks5://", "tls"} {
		leak.Check(t)
		asked := make(chan struct{})
		at := accepting(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); close(asked); silence(c) })
		cfg := fakeConfig(t, at, newSigner(t))
		if cfg.TLS = (&egress.TLS{}); way != "tls" {
			cfg.TLS, cfg.Via = nil, via(t, way+at.String())
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		begin := time.Now()
		if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) || time.Since(begin) > 5*time.Second {
			t.Errorf("%s: %v after %v", way, err, time.Since(begin))
		}
	}
}
