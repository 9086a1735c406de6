// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// asError is err as what a person reads, of class ErrWorkspace.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(err, ErrWorkspace) {
		t.Fatalf("%v (%T), want one of class ErrWorkspace", err, err)
	}
	return e
}

func TestSecretsAreOneListAndTheFoundOnes(t *testing.T) {
	f, w := opened(t)
	f.scopes["s"] = map[string]string{"server": "me@proxy", "key": "line\nline", "host_key": "ключ", "other": "x"}
	found, err := w.Secrets(t.Context(), "s", []string{"server", "key", "host_key", "url", "remote"})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]Value{"server": "me@proxy", "key": "line\nline", "host_key": "ключ"}; !maps.Equal(found, want) {
		t.Errorf("%d found of %d, or others", len(found), len(want))
	}
	equal(t, "asked", f.routes(), []string{"GET/secrets/list", "GET/secrets/get", "GET/secrets/get", "GET/secrets/get"})

	f.scopes["empty"] = map[string]string{}
	if found, err := w.Secrets(t.Context(), "empty", []string{"server"}); err != nil || len(found) != 0 {
		t.Errorf("%d found, %v", len(found), err)
	}
	equal(t, "asked of an empty scope", f.routes(), []string{"GET/secrets/list"})
}

// Each get is answered only when all have come. There are more than may be asked at a time.
func TestSecretsAreReadSideBySide(t *testing.T) {
	f, w := opened(t)
	held, names := map[string]string{}, []string{}
	for i := range 2 * maxTogether {
		names = append(names, fmt.Sprint("key", i))
		held[names[i]] = "v"
	}
	f.scopes["s"] = held
	var mu sync.Mutex
	waiting, all, most := 0, make(chan struct{}), 0
	f.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/get") {
			mu.Lock()
			waiting++
			most = max(most, waiting)
			gate := all
			if waiting == maxTogether {
				waiting, all = 0, make(chan struct{})
				close(gate)
			}
			mu.Unlock()
			<-gate
		}
		f.answer(rw, r)
	})
	if found, err := w.Secrets(t.Context(), "s", names); err != nil || len(found) != len(names) || most != maxTogether {
		t.Errorf("%d found, %d at a time, %v", len(found), most, err)
	}
}

func TestSecretIsWhatWasStored(t *testing.T) {
	f, w := opened(t)
	for _, value := range []string{"", "a", "a\n", "a\r\nb", " ключ\t", strings.Repeat("x", maxSecret)} {
		f.scopes["s"] = map[string]string{"k": value}
		if got, err := w.Secret(t.Context(), "s", "k"); err != nil || string(got) != value {
			t.Errorf("%d bytes came back as %d, %v", len(value), len(got), err)
		}
	}
	f.scopes["s"]["k"] = "\xff\x00"
	if got, err := w.Secret(t.Context(), "s", "k"); !errors.Is(err, ErrConfig) || got != "" {
		t.Errorf("what is no text: %v", err)
	}
	f.taken()
	for _, name := range []string{"", "a b", "a/b", "a?b", "ä", "a\n", strings.Repeat("x", 129)} {
		_, inScope := w.Secret(t.Context(), name, "k")
		_, inKey := w.Secret(t.Context(), "s", name)
		_, inList := w.Secrets(t.Context(), name, []string{"k"})
		for _, err := range []error{inScope, inKey, inList} {
			if !errors.Is(err, ErrConfig) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	equal(t, "asked for bad names", f.routes(), nil)
}

func TestSecretsThatAreNotThere(t *testing.T) {
	f, w := opened(t)
	f.scopes["s"] = map[string]string{"k": "v"}
	_, list := w.Secrets(t.Context(), "none", []string{"k"})
	if e := asError(t, list); !errors.Is(e, ErrNoScope) || !strings.Contains(e.Hint.String(), "taipy-tunnel databricks store") {
		t.Errorf("no scope: %v; %s", e, e.Hint)
	}
	_, get := w.Secret(t.Context(), "s", "none")
	if e := asError(t, get); errors.Is(e, ErrNoScope) || !strings.Contains(e.Error(), `"none" in scope "s"`) || !strings.Contains(e.Hint.String(), "list-secrets s") {
		t.Errorf("no key: %v; %s", e, e.Hint)
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	f, w := opened(t)
	f.scopes["s"] = map[string]string{"k": "v", "l": "v"}
	for _, route := range []string{"list", "get"} {
		f.refusing(map[string]refusal{"GET /api/2.0/secrets/" + route: {403, "PERMISSION_DENIED", "User me does not have READ permission"}})
		found, err := w.Secrets(t.Context(), "s", []string{"k", "l"})
		if e := asError(t, err); found != nil || !strings.Contains(e.Hint.String(), "put-acl s USER-OR-GROUP READ") || !strings.Contains(e.Error(), "User me does not") {
			t.Errorf("%s: %v; %s", route, e, e.Hint)
		}
	}
	f.refusing(map[string]refusal{"GET /api/2.0/secrets/get": {400, "BAD_REQUEST", "only in a notebook"}})
	_, err := w.Secret(t.Context(), "s", "k")
	if e := asError(t, err); !strings.Contains(e.Hint.String(), `dbutils.secrets.get("s", "k")`) {
		t.Errorf("BAD_REQUEST: %v; %s", e, e.Hint)
	}
}

func TestClusterAndUser(t *testing.T) {
	f, w := opened(t)
	got, err := w.Cluster(t.Context(), cluster)
	if want := (Cluster{cluster, "demo", "running", "dedicated", 60}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	me, err := w.Me(t.Context())
	if want := (User{"42", "owner@example.com"}); err != nil || me != want {
		t.Errorf("%+v, %v, want %+v", me, err, want)
	}
	_, err = w.Cluster(t.Context(), "1124-000000-zzzzzzzz")
	if e := asError(t, err); !e.Permanent || !strings.Contains(e.Error(), "does not exist") || !strings.Contains(e.Hint.String(), "id") {
		t.Errorf("no such cluster: %v", e)
	}
	f.refusing(map[string]refusal{"GET /api/2.1/clusters/get": {403, "PERMISSION_DENIED", "no Can Attach To"}})
	_, err = w.Cluster(t.Context(), cluster)
	if e := asError(t, err); !strings.Contains(e.Error(), "no Can Attach To") {
		t.Errorf("somebody else's cluster: %v", e)
	}
	f.taken()
	for _, id := range []string{"", "../me", "a b", strings.Repeat("x", 101)} {
		if _, err := w.Cluster(t.Context(), id); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", id, err)
		}
	}
	equal(t, "asked for bad ids", f.routes(), nil)
}

func TestClusterOfEachAccessMode(t *testing.T) {
	f, w := opened(t)
	for answer, want := range map[string]Cluster{
		`{"cluster_id":%q,"data_security_mode":"USER_ISOLATION","state":"PENDING"}`:                        {AccessMode: "standard", State: "pending"},
		`{"cluster_id":%q,"data_security_mode":"DATA_SECURITY_MODE_STANDARD"}`:                             {AccessMode: "standard"},
		`{"cluster_id":%q,"data_security_mode":"DATA_SECURITY_MODE_DEDICATED","state":"TERMINATED"}`:       {AccessMode: "dedicated", State: "terminated"},
		`{"cluster_id":%q,"data_security_mode":"DATA_SECURITY_MODE_AUTO","single_user_name":"me","x":[1]}`: {AccessMode: "dedicated"},
		`{"cluster_id":%q,"data_security_mode":"NONE","autotermination_minutes":0}`:                        {AccessMode: "none"},
		`{"cluster_id":%q,"data_security_mode":"LEGACY_PASSTHROUGH"}`:                                      {AccessMode: "legacy"},
		`{"cluster_id":%q,"data_security_mode":"OF_THE_FUTURE","state":"OF_THE_FUTURE"}`:                   {State: "of_the_future"},
		`{"cluster_id":%q}`: {},
	} {
		f.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(rw, answer, cluster)
		})
		want.ID = cluster
		if got, err := w.Cluster(t.Context(), cluster); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", answer, got, err, want)
		}
	}
}

// A notebook's token ends within the hour: the source is asked for each request, and what it says
// of itself is heard.
func TestTheTokenIsAskedForEachRequest(t *testing.T) {
	f, _ := opened(t)
	f.scopes["s"] = map[string]string{"a": "v", "b": "v"}
	var mu sync.Mutex
	asked, gone := 0, error(nil)
	w := open(t, Config{Host: f.address, Token: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return " " + token + "\n", gone
	}})
	if _, err := w.Secrets(t.Context(), "s", []string{"a", "b"}); err != nil || asked != 3 {
		t.Errorf("the source was asked %d times for 3 requests, %v", asked, err)
	}
	f.taken()
	gone = errors.New("the notebook is detached")
	_, err := w.Me(t.Context())
	if e := asError(t, err); !errors.Is(err, gone) || e.Permanent {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", " ", "a b", "a\r\nX-Header: b", "naïve"} {
		w := open(t, Config{Host: f.address, Token: fixed(bad)})
		if _, err := w.Me(t.Context()); !errors.Is(err, fault.ErrConfig) || bad != "" && bad != " " && strings.Contains(err.Error(), bad) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	equal(t, "asked without a token", f.routes(), nil)
}
