// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// surroundings gives the process an empty home, and of the SDK's variables these alone.
func surroundings(t *testing.T, file string, variables map[string]string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("PATH", home) // no command of Databricks' or of a cloud
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "DATABRICKS_") || strings.HasPrefix(name, "ARM_") {
			t.Setenv(name, value) // puts it back at the end
			_ = os.Unsetenv(name)
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
	if file != "" {
		if err := os.WriteFile(filepath.Join(home, ".databrickscfg"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stray is what a cluster's image or a user's environment may hold.
func stray(elsewhere string) map[string]string {
	return map[string]string{
		"ARM_TENANT_ID": "t", "ARM_CLIENT_ID": "c", "ARM_CLIENT_SECRET": "s", "ARM_USE_MSI": "true", "ARM_ENVIRONMENT": "usgovernment",
		"GOOGLE_CREDENTIALS": `{"type":"service_account"}`, "DATABRICKS_GOOGLE_SERVICE_ACCOUNT": "a@b",
		"DATABRICKS_HOST": elsewhere, "DATABRICKS_TOKEN": "dapi-stray", "DATABRICKS_ACCOUNT_ID": "a", "DATABRICKS_WORKSPACE_ID": "7",
		"DATABRICKS_CLIENT_ID": "c", "DATABRICKS_CLIENT_SECRET": "s", "DATABRICKS_AUTH_TYPE": "oauth-m2m",
		"DATABRICKS_USERNAME": "u", "DATABRICKS_PASSWORD": "p", "DATABRICKS_CONFIG_PROFILE": "none", "DATABRICKS_CLUSTER_ID": "c",
		"DATABRICKS_RATE_LIMIT": "x", "DATABRICKS_DEBUG_HEADERS": "true", "DATABRICKS_SDK_UPSTREAM": "x",
		"DATABRICKS_CONFIG_FILE": "/nowhere/at/all", "DATABRICKS_AZURE_RESOURCE_ID": "/subscriptions/x",
	}
}

func TestNothingElseIsLookedAt(t *testing.T) {
	f, _ := opened(t)
	elsewhere := newFake(t)
	surroundings(t, "[DEFAULT\nhost = \x00\ntoken", stray(elsewhere.address))
	f.scopes["s"] = map[string]string{"k": "v"}
	w := open(t, Config{Host: f.address + "/", Token: fixed(token)})
	for call, do := range calls {
		if err := do(t.Context(), w); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
	for _, r := range f.taken() {
		if r.token != token {
			t.Errorf("%s: with another token", r.route)
		}
	}
	if got := elsewhere.taken(); len(got) != 0 {
		t.Errorf("%d requests went elsewhere", len(got))
	}
}

// A Go program outside a notebook: as Databricks' own tools are told.
func TestVariablesAndProfiles(t *testing.T) {
	f, _ := opened(t)
	file := "[DEFAULT]\nhost = http://127.0.0.1:1\ntoken = x\n[mine]\nhost = " + f.address + "\ntoken = " + token + "\n"
	elsewhere := filepath.Join(t.TempDir(), "cfg")
	if err := os.WriteFile(elsewhere, []byte(strings.Replace(file, "DEFAULT", "other", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file      string
		variables map[string]string
		profile   string
	}{
		"variables":            {"", map[string]string{"DATABRICKS_HOST": f.address, "DATABRICKS_TOKEN": token}, ""},
		"variables first":      {file, map[string]string{"DATABRICKS_HOST": f.address, "DATABRICKS_TOKEN": token}, ""},
		"a profile":            {file, nil, "mine"},
		"a profile's variable": {file, map[string]string{"DATABRICKS_CONFIG_PROFILE": "mine"}, ""},
		"the default":          {strings.Replace(strings.Replace(file, "DEFAULT", "x", 1), "mine", "DEFAULT", 1), nil, ""},
		"a file's variable":    {"", map[string]string{"DATABRICKS_CONFIG_FILE": elsewhere}, "mine"},
		"OAuth of a service":   {"", map[string]string{"DATABRICKS_HOST": f.address, "DATABRICKS_CLIENT_ID": "id", "DATABRICKS_CLIENT_SECRET": "hunter2"}, ""},
		"OAuth in a profile":   {"[o]\nhost = " + f.address + "\nclient_id = id\nclient_secret = hunter2\n", nil, "o"},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, c.file, c.variables)
			f.Handler = oauth(f)
			w := open(t, Config{Profile: c.profile})
			me, err := w.Me(t.Context())
			if err != nil || me.ID != "42" {
				t.Fatalf("%+v, %v", me, err)
			}
			f.refusing(map[string]refusal{"GET /api/2.0/preview/scim/v2/Me": {500, "E", "I was sent " + token}})
			_, err = w.Me(t.Context())
			holdsNone(t, "an error", asError(t, err), token, "hunter2")
			f.refusing(nil)
		})
	}
}

// oauth is a workspace that gives its token to a service principal.
func oauth(f *fake) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oidc/.well-known/oauth-authorization-server":
			reply(w, 200, map[string]string{"authorization_endpoint": f.address + "/oidc/authorize", "token_endpoint": f.address + "/oidc/token"})
		case "/oidc/token":
			if id, secret, ok := r.BasicAuth(); !ok || id != "id" || secret != "hunter2" {
				reply(w, 401, map[string]string{"error": "invalid_client", "error_description": "no client " + id + " with " + secret})
				return
			}
			reply(w, 200, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
		default:
			f.answer(w, r)
		}
	})
}

func TestNobodyKnowsTheWorkspace(t *testing.T) {
	f, _ := opened(t)
	f.Handler = oauth(f)
	for name, c := range map[string]struct {
		file      string
		variables map[string]string
		profile   string
	}{
		"nothing":           {},
		"no such profile":   {"[mine]\nhost = " + f.address + "\ntoken = hunter2\n", nil, "yours"},
		"a broken file":     {"[mine]\nhost = " + f.address + "\nhunter2\n", nil, "mine"},
		"no login":          {"[mine]\nhost = " + f.address + "\n", nil, "mine"},
		"no host":           {"", map[string]string{"DATABRICKS_TOKEN": "hunter2"}, ""},
		"a wrong secret":    {"", map[string]string{"DATABRICKS_HOST": f.address, "DATABRICKS_CLIENT_ID": "id", "DATABRICKS_CLIENT_SECRET": "hunter3"}, ""},
		"two kinds at once": {"", map[string]string{"DATABRICKS_HOST": f.address, "DATABRICKS_TOKEN": "hunter2", "DATABRICKS_CLIENT_ID": "id", "DATABRICKS_CLIENT_SECRET": "hunter3"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, c.file, c.variables)
			w, err := Open(Config{Profile: c.profile})
			if err == nil {
				defer w.Close()
				_, err = w.Me(t.Context())
			}
			e := asError(t, err)
			if !e.Permanent || !strings.Contains(e.Hint.String(), "databricks auth login") {
				t.Errorf("%v; %s", e, e.Hint)
			}
			if strings.Contains(e.Error(), "not a Databricks workspace") {
				t.Errorf("%v", e)
			}
			holdsNone(t, name, e, "hunter2", "hunter3")
		})
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	leak.Check(t)
	surroundings(t, "", nil)
	for _, cfg := range []Config{
		{Host: "https://h"},
		{Token: fixed(token)},
		{Host: "https://h", Token: fixed(token), Profile: "p"},
		{Host: "https://h", Profile: "p"},
		{Host: "http://h.example.com", Token: fixed(token)}, // in the clear
		{Host: "ftp://h", Token: fixed(token)},
		{Host: "https://", Token: fixed(token)},
		{Host: "://", Token: fixed(token)},
		{Host: "https://h\x00", Token: fixed(token)},
		{Host: "https://" + token + "@h", Token: fixed(token)},
		{Host: "https://h:" + token, Token: fixed(token)},
	} {
		w, err := Open(cfg)
		if !errors.Is(err, ErrConfig) || w != nil {
			t.Errorf("%q: %v", cfg.Host, err)
			continue
		}
		holdsNone(t, "the error", err, token)
	}
	for host, want := range map[string]string{
		"adb-1.2.azuredatabricks.net":             "adb-1.2.azuredatabricks.net",
		" https://x.cloud.databricks.com/?o=12\n": "x.cloud.databricks.com",
		"http://localhost:8080":                   "localhost:8080",
		"http://[::1]:8080/":                      "[::1]:8080",
	} {
		if w, err := Open(Config{Host: host, Token: fixed(token)}); err != nil || w.String() != want {
			t.Errorf("%q: %v, %v", host, w, err)
		}
	}
}

func TestNothingSecretIsFormatted(t *testing.T) {
	f, w := opened(t)
	f.scopes["s"] = map[string]string{"k": "hunter2", "key": "hunter2"}
	found, err := w.Secrets(t.Context(), "s", []string{"k"})
	if err != nil || string(found["k"]) != "hunter2" {
		t.Fatalf("%d found, %v", len(found), err)
	}
	one := found["k"]
	for name, v := range map[string]any{
		"a workspace": w, "a value": one, "its address": &one, "several": found, "a list": []Value{one}, "an array": [1]any{one},
		"a configuration": Config{Host: f.address, Token: fixed(token)}, "what is to be stored": StoreConfig{Key: one}, "in a struct": struct{ V *Value }{&one},
		"an error": fmt.Errorf("no %v: %w", one, fmt.Errorf("%s", one)),
	} {
		holdsNone(t, name, v, token, "hunter2")
		var line strings.Builder
		slog.New(slog.NewTextHandler(&line, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&line, nil)).Info("m", "v", v)
		if strings.Contains(line.String(), "hunter2") || strings.Contains(line.String(), token) {
			t.Errorf("%s is logged: %s", name, line.String())
		}
	}
	if text, err := json.Marshal(found); err != nil || string(text) != `{"k":"(secret)"}` {
		t.Errorf("%s, %v", text, err)
	}
}

// Neither ours nor the SDK's own logger writes, whatever happens.
func TestNothingIsWritten(t *testing.T) {
	f, w := opened(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "written"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout, stderr, logger := os.Stdout, os.Stderr, slog.Default()
	defer func() {
		os.Stdout, os.Stderr = stdout, stderr
		slog.SetDefault(logger)
		log.SetOutput(stderr)
	}()
	os.Stdout, os.Stderr = file, file
	slog.SetDefault(slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.SetOutput(file)
	surroundings(t, "[DEFAULT\n", stray("http://127.0.0.1:1"))
	f.scopes["s"] = map[string]string{"k": "v"}
	for _, h := range []http.Handler{f.Handler, says(500, inJSON, `{"error_code":"E"}`), says(200, inHTML, "<html>"), says(403, inJSON, `{`), breaks("SSH-2.0-\r\n")} {
		f.Handler = h
		for _, do := range calls {
			_ = do(t.Context(), w)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = calls["Me"](ctx, w)
	if other, err := Open(Config{}); err == nil {
		_, _ = other.Me(t.Context())
		other.Close()
	}
	if text, err := os.ReadFile(file.Name()); err != nil || len(text) != 0 {
		t.Errorf("%s, %v", text, err)
	}
}
