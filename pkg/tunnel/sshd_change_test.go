// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// changeable are machines with an app that visitors see at url, by the kind of proxy.
func changeable(t *testing.T, test func(t *testing.T, c *chain, cfg tunnel.Config)) {
	t.Run("plain", func(t *testing.T) {
		c := newChain(t, sshdtest.Options{})
		cfg := c.config(app(t, "company data"))
		cfg.Raw, cfg.Access = false, tunnel.Access{}
		test(t, c, cfg)
	})
	t.Run("prepared", func(t *testing.T) {
		r := newRendered(t)
		test(t, &r.chain, r.described("sales", app(t, "company data")))
	})
}

// stream asks for the app again and again until it is told to stop, one request after the other, and
// returns how many there were and what went wrong with them.
func stream(c *chain, token string) (stop func() (asked int, failed []string)) {
	var end atomic.Bool
	var asked int
	var failed []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		for !end.Load() {
			req, err := http.NewRequest(http.MethodGet, c.url, nil)
			if err != nil {
				failed = append(failed, err.Error())
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			asked++
			resp, err := client.Do(req)
			if err != nil {
				failed = append(failed, err.Error())
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				failed = append(failed, resp.Status)
			}
		}
	}()
	return func() (int, []string) {
		end.Store(true)
		<-done
		return asked, failed
	}
}

// A mistake is found before anything is touched, and a change that cannot be had leaves what there is.
func TestAMistakeLeavesTheTunnel(t *testing.T) {
	changeable(t, func(t *testing.T, c *chain, cfg tunnel.Config) {
		tun := open(t, cfg)
		stop := stream(c, tokenOf(tun))
		for name, spoil := range map[string]func(*tunnel.Config){
			"a short token":         func(cfg *tunnel.Config) { cfg.Token = "hello" },
			"no such key":           func(cfg *tunnel.Config) { cfg.Key = "/nonexistent/key" },
			"half a fingerprint":    func(cfg *tunnel.Config) { cfg.HostKey = "SHA256:x" },
			"a version of nothing":  func(cfg *tunnel.Config) { cfg.TokenVersion = -1 },
			"an end that has been":  func(cfg *tunnel.Config) { cfg.Expires = time.Now().Add(-time.Hour) },
			"networks that are not": func(cfg *tunnel.Config) { cfg.Allow = []string{"everybody"} },
		} {
			bad := cfg
			bad.TokenVersion = 2 // would narrow access, were it not for the mistake
			spoil(&bad)
			if changed, _, err := tun.Admit(bad); !errors.Is(err, tunnel.ErrConfig) || changed != nil {
				t.Errorf("%s: admit %v, %v", name, changed, err)
			}
			if _, err := tun.Reopen(within(t, 5*time.Second), bad); !errors.Is(err, tunnel.ErrConfig) {
				t.Errorf("%s: reopen: %v", name, err)
			}
		}
		for name, change := range map[string]struct {
			spoil func(*tunnel.Config)
			want  error
			in    time.Duration // what is permanent is told as soon as it is known
		}{
			"a key that may not log in": {func(cfg *tunnel.Config) { cfg.Key = sshdtest.NewKey(t, "ed25519") }, tunnel.ErrAuth, 20 * time.Second},
			"another host key":          {func(cfg *tunnel.Config) { cfg.HostKey = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }, tunnel.ErrHostKey, 20 * time.Second},
			"no way to the proxy": {func(cfg *tunnel.Config) {
				cfg.Control = func(string, string, syscall.RawConn) error { return errors.New("not now") }
			}, tunnel.ErrUnreachable, time.Second},
		} {
			bad := cfg
			change.spoil(&bad)
			if _, err := tun.Reopen(within(t, change.in), bad); !errors.Is(err, change.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		asked, failed := stop()
		if len(failed) > 0 || asked == 0 {
			t.Errorf("%d of %d requests failed: %q", len(failed), asked, failed)
		}
		if s := tun.Status(); s.State != tunnel.Up && s.State != tunnel.Degraded || s.Reconnects != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// What concerns visitors alone changes in the live gate, while the proxy is away too.
func TestVisitorsSettingsNeedNoProxy(t *testing.T) {
	changeable(t, func(t *testing.T, c *chain, cfg tunnel.Config) {
		var away atomic.Bool
		cfg.Control = func(string, string, syscall.RawConn) error {
			if away.Load() {
				return errors.New("not now")
			}
			return nil
		}
		tun := open(t, cfg)
		first := tokenOf(tun)
		away.Store(true)
		c.KillLinks()
		await(t, tun, "the loss", inState(tunnel.Reconnecting))
		cfg.TokenVersion = 2
		changed, rest, err := tun.Admit(cfg)
		if err != nil || rest || !slices.Equal(changed, []string{"token_version"}) {
			t.Fatalf("changed %q, reopen %v, %v", changed, rest, err)
		}
		second := tokenOf(tun)
		away.Store(false)
		must(t, tun.Reconnect())
		await(t, tun, "the return", inState(tunnel.Up))
		if a, b := c.status(t, first), c.status(t, second); a != 403 || b != 200 {
			t.Errorf("the earlier token gets %d, the new one %d", a, b)
		}
		if changed, rest, err = tun.Admit(cfg); err != nil || rest || changed != nil {
			t.Errorf("the same settings once more: %q, %v, %v", changed, rest, err)
		}
		cfg.Access = tunnel.Access{Public: true}
		if _, _, err = tun.Admit(cfg); err != nil || c.status(t, "") != 200 || tun.Status().Access != "public" {
			t.Errorf("public: %v, %+v", err, tun.Status())
		}
		cfg.Access = tunnel.Access{Passwords: map[string]string{"anna": "correct horse"}}
		if _, _, err = tun.Admit(cfg); err != nil || c.status(t, second) != 401 {
			t.Errorf("a password: %v, a token gets %d", err, c.status(t, second))
		}
		cfg.Access, cfg.Connections = tunnel.Access{}, 3
		if changed, rest, err = tun.Admit(cfg); err != nil || !rest || !slices.Equal(changed, []string{"access"}) || c.status(t, second) != 200 {
			t.Errorf("the token again, and a third link: %q, %v, %v", changed, rest, err)
		}
	})
}

// A change of the way is made before the old one is broken: on a prepared proxy nothing fails, on a plain one only
// who comes in the round trip in which the port passes on, and what is under way is answered on both.
func TestReopenMakesBeforeItBreaks(t *testing.T) {
	changeable(t, func(t *testing.T, c *chain, cfg tunnel.Config) {
		begun, finish := make(chan struct{}, 1), make(chan struct{})
		cfg.Target = serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Slow") != "" {
				begun <- struct{}{}
				<-finish
			}
			_, _ = fmt.Fprint(w, "company data")
		})
		tun := open(t, cfg)
		token := tokenOf(tun)
		slow := make(chan error, 1)
		go func() {
			req, _ := http.NewRequest(http.MethodPost, c.url, nil)
			req.Header = http.Header{"Authorization": {"Bearer " + token}, "Slow": {"1"}}
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err == nil {
				_ = resp.Body.Close()
				err = map[bool]error{false: errors.New(resp.Status)}[resp.StatusCode == 200]
			}
			slow <- err
		}()
		<-begun
		stop := stream(c, token)
		cfg.Agent = "none" // differs, and means the same
		next, err := tun.Reopen(within(t, 20*time.Second), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		close(finish)
		if err := <-slow; err != nil {
			t.Errorf("a request that was under way: %v", err)
		}
		await(t, tun, "the end of the old one", inState(tunnel.StateClosed))
		asked, failed := stop()
		t.Logf("%d of %d requests failed: %q", len(failed), asked, failed)
		if prepared := next.Status().Name != ""; prepared && len(failed) > 0 {
			t.Error("some failed")
		}
		for range 20 {
			if got := c.status(t, token); got != http.StatusOK {
				t.Errorf("afterwards a visitor gets %d", got)
			}
		}
		if s := next.Status(); s.State != tunnel.Up && s.State != tunnel.Degraded || tokenOf(next) != token {
			t.Errorf("status %+v, the link has changed: %v", s, tokenOf(next) != token)
		}
	})
}

// Whenever a change is given up, and when it fails after the slots have passed on, there is a tunnel.
func TestAReopenThatEndsEarlyGivesTheSlotsBack(t *testing.T) {
	changeable(t, func(t *testing.T, c *chain, cfg tunnel.Config) {
		tun := open(t, cfg)
		token := tokenOf(tun)
		start := time.Now()
		cfg.Agent = "none"
		next, err := tun.Reopen(within(t, 20*time.Second), cfg)
		must(t, err)
		takes := time.Since(start)
		for n := range 20 {
			cfg.Agent = fmt.Sprintf("/nonexistent/%d", n)
			ctx, cancel := context.WithTimeout(t.Context(), takes*time.Duration(n+1)/16)
			other, err := next.Reopen(ctx, cfg)
			cancel()
			if err == nil {
				next = other
			}
			if got := c.status(t, token); got != 200 {
				t.Errorf("given up after %d/16 of %v (%v): a visitor gets %d", n+1, takes, err, got)
			}
		}
		elsewhere := front(t, c.FreePort())
		wrong := cfg
		wrong.URL = elsewhere
		if other, err := next.Reopen(within(t, 4*time.Second), wrong); !errors.Is(err, tunnel.ErrForward) {
			t.Errorf("a URL that leads elsewhere: %v, %v", other, err)
		}
		if got := c.status(t, token); got != 200 {
			t.Errorf("after that a visitor gets %d", got)
		}
		s := await(t, next, "all links", func(s tunnel.Status) bool { return s.State == tunnel.Up })
		if s.LastError != nil {
			t.Errorf("status %+v", s)
		}
		must(t, next.Close())
	})
}

// A link that was withdrawn by NewToken stays so when the way changes.
func TestAWithdrawnLinkStaysWithdrawn(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(app(t, "company data"))
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	tun := open(t, cfg)
	first := tokenOf(tun)
	must(t, tun.NewToken())
	cfg.Agent, cfg.Expires = "none", time.Now().Add(time.Hour)
	if _, _, err := tun.Admit(cfg); err != nil {
		t.Fatal(err)
	}
	dated := tokenOf(tun)
	next, err := tun.Reopen(within(t, 20*time.Second), cfg)
	must(t, err)
	defer next.Close()
	if tokenOf(next) != dated || next.Status().TokenKept {
		t.Error("the link is another one after the change")
	}
	if a, b := c.status(t, first), c.status(t, dated); a != 403 || b != 200 {
		t.Errorf("the withdrawn token gets %d, the new one %d", a, b)
	}
}

// What a program serves by itself is not opened again in its place.
func TestListenIsNotReopened(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config("")
	tun, err := tunnel.Listen(within(t, 20*time.Second), cfg)
	must(t, err)
	defer tun.Close()
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	if _, err := tun.Reopen(within(t, 5*time.Second), cfg); !errors.Is(err, tunnel.ErrConfig) {
		t.Errorf("%v", err)
	}
}

// So does one that is withdrawn while the way changes.
func TestALinkIsWithdrawnDuringAReopen(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(app(t, "company data"))
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	tun := open(t, cfg)
	cfg.Agent = "none"
	for _, when := range []string{"connecting", "stands"} { // before and after the new gate is there
		first, renewed, begun := tokenOf(tun), "", false
		cfg.Control = func(string, string, syscall.RawConn) error {
			if !begun && when == "connecting" {
				begun = true
				must(t, tun.NewToken())
				renewed = tokenOf(tun)
			}
			return nil
		}
		next, err := tun.Reopen(within(t, 20*time.Second), cfg)
		must(t, err)
		if when == "stands" { // and its caller does not have it yet
			must(t, tun.NewToken())
			renewed = tokenOf(tun)
		}
		if tokenOf(next) != renewed || next.Status().TokenKept || c.status(t, first) != 403 || c.status(t, renewed) != 200 {
			t.Errorf("%s: the withdrawn token gets %d, the new one %d", when, c.status(t, first), c.status(t, renewed))
		}
		tun = next
	}
	must(t, tun.Close())
}

// What takes longer than the old tunnel is left: nginx sends it again, to the new one, which is not to run it again.
func TestAReopenRunsNothingTwice(t *testing.T) {
	r := newRendered(t)
	ran := make(chan string, 10)
	cfg := r.described("sales", serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			_, _ = io.Copy(io.Discard, r.Body) // or the server does not see when the gate leaves
			ran <- r.Method
			<-r.Context().Done()
		}
	}))
	tun := open(t, cfg)
	await(t, tun, "its links", whole)
	told := make(chan string, 2)
	for method, size := range map[string]int{"POST": 10, "DELETE": 0} {
		go func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
			status, said, err := askAs(client, method, r.url, tokenOf(tun), size)
			told <- fmt.Sprintf("%d %v %v", status, strings.Contains(said, "This may have been done already"), err)
		}()
		<-ran
	}
	cfg.Agent = "none"
	next, err := tun.Reopen(within(t, 20*time.Second), cfg)
	must(t, err)
	defer next.Close()
	for range 2 {
		if got := <-told; got != "502 true <nil>" {
			t.Error(got)
		}
	}
	select {
	case method := <-ran:
		t.Errorf("a %s ran twice", method)
	default:
	}
}

// A link that is withdrawn right after a change is withdrawn where the change has left something under way, too.
func TestALinkIsWithdrawnFromWhatIsLeft(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	cfg.Raw, cfg.Access = false, tunnel.Access{}
	tun := open(t, cfg)
	req, err := http.NewRequest(http.MethodGet, c.url, nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+tokenOf(tun))
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	cfg.Agent = "none"
	next, err := tun.Reopen(within(t, 20*time.Second), cfg)
	must(t, err)
	defer next.Close()
	start := time.Now()
	must(t, next.NewToken())
	_, _ = io.ReadAll(resp.Body)
	if took := time.Since(start); took > 4*time.Second { // it may go on for 5 s otherwise
		t.Errorf("it went on for %v", took)
	}
}
