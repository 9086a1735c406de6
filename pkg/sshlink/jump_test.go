// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// by is the Config for s by way of bastions, the last of which is next to s.
func by(t testing.TB, s *sshdtest.Server, bastions ...*sshdtest.Server) Config {
	t.Helper()
	cfg := config(t, s)
	if n := len(bastions); n > 0 {
		jump := by(t, bastions[n-1], bastions[:n-1]...)
		cfg.Jump = &jump
	}
	return cfg
}

// A link by way of bastions carries what any other does, and nothing of it is left.
func TestLinkOverBastions(t *testing.T) {
	leak.Check(t)
	s, one, two := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	for n, cfg := range []Config{by(t, s, one), by(t, s, one, two)} {
		l, err := Dial(within(t, 20*time.Second), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Hold(within(t, 20*time.Second), text("sh -c 'read x'"), nil); err != nil {
			t.Fatal(err)
		}
		slot := bind(t, s, l)
		visitor, accepted := visit(t, slot)
		text := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() { _, _ = accepted.Write(text); _ = accepted.CloseWrite() }()
		if got, err := io.ReadAll(visitor); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d: %d bytes, %v", n+1, len(got), err)
		}
		if !s.HoldsPort(slot.port) || len(one.Slots()) > 0 {
			t.Error("the slot is not on the proxy")
		}
		if err := l.Close(); err != nil || l.Err() != nil {
			t.Errorf("Close: %v, %v", err, l.Err())
		}
		for under := l.under; under != nil; under = under.under {
			if !isDone(under.done) {
				t.Errorf("the link to %s is still there", under.cfg.Addr())
			}
		}
	}
}

// The bastion's end is that of the link, and is told as such.
func TestBastionEnds(t *testing.T) {
	leak.Check(t)
	s, one := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	for name, end := range map[string]func(){"killed": one.KillLinks, "black hole": one.StopLinks} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			l, err := Dial(within(t, 20*time.Second), by(t, s, one))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			end()
			select {
			case <-l.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("not noticed in 20 s")
			}
			e := wantFault(t, l.Err(), fault.ErrHop, false)
			if !strings.Contains(e.Error(), one.Addr()) || strings.Contains(e.Error(), s.Addr()) || !strings.HasPrefix(e.Op, "jump ") {
				t.Errorf("%v", e)
			}
			if name == "black hole" && !strings.Contains(e.Error(), "no progress for 1.5s") {
				t.Errorf("%v: want it noticed by the bastion's own link, after 1.5 s; the other has %v", e, farPatience*tick)
			}
		})
	}
}

// The proxy may be gone while the bastion is well.
func TestProxyEndsBehindABastion(t *testing.T) {
	leak.Check(t)
	s, one := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	for name, end := range map[string]func(){"killed": s.KillLinks, "black hole": s.StopLinks} {
		l, err := Dial(within(t, 20*time.Second), by(t, s, one))
		if err != nil {
			t.Fatal(err)
		}
		end()
		select {
		case <-l.Done():
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: not noticed in 30 s", name)
		}
		if e := wantFault(t, l.Err(), fault.ErrUnreachable, false); strings.HasPrefix(e.Op, "jump ") {
			t.Errorf("%s: the bastion is blamed: %v", name, e)
		}
		_ = l.Close()
	}
}

// Errors say at which machine they happened.
func TestBastionsThatFail(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	s, one := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	closed := sshdtest.Start(t, sshdtest.Options{Config: []string{"AllowTcpForwarding no"}})
	gone := sshdtest.Start(t, sshdtest.Options{})
	gone.Stop()
	stranger, err := sshauth.LoadKeys(sshdtest.NewKey(t, "ed25519"), "")
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := hostkeys.New("")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg       Config
		spoil     func(jump, cfg *Config)
		class     error
		permanent bool
		op, at    string
	}{
		"not there":          {by(t, s, gone), nil, fault.ErrHop, false, "jump connect", gone.Addr()},
		"first not there":    {by(t, s, gone, one), nil, fault.ErrHop, false, "jump connect", gone.Addr()},
		"no name":            {by(t, s, one), func(j, _ *Config) { j.Host = "nosuchname.invalid" }, fault.ErrHop, false, "jump resolve", "nosuchname.invalid"},
		"host key":           {by(t, s, one), func(j, _ *Config) { j.HostKeys = nothing }, fault.ErrHostKey, true, "jump host key", one.Addr()},
		"the proxy's key":    {by(t, s, one), func(j, c *Config) { j.HostKeys = c.HostKeys }, fault.ErrHostKey, true, "jump host key", one.Addr()},
		"login":              {by(t, s, one), func(j, _ *Config) { j.Keys = stranger }, fault.ErrAuth, true, "jump login", one.Addr()},
		"forbidden":          {by(t, s, closed), nil, fault.ErrHop, true, "jump forward", closed.Addr()},
		"proxy not there":    {by(t, gone, one), nil, fault.ErrUnreachable, false, "jump connect", gone.Addr()},
		"proxy's host key":   {by(t, s, one), func(_, c *Config) { c.HostKeys = nothing }, fault.ErrHostKey, true, "host key", s.Addr()},
		"bastion's for it":   {by(t, s, one), func(j, c *Config) { c.HostKeys = j.HostKeys }, fault.ErrHostKey, true, "host key", s.Addr()},
		"login to the proxy": {by(t, s, one), func(_, c *Config) { c.Keys = stranger }, fault.ErrAuth, true, "login", s.Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			if c.spoil != nil {
				c.spoil(c.cfg.Jump, &c.cfg)
			}
			_, err := Dial(within(t, 20*time.Second), c.cfg)
			e := wantFault(t, err, c.class, c.permanent)
			if e.Op != c.op || !strings.Contains(e.Error(), c.at) || e.Hint == "" {
				t.Errorf("op %q, %v, hint %q; want op %q and %s", e.Op, e, e.Hint, c.op, c.at)
			}
		})
	}
}

// A fingerprint's kind is found by asking; the bastion is logged in to once for that.
func TestKindsAreAskedOverOneBastionLink(t *testing.T) {
	leak.Check(t)
	s, one := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{"rsa"}}), sshdtest.Start(t, sshdtest.Options{})
	l, err := Dial(within(t, 20*time.Second), by(t, s, one))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if n := strings.Count(one.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestSocketSlots(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	path := t.TempDir() + "/slot"
	l := dialLink(t, s)
	slot, err := l.ListenUnix(within(t, 20*time.Second), path)
	if err != nil {
		t.Fatal(err)
	}
	if slot.Addr().Network() != "unix" || slot.Addr().String() != path {
		t.Errorf("Addr %v", slot.Addr())
	}
	visit := func(slot *Listener) {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		a, err := slot.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		_, _ = a.Write([]byte("hello"))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		if a.RemoteAddr().String() == "" || a.LocalAddr().String() != path {
			t.Errorf("from %v to %v", a.RemoteAddr(), a.LocalAddr())
		}
	}
	visit(slot)
	_, err = dialLink(t, s).ListenUnix(within(t, 20*time.Second), path)
	if e := wantFault(t, err, fault.ErrForward, false); !strings.Contains(e.Hint.String(), "StreamLocalBindUnlink") || !strings.Contains(e.Error(), path) {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		t.Error("somebody listens after Close")
	}
	if _, err := slot.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	// The file is still there: the next one needs a server that removes it.
	taker := sshdtest.Start(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	for range 2 {
		slot, err := dialLink(t, taker).ListenUnix(within(t, 20*time.Second), path)
		if err != nil {
			t.Fatal(err)
		}
		visit(slot)
	}
}

func TestSocketsThatAreForbidden(t *testing.T) {
	leak.Check(t)
	for _, line := range []string{"AllowStreamLocalForwarding no", "AllowStreamLocalForwarding local", "DisableForwarding yes"} {
		s := sshdtest.Start(t, sshdtest.Options{Config: []string{line}})
		_, err := dialLink(t, s).ListenUnix(within(t, 20*time.Second), t.TempDir()+"/slot")
		if e := wantFault(t, err, fault.ErrForward, false); !strings.Contains(e.Hint.String(), "AllowStreamLocalForwarding") {
			t.Errorf("%s: %v", line, e)
		}
	}
}
