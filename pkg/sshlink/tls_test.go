// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// Each way in which TLS may not lead to an SSH server has its own words, and the host key is checked
// besides.
func TestTLSThatIsRefused(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	ca, stranger := sshdtest.NewAuthority(t), sshdtest.NewAuthority(t)
	good := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), s.Addr())
	named := sshdtest.StartTLS(t, ca.Issue("proxy.example.com", 2*time.Hour), s.Addr())
	nameless := sshdtest.StartTLS(t, ca.Issue("", 2*time.Hour), s.Addr())
	expired := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 30*time.Minute), s.Addr())
	web := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), accepting(t, says("HTTP/1.1 400 Bad Request\r\n\r\n")).String())
	dead := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), "127.0.0.1:"+freeText(s))
	silent := accepting(t, silence)
	page := accepting(t, says("HTTP/1.1 302 Found\r\nLocation: https://login/\r\n\r\n"))
	alert := accepting(t, says("\x15\x03\x01\x00\x02\x02\x28"))
	for name, c := range map[string]struct {
		at            string
		change        func(*Config)
		class         error
		permanent     bool
		words, advice string
	}{
		"unknown authority":   {good.Addr(), func(c *Config) { c.TLS.Roots = stranger.Roots }, fault.ErrUnreachable, true, "is not trusted", "SSL_CERT_FILE"},
		"system's":            {good.Addr(), func(c *Config) { c.TLS.Roots = nil }, fault.ErrUnreachable, true, "is not trusted", "SSL_CERT_FILE"},
		"another name":        {named.Addr(), nil, fault.ErrUnreachable, true, `is not for "127.0.0.1" but for "proxy.example.com"`, "name"},
		"no name":             {nameless.Addr(), nil, fault.ErrUnreachable, true, "names no host", "subjectAltName for 127.0.0.1"},
		"expired":             {expired.Addr(), nil, fault.ErrUnreachable, true, "expired", "renew"},
		"SSH without TLS":     {s.Addr(), nil, fault.ErrUnreachable, true, `answers "SSH-2"`, "drop the tls://"},
		"web server without":  {page.String(), nil, fault.ErrUnreachable, true, "does not speak TLS", "login page"},
		"no handshake":        {alert.String(), nil, fault.ErrUnreachable, false, "no TLS handshake", "error.log"},
		"silence":             {silent.String(), nil, fault.ErrUnreachable, false, "did not answer the TLS handshake", "firewall"},
		"web server in TLS":   {web.Addr(), nil, fault.ErrUnreachable, false, "is not an SSH server", "stream block"},
		"sshd is down":        {dead.Addr(), nil, fault.ErrUnreachable, false, "before login", "sshd"},
		"another host key":    {good.Addr(), func(c *Config) { c.HostKeys = knows(t, "SHA256:"+strings.Repeat("A", 43)) }, fault.ErrHostKey, true, "NOT THE KNOWN ONE", "SHA256"},
		"TLS without tls://":  {good.Addr(), func(c *Config) { c.TLS = nil }, fault.ErrUnreachable, false, "before login", "tls://"},
		"alert without a tls": {alert.String(), func(c *Config) { c.TLS = nil }, fault.ErrUnreachable, false, "it speaks TLS", "tls://"},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			cfg := config(t, s)
			at, err := net.ResolveTCPAddr("tcp", c.at)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Port, cfg.TLS = at.Port, &egress.TLS{Roots: ca.Roots}
			if c.change != nil {
				c.change(&cfg)
			}
			l, err := Dial(within(t, 3*time.Second), cfg)
			if err == nil {
				_ = l.Close()
				t.Fatal("logged in")
			}
			wantViaFault(t, err, c.class, c.permanent, c.words, c.advice)
		})
	}
}

// freeText is a port on which nobody listens.
func freeText(s *sshdtest.Server) string {
	_, port, _ := net.SplitHostPort((&net.TCPAddr{Port: s.FreePort()}).String())
	return port
}

// A certificate that was accepted once and is not any more may be renewed: the link is tried again.
func TestCertificateThatWasGoodOnce(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	ca := sshdtest.NewAuthority(t)
	cfg := config(t, s)
	cfg.TLS = &egress.TLS{Roots: ca.Roots}
	cfg.Port = sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), s.Addr()).Port
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	cfg.Port = sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 30*time.Minute), s.Addr()).Port
	_, err = Dial(within(t, 20*time.Second), cfg)
	wantViaFault(t, err, fault.ErrUnreachable, false, "expired", "renew")
}

// A server behind a bastion may have SSH in TLS, and so may the bastion.
func TestTLSAndBastions(t *testing.T) {
	leak.Check(t)
	s, one := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	ca := sshdtest.NewAuthority(t)
	proxy := sshdtest.StartTinyproxy(t)
	inner := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), s.Addr())
	outer := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), one.Addr())
	cfg := by(t, s, one)
	cfg.Port, cfg.TLS = inner.Port, &egress.TLS{Roots: ca.Roots}
	cfg.Jump.Port, cfg.Jump.TLS = outer.Port, &egress.TLS{Roots: ca.Roots}
	cfg.Jump.Via = via(t, "http://"+proxy.Addr())
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	slot := bind(t, s, l)
	visitor, accepted := visit(t, slot)
	_, _ = accepted.Write([]byte("x"))
	if n, err := visitor.Read(make([]byte, 1)); n != 1 {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	cfg.Jump.Port, outer.Port = s.FreePort(), cfg.Jump.Port
	_, err = Dial(within(t, 20*time.Second), cfg)
	wantViaFault(t, err, fault.ErrHop, false, "no connection to "+cfg.Jump.Addr()+" from the proxy", "as seen from that proxy")
	cfg.Jump.Port = outer.Port
	proxy.Stop()
	_, err = Dial(within(t, 20*time.Second), cfg)
	wantViaFault(t, err, fault.ErrHop, false, "on the way, at the proxy http://"+proxy.Addr(), "HTTPS_PROXY")
}

// The end of what lies between shows, be it TLS or a proxy: an end at once, a silence by the lack of
// progress, for which a proxy's buffers are given more time.
func TestWhatLiesBetweenEnds(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	for name, c := range map[string]struct {
		start func(*testing.T, *sshdtest.Server) (*sshdtest.Egress, Config)
		end   func(*sshdtest.Egress)
	}{
		"proxy ends":   {byProxy, (*sshdtest.Egress).Stop},
		"proxy hangs":  {byProxy, (*sshdtest.Egress).Freeze},
		"TLS ends":     {byTLS, (*sshdtest.Egress).Stop},
		"TLS hangs":    {byTLS, (*sshdtest.Egress).Freeze},
		"server ends":  {byProxy, func(*sshdtest.Egress) { s.KillLinks() }},
		"server hangs": {byProxy, func(*sshdtest.Egress) { s.StopLinks() }},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			between, cfg := c.start(t, s)
			l, err := Dial(within(t, 20*time.Second), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			begin := time.Now()
			c.end(between)
			select {
			case <-l.Done():
				wantFault(t, l.Err(), fault.ErrUnreachable, false)
				if took := time.Since(begin); strings.HasSuffix(name, "hangs") && cfg.Via != nil && took < farPatience*tick {
					t.Errorf("given up after %v", took)
				}
			case <-time.After(20 * time.Second):
				t.Error("the link still believes to be alive")
			}
		})
	}
}

func byProxy(t *testing.T, s *sshdtest.Server) (*sshdtest.Egress, Config) {
	e, cfg := sshdtest.StartTinyproxy(t), config(t, s)
	cfg.Via = via(t, "http://"+e.Addr())
	return e, cfg
}

func byTLS(t *testing.T, s *sshdtest.Server) (*sshdtest.Egress, Config) {
	ca := sshdtest.NewAuthority(t)
	e, cfg := sshdtest.StartTLS(t, ca.Issue("127.0.0.1", 2*time.Hour), s.Addr()), config(t, s)
	cfg.Port, cfg.TLS = e.Port, &egress.TLS{Roots: ca.Roots}
	return e, cfg
}
