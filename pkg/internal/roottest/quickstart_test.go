// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// quickly runs taipy-tunnel quickstart as a person does who types these answers, and returns all that it says.
func (m *machine) quickly(ctx context.Context, answers []string, args ...string) (code int, said string) {
	face := command.Face{Show: func(e command.Event) {
		said += e.Text + "\n" + e.Hint + "\n"
		for _, row := range e.Rows {
			said += row.State() + " " + row.Step + " " + row.Seen + "\n"
		}
	}}
	face.Workspace = databricks.Config{Host: m.workspace, Token: func(context.Context) (string, error) { return "token", nil }}
	if answers != nil {
		face.Ask = func(_ context.Context, text string, _ bool) (string, error) {
			said += text + "\n"
			if len(answers) == 0 {
				return "", io.EOF
			}
			answer := answers[0]
			answers = answers[1:]
			return answer, nil
		}
	}
	return command.Run(ctx, append([]string{"quickstart"}, args...), face), said
}

// quickstart is from a bare machine to a visitor's page.
func (m *machine) quickstart(t *testing.T, fresh []string) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	as := []string{"root@127.0.0.1", "--key", m.key}

	code, said := m.quickly(t.Context(), nil, as...)
	if code != command.Usage || !strings.Contains(said, m.hostKey()) || !strings.Contains(said, "--host-key") {
		t.Errorf("without a terminal: %d\n%s", code, said)
	}
	code, said = m.quickly(t.Context(), []string{"no"}, as...)
	if left, _ := filepath.Glob(home + "/.ssh/*"); code != command.Failed || left != nil {
		t.Errorf("no: %d, %q\n%s", code, left, said)
	}
	m.unchanged("before it was allowed", fresh)

	began := time.Now()
	code, said = m.quickly(t.Context(), []string{"yes"}, as...)
	t.Logf("from a bare machine to a link in %v\n%s", time.Since(began).Round(100*time.Millisecond), said)
	key, file := home+"/.ssh/taipy-tunnel-app", home+"/.config/taipy-tunnel/127.0.0.1.json"
	info, err := os.Stat(key)
	if code != command.OK || err != nil || info.Mode() != 0o600 || !strings.Contains(said, `taipy_tunnel.expose(server="app@127.0.0.1", host_key="`+m.hostKey()+`", key="~/.ssh/taipy-tunnel-app")`) ||
		!strings.Contains(said, "http://127.0.0.1/") || !strings.Contains(said, "can be read on the way") {
		t.Fatalf("%d, %v\n%s", code, err, said)
	}
	private, err := os.ReadFile(key)
	must(t, err)
	if line := strings.Split(string(private), "\n")[2]; strings.Contains(said, line) {
		t.Error("the key is shown")
	}
	if keys := m.must("cat /root/.ssh/authorized_keys"); strings.Contains(keys, "taipy-tunnel") || strings.Count(keys, "\n") > 1 {
		t.Errorf("root's keys: %s", keys)
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer app.Close()
	tun, err := tunnel.Expose(t.Context(), tunnel.Config{Server: tunnel.Servers{"app@127.0.0.1"}, Key: key, HostKey: m.hostKey(), Target: app.Listener.Addr().String()})
	must(t, err)
	defer func() { _ = tun.Close() }()
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+tun.URL()[strings.Index(tun.URL(), "#token=")+len("#token="):])
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	if page, _ := io.ReadAll(resp.Body); string(page) != "hello" {
		t.Errorf("a visitor gets %s, %q", resp.Status, page)
	}
	_ = resp.Body.Close()

	as = append(as, "--host-key", m.hostKey())
	before := m.etc()
	if code, said = m.quickly(t.Context(), nil, as...); code != command.OK || !strings.Contains(said, "unchanged") {
		t.Errorf("again: %d\n%s", code, said)
	}
	m.unchanged("again", before)
	if code, said = m.quickly(t.Context(), nil, append(as, "--name", "second", "--domain", "second.example.com")...); code != command.Failed || !onlyURL(said) || !strings.Contains(said, "http://second.example.com/") {
		t.Errorf("another one: %d\n%s", code, said)
	}
	secrets := m.standIn(t)
	if code, said = m.quickly(t.Context(), nil, append(as, "--name", "stored", "--domain", "stored.example.com", "--databricks")...); code != command.Failed || !onlyURL(said) || !strings.Contains(said, "import taipy_tunnel; taipy_tunnel.expose()") ||
		secrets["server"] != "stored@127.0.0.1" || secrets["host_key"] != m.hostKey() || !strings.Contains(secrets["key"], "PRIVATE KEY") || strings.Contains(said, strings.Split(secrets["key"]+"\n\n", "\n")[1]) {
		t.Errorf("with a workspace: %d\n%s", code, said)
	}
	if left, _ := filepath.Glob(home + "/.ssh/*stored*"); left != nil {
		t.Errorf("the key is here as well: %q", left)
	}
	before = m.etc()
	if code, said = m.quickly(t.Context(), nil, append(as, "--name", "third", "--file", home+"/another.json")...); code != command.Failed || !strings.Contains(said, "of which") {
		t.Errorf("without the file that describes it: %d\n%s", code, said)
	}
	m.unchanged("without the file that describes it", before)
	text, err := os.ReadFile(file)
	must(t, err)
	h, err := proxyhost.ParseHost(text)
	must(t, err)
	if len(h.Tenants) != 3 || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("%s", text)
	}
	must(t, tun.Close())
	if _, err := m.setUp(t.Context(), *h, true, func(string) {}); err != nil {
		t.Error(err)
	}
	m.unchanged("removed after a quickstart", fresh)
}

// bySudo is a quickstart by an account with sudo, and a password.
func (m *machine) bySudo(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	m.must("useradd -m -s /bin/bash -G sudo admin && echo admin:correct-horse | chpasswd && install -d -o admin -m 700 /home/admin/.ssh")
	must(t, os.WriteFile(m.root+"/home/admin/.ssh/authorized_keys", []byte(m.public("")), 0o644))
	as := []string{"admin@127.0.0.1", "--key", m.key, "--host-key", m.hostKey()}
	if code, said := m.quickly(t.Context(), nil, as...); code != command.Failed || !strings.Contains(said, "sudo") {
		t.Errorf("without a terminal: %d\n%s", code, said)
	}
	began := time.Now()
	code, said := m.quickly(t.Context(), []string{"correct-horse"}, as...)
	t.Logf("by sudo with a password in %v", time.Since(began).Round(100*time.Millisecond))
	if code != command.OK || !strings.Contains(said, "Password for sudo") || strings.Contains(said, "horse") || !strings.Contains(said, "taipy_tunnel.expose(server=") {
		t.Errorf("%d\n%s", code, said)
	}
	if code, said := m.quickly(t.Context(), []string{"correct-horse"}, as...); code != command.OK || !strings.Contains(said, "unchanged") || strings.Contains(said, "conflicting") {
		t.Errorf("again: %d\n%s", code, said)
	}
	m.removed(t)
}

// onlyURL: nothing fails but the URL, whose name does not resolve here.
func onlyURL(said string) bool {
	return strings.Count(said, "FAIL ") == 1 && strings.Contains(said, "FAIL url ")
}

// standIn is a Databricks workspace with one secret scope, as its REST API has it.
func (m *machine) standIn(t *testing.T) (secrets map[string]string) {
	secrets = map[string]string{}
	var mu sync.Mutex
	made := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var body struct {
			Key   string `json:"key"`
			Value string `json:"string_value"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		var answer any = struct{}{}
		switch path := strings.TrimPrefix(r.URL.Path, "/api/2.0/secrets/"); {
		case path == "scopes/create":
			made = true
		case !made && strings.HasPrefix(path, "list"):
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]string{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Scope does not exist!"}
		case path == "list":
			type secret struct {
				Key string `json:"key"`
			}
			all := []secret{}
			for key := range secrets {
				all = append(all, secret{key})
			}
			answer = map[string]any{"secrets": all}
		case path == "put":
			secrets[body.Key] = body.Value
		case path == "get":
			key := r.URL.Query().Get("key")
			answer = map[string]string{"key": key, "value": base64.StdEncoding.EncodeToString([]byte(secrets[key]))}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	m.workspace = s.URL
	return secrets
}
