// SPDX-License-Identifier: Apache-2.0

//go:build linux

package command

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// Nothing is made, here or there, before a person has said that the host key is the machine's. What follows then is in package roottest, for
// it changes a machine.
func TestQuickstartAsksForTheHostKey(t *testing.T) {
	leak.Check(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	s := sshdtest.Start(t, sshdtest.Options{})
	args := []string{"quickstart", s.User + "@" + s.Addr(), "--key", s.KeyFile}
	for name, c := range map[string]struct {
		answers []string // nil: there is no terminal
		code    int
		says    string
	}{
		"no terminal": {nil, Usage, "--host-key " + s.Fingerprint()},
		"no":          {[]string{"no\n"}, Failed, "was not accepted"},
		"nothing":     {[]string{"\n"}, Failed, "was not accepted"},
		"another one": {[]string{"SHA256:AAAA\n"}, Failed, "was not accepted"},
		"Ctrl-D":      {[]string{}, Failed, "no answer was given"},
	} {
		t.Run(name, func(t *testing.T) {
			got := said{}
			face := Face{Show: func(e Event) { got.events = append(got.events, e) }}
			asked := ""
			if c.answers != nil {
				face.Ask = func(_ context.Context, text string, hidden bool) (string, error) {
					asked += text
					if hidden {
						t.Error("the answer is not shown")
					}
					if len(c.answers) == 0 {
						return "", io.EOF
					}
					return c.answers[0], nil
				}
			}
			got.code = Run(t.Context(), args, face)
			if says := got.of(Failure); got.code != c.code || !strings.Contains(says, c.says) {
				t.Errorf("%d, %s", got.code, says)
			}
			if c.answers != nil && (!strings.Contains(asked, s.Fingerprint()) || !strings.Contains(asked, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")) {
				t.Errorf("asked %q", asked)
			}
			if left, _ := filepath.Glob(home + "/.*/*"); left != nil {
				t.Errorf("there is %q", left)
			}
		})
	}
}

// The description has each account once, with the key that is there; what an admin wrote stays.
func TestQuickstartsDescription(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := &starting{run: &run{Face: Face{Show: func(Event) {}}}, name: "sales"}
	path, public, err := s.key()
	if err != nil {
		t.Fatal(err)
	}
	if _, again, err := s.key(); err != nil || !sameLine(again, public) || path != "~/.ssh/taipy-tunnel-sales" {
		t.Errorf("again %q, before %q: %v", again, public, err)
	}
	if info, err := os.Stat(filepath.Join(os.Getenv("HOME"), ".ssh", "taipy-tunnel-sales")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	h := &proxyhost.Host{Status: proxyhost.Status{Port: 8081, Allow: []string{"192.0.2.0/24"}}}
	for range 2 {
		account, err := s.account(h, "Proxy.example.com")
		if err != nil {
			t.Fatal(err)
		}
		admit(account, public)
	}
	if _, err := (&starting{run: s.run, name: "third"}).account(h, "proxy.example.com"); err == nil || !strings.Contains(err.Error(), `come to account "sales" already`) {
		t.Error(err)
	}
	if url, err := h.URL("sales", s.app(h)); len(h.Tenants) != 1 || len(h.Tenants[0].Keys) != 1 || url != "http://proxy.example.com/" || err != nil || s.app(h) != "" {
		t.Errorf("%+v, %s, %v", h, url, err)
	}
	other := &starting{run: s.run, name: "hr", domain: "apps.example.com", selfService: true}
	account, err := other.account(h, "proxy.example.com")
	if err != nil {
		t.Fatal(err)
	}
	admit(account, public)
	if url, err := h.URL("hr", other.app(h)); url != "http://hr--hr.apps.example.com/" || err != nil || h.Status.Port != 8081 {
		t.Errorf("%+v, %s, %v", h, url, err)
	}
	s.domain = "sales.example.com" // in place of the machine's own
	if _, err := s.account(h, "proxy.example.com"); err != nil || h.Tenants[0].Apps[0].Host != "sales.example.com" {
		t.Errorf("%v, %+v", err, h.Tenants[0])
	}
	s.domain = "elsewhere.example.com"
	if _, err := s.account(h, "proxy.example.com"); err == nil || !strings.Contains(err.Error(), "another address") {
		t.Error(err)
	}
	srv, file := &destination.Destination{Host: "proxy.example.com", Port: 2222}, filepath.Join(t.TempDir(), "below", "machine.json")
	s.file, s.domain = file, ""
	d, err := s.description(srv)
	if err != nil {
		t.Fatal(err)
	}
	d.host = h
	if err := d.keep(); err != nil {
		t.Fatal(err)
	}
	if err := d.keep(); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("another run has written it: %v", err)
	}
	again, err := s.description(srv)
	if err != nil || len(again.host.Tenants) != 2 {
		t.Errorf("%+v, %v", again, err)
	}
	if err := again.describes([]string{"hr", "sales"}); err != nil {
		t.Error(err)
	}
	if err := again.describes([]string{"hr", "theirs"}); err == nil || !strings.Contains(err.Error(), `the account "theirs" already`) {
		t.Error(err)
	}
	again.undo(context.Canceled)
	d.undo(errors.New("refused"))
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a run that was refused: %v", err)
	}
}

// The key of a machine on the way is not taken for the server's.
func TestQuickstartAsksForTheServersKeyAlone(t *testing.T) {
	err := fault.HostKeyUnknown("Proxy.example.com:22", "ssh-ed25519", "SHA256:seen")
	if u, is := unknownKey(err); !is || u.Seen != "SHA256:seen" {
		t.Errorf("the server's: %v", u)
	}
	if u, is := unknownKey(fault.Hop("bastion:22", err)); is {
		t.Errorf("the bastion's: %v", u)
	}
}

// Two runs at once have one key.
func TestTwoRunsMakeOneKey(t *testing.T) {
	for range 20 {
		t.Setenv("HOME", t.TempDir())
		var made [4]string
		var all sync.WaitGroup
		for i := range made {
			all.Go(func() {
				s := &starting{run: &run{Face: Face{Show: func(Event) {}}}, name: "sales"}
				_, public, err := s.key()
				if err != nil {
					t.Error(err)
					return
				}
				made[i] = strings.Join(strings.Fields(public)[:2], " ")
			})
		}
		all.Wait()
		for _, other := range made {
			if other != made[0] || other == "" {
				t.Fatalf("%q", made)
			}
		}
		if left, _ := filepath.Glob(os.Getenv("HOME") + "/.ssh/*"); len(left) != 2 {
			t.Errorf("there is %q", left)
		}
	}
}

// A workspace whose notebooks use another proxy, or another account, keeps that.
func TestAWorkspaceThatHasAnother(t *testing.T) {
	var written []string
	workspace := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = struct{}{}
		switch path := strings.TrimPrefix(r.URL.Path, "/api/2.0/secrets/"); path {
		case "list":
			answer = map[string]any{"secrets": []map[string]string{{"key": "server"}, {"key": "key"}}}
		case "get":
			answer = map[string]string{"key": "server", "value": base64.StdEncoding.EncodeToString([]byte("sales@other.example.com"))}
		default:
			written = append(written, path)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer workspace.Close()
	face := Face{Show: func(Event) {}, Getenv: func(string) string { return "" },
		Workspace: databricks.Config{Host: workspace.URL, Token: func(context.Context) (string, error) { return "token", nil }}}
	s := &starting{run: &run{Face: face}, name: "sales", databricks: true}
	_, _, err := s.keys(t.Context(), "sales@proxy.example.com", "SHA256:"+strings.Repeat("A", 43))
	if err == nil || !strings.Contains(err.Error(), `another account already, "sales@other.example.com"`) || written != nil {
		t.Errorf("%v, written %q", err, written)
	}
}

// Certificates: what --certbot takes, and what is said of it.
func TestQuickstartsCertificates(t *testing.T) {
	s := &starting{run: &run{Face: Face{Show: func(Event) {}}}, name: "sales", domain: "sales.example.com", certbot: true}
	h := &proxyhost.Host{}
	if _, err := s.account(h, "203.0.113.7"); err != nil || h.TLS.Mode != "certbot" {
		t.Errorf("%v, %+v", err, h.TLS)
	}
	if _, err := s.account(h, "203.0.113.7"); err != nil || h.TLS.Mode != "certbot" {
		t.Errorf("again: %v, %+v", err, h.TLS)
	}
	h.TLS = proxyhost.TLS{Mode: "files", Certificate: "/c", Key: "/k"}
	if _, err := s.account(h, "203.0.113.7"); err == nil || !strings.Contains(err.Error(), "another kind") || h.TLS.Mode != "files" {
		t.Errorf("%v, %+v", err, h.TLS)
	}
	for _, line := range []string{"--certbot", "--self-service", "--certbot --self-service --domain example.com"} {
		got := runs(t, "", append([]string{"quickstart", "root@203.0.113.7"}, strings.Fields(line)...)...)
		if got.code != Usage || !strings.Contains(got.of(Failure), "--certbot") {
			t.Errorf("%s: %d, %s", line, got.code, got.of(Failure))
		}
	}
	for url, says := range map[string]string{"https://sales.example.com/": "until the certbot command has run", "http://203.0.113.7/": "can be read on the way"} {
		got := said{}
		s.Show = func(e Event) { got.events = append(got.events, e) }
		if err := s.tell(started{URL: url, Certbot: strings.HasPrefix(url, "https")}); err != nil || !strings.Contains(got.of(Text), says) {
			t.Errorf("%s: %v, %s", url, err, got.of(Text))
		}
	}
}
