// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// past is what a visitor gets who comes past nginx, "" if nothing.
func (c *chain) past(token string) string {
	req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.2:%d/", c.port), nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return ""
	}
	_ = resp.Body.Close()
	return resp.Status
}

// GatewayPorts yes opens the slot to the network. An app that is open to everybody is not exposed so, at the set-up as
// later; one that asks for the link is, and its owner is told.
func TestSlotThatTheNetworkReaches(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"GatewayPorts yes", "MaxSessions 1"}}) // of which the status warns, too, if of nothing graver
	public := func(cfg *tunnel.Config) { cfg.Access.Public = true }
	for name, change := range map[string]func(*tunnel.Config){
		`access="public"`:              public,
		"raw=True":                     func(cfg *tunnel.Config) { cfg.Raw = true; public(cfg) },
		`access="public", check="off"`: func(cfg *tunnel.Config) { cfg.Check = tunnel.CheckOff; public(cfg) },
	} {
		cfg := c.config(app(t, "company data"))
		cfg.Raw, cfg.Access = false, tunnel.Access{}
		change(&cfg)
		tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
		if e := tunnel.AsError(err); tun != nil || !errors.Is(err, tunnel.ErrForward) || !e.Permanent || !strings.Contains(e.Hint.String(), "GatewayPorts no") {
			t.Errorf("%s: %v", name, err)
		}
		if got := c.past(""); got != "" {
			t.Errorf("%s: a visitor past nginx gets %q", name, got)
		}
		compat.Row(t, "servers", "GatewayPorts yes, with "+name, compat.Outcome(err))
	}
	const graver, other = "bypasses nginx", "dies without a word"
	before := strings.Count(c.log.String(), other)
	tun := c.gated(t, nil)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(c.log.String(), graver) || strings.Count(c.log.String(), other) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not logged")
		}
	}
	if got := c.past(tokenOf(tun)); got != "200 OK" {
		t.Errorf("past nginx: %q", got)
	}
	row := rowOf(t, tun, "exposure")
	if !row.OK || !row.Warn || !strings.Contains(row.Seen, fmt.Sprint(c.port)) || !strings.Contains(row.Hint.String(), "GatewayPorts no") {
		t.Errorf("%+v", row)
	}
	s := tun.Status()
	if s.State != tunnel.Up || s.Requests != 1 || s.Warning == nil || s.Warning.Error() != "forward: "+row.Seen {
		t.Fatalf("%+v", s)
	}
	compat.Row(t, "servers", "GatewayPorts yes, where visitors need the link", compat.Taken+": with a warning: "+s.Warning.Error())
}

// What sshd binds as it was asked to is not complained about, whatever account it is; where the account may not look, that is
// said, and costs the set-up nothing.
func TestSlotThatTheNetworkDoesNotReach(t *testing.T) {
	for config, seen := range map[string]string{
		"GatewayPorts no":              "the proxy itself alone",
		"GatewayPorts clientspecified": "the proxy itself alone",
		"PermitOpen none":              "cannot be told",
	} {
		c := newChain(t, sshdtest.Options{Config: []string{config}})
		began := time.Now()
		tun := c.gated(t, func(cfg *tunnel.Config) { cfg.Access.Public = true })
		t.Logf("%s: %v", config, time.Since(began))
		if row := rowOf(t, tun, "exposure"); !row.OK || row.Warn || !strings.Contains(row.Seen, seen) {
			t.Errorf("%s: %+v", config, row)
		}
		if strings.Contains(c.log.String(), "bypasses nginx") {
			t.Errorf("%s: warned about", config)
		}
		compat.Row(t, "servers", config, compat.Taken)
		_ = tun.Close()
	}
}

// An admin who opens the slot later is found at the next link.
func TestSlotThatIsOpenedLater(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"GatewayPorts no"}})
	tun := c.gated(t, func(cfg *tunnel.Config) { cfg.Access.Public = true })
	c.Reconfigure("GatewayPorts no", "GatewayPorts yes")
	s := await(t, tun, "the refusal", inState(tunnel.Failed))
	if !errors.Is(s.LastError, tunnel.ErrForward) || c.past("") != "" {
		t.Errorf("%+v", s)
	}
	c.Reconfigure("GatewayPorts yes", "GatewayPorts no")
	must(t, tun.Reconnect())
	await(t, tun, "all well", inState(tunnel.Up))
}

// However far the proxy is, an app that is open to everybody is not opened where GatewayPorts yes has the network reach the slot.
func TestSlotThatTheNetworkReachesFarAway(t *testing.T) {
	for _, delay := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond} { // each way
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			c := newChain(t, sshdtest.Options{Config: []string{"GatewayPorts yes"}})
			way := relay.Start(t, c.Addr())
			way.Delay(delay)
			cfg := c.by(way, c.config(app(t, "company data")))
			cfg.Raw, cfg.Access = false, tunnel.Access{Public: true}
			tun, err := tunnel.Expose(within(t, 30*time.Second), cfg)
			if !errors.Is(err, tunnel.ErrForward) || !strings.Contains(err.Error(), "bypasses nginx") {
				t.Errorf("round trip %v: %v; past nginx a visitor gets %q", 2*delay, err, c.past(""))
			}
			if err == nil {
				_ = tun.Close()
			}
		})
	}
}
