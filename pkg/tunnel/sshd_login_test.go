// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// An alias is enough: where, as whom, by way of what, with which keys and whose host keys.
func TestAliasByWayOfABastion(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	bastion := sshdtest.Start(t, sshdtest.Options{})
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	dir := filepath.Join(home, ".ssh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("known_proxy", "proxy "+strings.SplitN(c.KnownHostsLine(), " ", 2)[1])
	put("known_hosts", bastion.KnownHostsLine())
	put("config", fmt.Sprintf(`
Host prox
	HostName 127.0.0.1
	Port %d
	User %s
	IdentityFile %s
	UserKnownHostsFile ~/.ssh/known_proxy
	HostKeyAlias proxy
	ProxyJump bastion
Host bastion
	HostName 127.0.0.1
	Port %d
	User %s
	IdentityFile %s
`, c.Port, c.User, c.KeyFile, bastion.Port, bastion.User, bastion.KeyFile))
	cfg := c.config(app(t, "hello"))
	cfg.Server, cfg.Key, cfg.HostKey = tunnel.Servers{"prox"}, "", ""
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tun.Close() }()
	wantBody(t, c.url, "hello")
	if s := tun.Status(); s.Server != fmt.Sprintf("%s@%s", c.User, c.Addr()) {
		t.Errorf("Server %q", s.Server)
	}
	bastion.KillLinks()
	await(t, tun, "a new link", func(s tunnel.Status) bool { return s.Reconnects > 0 && s.State == tunnel.Up })
	wantBody(t, c.url, "hello")
}

// A fingerprint is the server's alone: with it a bastion could pass itself off as the server.
func TestFingerprintIsNotForBastions(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	bastion := sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: authorized(t, c.KeyFile)})
	t.Setenv("HOME", t.TempDir())
	cfg := c.config(app(t, "hello"))
	cfg.Jump = fmt.Sprintf("%s@%s", bastion.User, bastion.Addr())
	cfg.HostKey = c.Fingerprint() + "," + bastion.Fingerprint()
	_, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if !errors.Is(err, tunnel.ErrHostKey) || !strings.Contains(err.Error(), bastion.Addr()) || !strings.Contains(tunnel.AsError(err).Hint.String(), "known_hosts") {
		t.Errorf("%v", err)
	}
	cfg.HostKey = c.KnownHostsLine() + bastion.KnownHostsLine()
	tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatalf("with a line for each: %v", err)
	}
	_ = tun.Close()
	bastion.Stop()
	_, err = tunnel.Expose(within(t, 2*time.Second), cfg)
	if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrHop) || !strings.HasPrefix(e.Op, "jump ") || e.Permanent {
		t.Errorf("a bastion that is gone: %v", err)
	}
}

func authorized(t testing.TB, key string) string {
	t.Helper()
	text, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The mark says by which key the link logged in, not which one was offered first.
func TestAgentsKeyIsInTheMark(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	t.Setenv("HOME", t.TempDir())
	agent := sshdtest.StartAgent(t, sshdtest.NewKey(t, "ecdsa"), c.KeyFile)
	for form, set := range map[string]func(*tunnel.Config){
		"given":       func(cfg *tunnel.Config) { cfg.Agent = agent.Socket },
		"environment": func(*tunnel.Config) { t.Setenv("SSH_AUTH_SOCK", agent.Socket) },
	} {
		t.Setenv("SSH_AUTH_SOCK", "")
		cfg := c.config(app(t, "hello"))
		cfg.Key = ""
		set(&cfg)
		tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		named := regexp.MustCompile(`"key":"([^"]+)"`).FindAllStringSubmatch(c.log.String(), -1)
		if len(named) == 0 || "SHA256:"+named[len(named)-1][1] != fingerprint(t, c.KeyFile) {
			t.Errorf("%s: the log names %v", form, named)
		}
		marked := func() bool {
			return strings.Contains(markKeys(), strings.TrimPrefix(fingerprint(t, c.KeyFile), "SHA256:"))
		}
		for end := time.Now().Add(20 * time.Second); !marked(); time.Sleep(10 * time.Millisecond) { // its shell is still starting
			if time.Now().After(end) {
				t.Fatalf("%s: marks with %s", form, markKeys())
			}
		}
		_ = tun.Close()
	}
	cfg := c.config(app(t, "hello"))
	cfg.Key, cfg.Agent = "", "none"
	if _, err := tunnel.Expose(within(t, 20*time.Second), cfg); !errors.Is(err, tunnel.ErrConfig) {
		t.Errorf("none: %v", err)
	}
}

func fingerprint(t testing.TB, key string) string {
	t.Helper()
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(public)
}

// markKeys returns the arguments of all processes that are marks.
func markKeys() string {
	var all []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), "taipy-tunnel") {
			all = append(all, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return strings.Join(all, "\n")
}

// A slot may be a unix socket, to which nginx hands requests by proxy_pass http://unix:PATH.
func TestSocketAsRemote(t *testing.T) {
	c := newChain(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	path := filepath.Join(t.TempDir(), "slot")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "app"})
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	front := httptest.NewServer(proxy)
	defer front.Close()
	cfg := c.config(app(t, "hello"))
	cfg.Remote, cfg.RemoteSocket, cfg.URL = 0, path, front.URL+"/"
	for range 2 { // the file of the first is in the way of the second
		tun, err := tunnel.Expose(within(t, 20*time.Second), cfg)
		if err != nil {
			t.Fatal(err)
		}
		wantBody(t, front.URL, "hello")
		c.KillLinks()
		await(t, tun, "a new link", func(s tunnel.Status) bool { return s.Reconnects > 0 && s.State == tunnel.Up })
		wantBody(t, front.URL, "hello")
		_ = tun.Close()
	}
}
