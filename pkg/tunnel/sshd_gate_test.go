// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// gated opens a tunnel with a gate, which is the default.
func (c *chain) gated(t testing.TB, change func(*tunnel.Config)) *tunnel.Tunnel {
	t.Helper()
	cfg := c.config(app(t, "company data"))
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg)
}

// status is that of an answer to a visitor with a token, "" for none.
func (c *chain) status(t testing.TB, token string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func tokenOf(tun *tunnel.Tunnel) string {
	_, token, _ := strings.Cut(tun.URL(), "#token=")
	return token
}

// The default asks for the token, which is the same after a restart, is another one for another
// version, and stands nowhere but in URL.
func TestTheLinkAdmitsAndStays(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.gated(t, nil)
	token := tokenOf(tun)
	if s := tun.Status(); len(token) != 24 || !s.TokenKept || s.Access != "token" || s.Checked != "url" {
		t.Fatalf("token of %d characters, %+v", len(token), s)
	}
	if without, with := c.status(t, ""), c.status(t, token); without != 403 || with != 200 {
		t.Errorf("without the token %d, with it %d", without, with)
	}
	shown, err := json.Marshal(tun.Status())
	if err != nil {
		t.Fatal(err)
	}
	if text := string(shown) + fmt.Sprintf("%+v", tun.Requests(10)) + c.log.String(); strings.Contains(text, token) {
		t.Errorf("the token is shown: %s", text)
	}
	_ = tun.Close()
	again := c.gated(t, nil)
	if tokenOf(again) != token {
		t.Error("another token after a restart")
	}
	if err := again.NewToken(); err != nil || c.status(t, token) != 403 || c.status(t, tokenOf(again)) != 200 || again.Status().TokenKept {
		t.Errorf("NewToken: %v, %+v", err, again.Status())
	}
	_ = again.Close()
	if next := c.gated(t, func(cfg *tunnel.Config) { cfg.TokenVersion = 2 }); tokenOf(next) == token || c.status(t, token) != 403 {
		t.Error("the token of version 1 admits to version 2")
	}
}

// A key that makes no signature twice leaves a random token, and the status says so.
func TestTokenOfAnAgent(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	inFile := c.gated(t, nil)
	token := tokenOf(inFile)
	_ = inFile.Close()
	agent := sshdtest.StartAgent(t, c.KeyFile)
	t.Setenv("HOME", t.TempDir())
	tun := c.gated(t, func(cfg *tunnel.Config) { cfg.Key, cfg.Agent = "", agent.Socket })
	if tokenOf(tun) != token || !tun.Status().TokenKept {
		t.Error("the same key in an agent gives another token")
	}
}

// Draining does not wait for the proxy's idle connections.
func TestShutdownEndsIdleConnections(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.gated(t, nil)
	if got := c.status(t, tokenOf(tun)); got != 200 {
		t.Fatalf("status %d", got)
	}
	if err := tun.Shutdown(within(t, 5*time.Second)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestRawHasNoToken(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	tun := c.expose(t, app(t, "hello"))
	if tun.URL() != c.url || tun.Status().Access != "" || tun.Requests(1) != nil || !errors.Is(tun.NewToken(), tunnel.ErrConfig) {
		t.Errorf("%s, %+v", tun.URL(), tun.Status())
	}
	wantBody(t, tun.URL(), "hello")
}

func TestAccessIsNotLeftOpenByMistake(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	for name, change := range map[string]func(*tunnel.Config){
		"raw":            func(cfg *tunnel.Config) { cfg.Raw = true },
		"weak token":     func(cfg *tunnel.Config) { cfg.Token = "letmein" },
		"repeated":       func(cfg *tunnel.Config) { cfg.Token = strings.Repeat("ab", 30) },
		"odd token":      func(cfg *tunnel.Config) { cfg.Token = strings.Repeat("aB3 ", 12) },
		"allow":          func(cfg *tunnel.Config) { cfg.Allow = []string{"10.0.0.0/8"} },
		"token, public":  func(cfg *tunnel.Config) { cfg.Token, cfg.Access.Public = "Zk3v9QmX7bTn2LrW5cYh8JpD", true },
		"expired":        func(cfg *tunnel.Config) { cfg.Expires = time.Now().Add(-time.Second) },
		"version":        func(cfg *tunnel.Config) { cfg.TokenVersion = -1 },
		"no password":    func(cfg *tunnel.Config) { cfg.Access.Passwords = map[string]string{} },
		"short password": func(cfg *tunnel.Config) { cfg.Access.Passwords = map[string]string{"ann": "secret"} },
		"colon":          func(cfg *tunnel.Config) { cfg.Access.Passwords = map[string]string{"a:b": "long enough"} },
	} {
		cfg := c.config("")
		cfg.Raw, cfg.Access = false, tunnel.Access{}
		change(&cfg)
		if _, err := tunnel.Expose(within(t, 20*time.Second), cfg); !errors.Is(err, tunnel.ErrConfig) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, ok := range map[string]bool{`"token"`: true, `"public"`: true, `{"ann":"long enough"}`: true, `"private"`: false, `7`: false} {
		_, err := tunnel.ParseConfig([]byte(`{"server":"me@h","access":` + text + `}`))
		if ok != (err == nil) {
			t.Errorf("access %s: %v", text, err)
		}
		if text == `"private"` && !strings.HasPrefix(tunnel.AsError(err).Hint.String(), "leave it out, and those are admitted who have the link") {
			t.Errorf("access %s: what opens the app to others is proposed first: %s", text, tunnel.AsError(err).Hint)
		}
	}
}
