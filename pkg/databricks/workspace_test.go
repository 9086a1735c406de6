// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

const (
	token   = "dapi-0123456789abcdef"
	cluster = "1124-103512-abcdefgh"
)

// A fake is a workspace on this machine that answers in the documented JSON.
type fake struct {
	http.Handler // what answers; the fake itself unless a test puts something in its place
	address      string

	mu       sync.Mutex
	scopes   map[string]map[string]string // secrets by scope and key
	vaults   []string                     // scopes of Azure Key Vaults
	acls     map[string]string            // permissions by "scope principal"
	refuse   map[string]refusal           // by route: "POST /api/2.0/secrets/put"
	requests []request
}

type refusal struct {
	status        int
	code, message string
}

type request struct {
	route string // method and path
	token string
	body  map[string]string // of a POST; else the query
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{scopes: map[string]map[string]string{}, acls: map[string]string{}, refuse: map[string]refusal{}}
	f.Handler = http.HandlerFunc(f.answer)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	f.address = s.URL
	return f
}

// opened is a fake and a Workspace that asks it.
func opened(t *testing.T) (*fake, *Workspace) {
	t.Helper()
	leak.Check(t)
	f := newFake(t)
	return f, open(t, Config{Host: f.address, Token: fixed(token)})
}

func open(t *testing.T, cfg Config) *Workspace {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func fixed(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// refusing has routes refused, and no others.
func (f *fake) refusing(all map[string]refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = all
}

// routes are those that were asked for since the last call, in order, without "/api/2.…/".
func (f *fake) routes() (all []string) {
	for _, r := range f.taken() {
		method, path, _ := strings.Cut(r.route, " /api/2.")
		all = append(all, method+path[1:])
	}
	return all
}

func (f *fake) taken() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.requests
	f.requests = nil
	return all
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := request{route: r.Method + " " + r.URL.Path, body: map[string]string{}}
	seen.token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	for name, values := range r.URL.Query() {
		seen.body[name] = values[0]
	}
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&seen.body)
	}
	f.requests = append(f.requests, seen)
	refused, is := f.refuse[seen.route]
	switch {
	case seen.token != token:
		refused, is = refusal{403, "403", "Invalid access token."}, true
	case !is:
		var v any
		if v, refused = f.route(seen); refused.status == 0 {
			reply(w, 200, v)
			return
		}
	}
	reply(w, refused.status, map[string]string{"error_code": refused.code, "message": refused.message})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (f *fake) route(r request) (any, refusal) {
	scope := r.body["scope"]
	held, there := f.scopes[scope]
	switch {
	case r.route == "GET /api/2.0/preview/scim/v2/Me":
		return map[string]any{"id": "42", "userName": "owner@example.com", "active": true}, refusal{}
	case r.route == "GET /api/2.1/clusters/get":
		if r.body["cluster_id"] != cluster {
			return nil, refusal{400, "INVALID_PARAMETER_VALUE", "Cluster " + r.body["cluster_id"] + " does not exist"}
		}
		return map[string]any{"cluster_id": cluster, "cluster_name": "demo", "state": "RUNNING",
			"data_security_mode": "SINGLE_USER", "autotermination_minutes": 60}, refusal{}
	case r.route == "POST /api/2.0/secrets/scopes/create":
		f.scopes[scope] = map[string]string{}
		return struct{}{}, refusal{}
	case r.route == "GET /api/2.0/secrets/scopes/list":
		var all []map[string]string
		for name := range f.scopes {
			backend := "DATABRICKS"
			if slices.Contains(f.vaults, name) {
				backend = "AZURE_KEYVAULT"
			}
			all = append(all, map[string]string{"name": name, "backend_type": backend})
		}
		return map[string]any{"scopes": all}, refusal{}
	case !there:
		return nil, refusal{404, "RESOURCE_DOES_NOT_EXIST", "Scope " + scope + " does not exist!"}
	}
	switch r.route {
	case "GET /api/2.0/secrets/list":
		var keys []map[string]any
		for key := range held {
			keys = append(keys, map[string]any{"key": key, "last_updated_timestamp": 1730000000000})
		}
		return map[string]any{"secrets": keys}, refusal{}
	case "GET /api/2.0/secrets/get":
		value, there := held[r.body["key"]]
		if !there {
			return nil, refusal{404, "RESOURCE_DOES_NOT_EXIST", "Secret does not exist with scope: " + scope + " and key: " + r.body["key"]}
		}
		return map[string]string{"key": r.body["key"], "value": base64.StdEncoding.EncodeToString([]byte(value))}, refusal{}
	case "POST /api/2.0/secrets/put":
		if slices.Contains(f.vaults, scope) {
			return nil, refusal{400, "BAD_REQUEST", "not for a scope of this kind"}
		}
		held[r.body["key"]] = r.body["string_value"]
	case "POST /api/2.0/secrets/acls/put":
		f.acls[scope+" "+r.body["principal"]] = r.body["permission"]
	default:
		return nil, refusal{404, "ENDPOINT_NOT_FOUND", "No API found for '" + r.route + "'"}
	}
	return struct{}{}, refusal{}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
