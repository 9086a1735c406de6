// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

const (
	server  = "taipy@203.0.113.7:2222"
	hostKey = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func newKey(t *testing.T) (private Value, public string) {
	t.Helper()
	text, public, err := sshauth.NewKeyPair("taipy-tunnel")
	if err != nil {
		t.Fatal(err)
	}
	return Value(text), public
}

// half is the part of a public key's line that says which it is: without the comment.
func half(line string) string { return strings.Join(strings.Fields(line)[:2], " ") }

// belongs reports whether the public line is that of the private text.
func belongs(t *testing.T, private, public string) bool {
	t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return half(public) == strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

func TestStoreMakesTheScopeAndAKey(t *testing.T) {
	f, w := opened(t)
	got, err := w.Store(t.Context(), StoreConfig{Server: " " + server + "\n", HostKey: hostKey + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	held := f.scopes[DefaultScope]
	if len(held) != 3 || held["server"] != server || held["host_key"] != hostKey {
		t.Errorf("%d secrets, server %q, host_key %q", len(held), held["server"], held["host_key"])
	}
	if got.Scope != DefaultScope || got.Group != "users" || got.KeyKept || !strings.HasPrefix(got.PublicKey, "ssh-ed25519 ") ||
		strings.Contains(got.PublicKey, "\n") || !belongs(t, held["key"], got.PublicKey) {
		t.Errorf("%+v", got)
	}
	if len(f.acls) != 1 || f.acls[DefaultScope+" users"] != "READ" {
		t.Errorf("permissions %v", f.acls)
	}
	// Nobody may read before all is there.
	equal(t, "asked", f.routes(), []string{"GET/secrets/list", "POST/secrets/scopes/create",
		"POST/secrets/put", "POST/secrets/put", "POST/secrets/put", "POST/secrets/acls/put"})
	holdsNone(t, "the answer", got, pem64(held["key"])...)
}

func TestStoreKeepsTheKey(t *testing.T) {
	f, w := opened(t)
	private, public := newKey(t)
	cfg := StoreConfig{Scope: "own", Server: server, HostKey: hostKey, Group: "analysts"}
	f.scopes["own"] = map[string]string{"key": string(private), "server": "old@host", "url": "https://x"}
	got, err := w.Store(t.Context(), cfg)
	if err != nil || !got.KeyKept || got.PublicKey != half(public) || got.Scope != "own" || got.Group != "analysts" {
		t.Fatalf("%+v, %v", got, err)
	}
	held := f.scopes["own"]
	if held["key"] != string(private) || held["server"] != server || held["url"] != "https://x" || f.acls["own analysts"] != "READ" {
		t.Errorf("kept key %v, server %q, url %q, permissions %v", held["key"] == string(private), held["server"], held["url"], f.acls)
	}
	equal(t, "asked", f.routes(), []string{"GET/secrets/list", "GET/secrets/scopes/list", "GET/secrets/get",
		"POST/secrets/put", "POST/secrets/put", "POST/secrets/acls/put"})

	// Where the workspace does not give it out, it stays all the same.
	f.refusing(map[string]refusal{"GET /api/2.0/secrets/get": {400, "BAD_REQUEST", "only in a notebook"}})
	if got, err := w.Store(t.Context(), cfg); err != nil || !got.KeyKept || got.PublicKey != "" || held["key"] != string(private) {
		t.Errorf("%+v, %v", got, err)
	}
	f.refusing(nil)

	cfg.NewKey = true
	if got, err := w.Store(t.Context(), cfg); err != nil || got.KeyKept || held["key"] == string(private) || !belongs(t, held["key"], got.PublicKey) {
		t.Errorf("a new one: %+v, %v", got, err)
	}
	cfg.NewKey, cfg.Key = false, private
	if got, err := w.Store(t.Context(), cfg); err != nil || got.KeyKept || held["key"] != string(private) || got.PublicKey != half(public) {
		t.Errorf("a given one: %+v, %v", got, err)
	}
}

// What cannot be used is found out before anything is sent, and not repeated if it may be secret.
// What people copy is stored as notebooks of any version understand it.
func TestStoreTakesWhatPeopleHave(t *testing.T) {
	_, public := newKey(t)
	for name, given := range map[string][2]string{
		"ssh://":                    {"ssh://" + server + "/", hostKey},
		"the line of Taipy's page":  {"ssh -R 8080:127.0.0.1:5000 " + server, hostKey},
		"the line of ssh-keygen -l": {server, "256 " + hostKey + " root@proxy (ED25519)"},
		"a .pub line":               {server, public},
	} {
		f, w := opened(t)
		if _, err := w.Store(t.Context(), StoreConfig{Server: given[0], HostKey: given[1]}); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if held := f.scopes[DefaultScope]; held["server"] != server || !strings.HasPrefix(held["host_key"], "SHA256:") || len(held["host_key"]) != 50 {
			t.Errorf("%s: server %q, host_key %q", name, held["server"], held["host_key"])
		}
	}
}

func TestStoreChecksFirst(t *testing.T) {
	f, w := opened(t)
	private, public := newKey(t)
	locked := Value(pem.EncodeToMemory(lockedKey(t)))
	good := StoreConfig{Server: server, HostKey: hostKey, Key: private}
	for name, change := range map[string]func(*StoreConfig){
		"no server":           func(c *StoreConfig) { c.Server = "" },
		"no user":             func(c *StoreConfig) { c.Server = "203.0.113.7" },
		"no host":             func(c *StoreConfig) { c.Server = "me@" },
		"a space":             func(c *StoreConfig) { c.Server = "me@a b" },
		"two lines":           func(c *StoreConfig) { c.Server = "me@a\nb" },
		"an option":           func(c *StoreConfig) { c.Server = "me@-oProxyCommand=x" },
		"a user's option":     func(c *StoreConfig) { c.Server = "-l@host" },
		"a password":          func(c *StoreConfig) { c.Server = "me:hunter2@host" },
		"an address":          func(c *StoreConfig) { c.Server = "https://host/x" },
		"no host key":         func(c *StoreConfig) { c.HostKey = "" },
		"half a fingerprint":  func(c *StoreConfig) { c.HostKey = "SHA256:AAAA" },
		"a path":              func(c *StoreConfig) { c.HostKey = "/etc/ssh/known_hosts" },
		"MD5":                 func(c *StoreConfig) { c.HostKey = "MD5:00:11:22" },
		"no known_hosts line": func(c *StoreConfig) { c.HostKey = "host ssh-ed25519 hunter2" },
		"any host key":        func(c *StoreConfig) { c.HostKey = "*" },
		"a public key":        func(c *StoreConfig) { c.Key = Value(public) },
		"a path of a key":     func(c *StoreConfig) { c.Key = "~/.ssh/id_ed25519" },
		"half a key":          func(c *StoreConfig) { c.Key = private[:len(private)/2] },
		"a locked key":        func(c *StoreConfig) { c.Key = locked },
		"a huge key":          func(c *StoreConfig) { c.Key = private + Value(strings.Repeat("\n", maxSecret)) },
		"a key and a new one": func(c *StoreConfig) { c.NewKey = true },
		"a scope's name":      func(c *StoreConfig) { c.Scope = "a/b" },
		"a group's name":      func(c *StoreConfig) { c.Group = "a\nb" },
	} {
		cfg := good
		change(&cfg)
		got, err := w.Store(t.Context(), cfg)
		if !errors.Is(err, ErrConfig) || got != (StoreResult{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		holdsNone(t, name, err, append(pem64(string(cfg.Key)), "hunter2")...)
	}
	equal(t, "asked", f.routes(), nil)
	good.Server = "tls://me@[2001:db8::1]:443"
	good.HostKey = "proxy.example.com " + half(public)
	if _, err := w.Store(t.Context(), good); err != nil {
		t.Errorf("SSH inside TLS, a known_hosts line: %v", err)
	}
}

func TestStoreIsRefused(t *testing.T) {
	f, w := opened(t)
	private, _ := newKey(t)
	routes := []string{"GET /api/2.0/secrets/list", "POST /api/2.0/secrets/scopes/create", "POST /api/2.0/secrets/put", "POST /api/2.0/secrets/acls/put"}
	for i, route := range routes {
		f.scopes, f.acls = map[string]map[string]string{}, map[string]string{}
		// A server that repeats what it was sent.
		f.refusing(map[string]refusal{route: {403, "PERMISSION_DENIED", "not for you: " + token}})
		_, err := w.Store(t.Context(), StoreConfig{Server: server, HostKey: hostKey, Key: private})
		want := "MANAGE"
		if i == 0 {
			want = "READ"
		}
		if e := asError(t, err); !e.Permanent || !strings.Contains(e.Hint.String(), want) {
			t.Errorf("%s: %v; %s", route, e, e.Hint)
		}
		holdsNone(t, route, err, append(pem64(string(private)), token)...)
		if len(f.acls) != 0 {
			t.Errorf("%s: half of it may be read", route)
		}
	}
	// Of the key nothing is repeated at all.
	f.scopes[DefaultScope] = map[string]string{}
	f.refusing(nil)
	f.Handler = refuseKey(f, string(private))
	_, err := w.Store(t.Context(), StoreConfig{Server: server, HostKey: hostKey, Key: private})
	asError(t, err)
	holdsNone(t, "put of the key", err, pem64(string(private))...)
}

// The scope of an Azure Key Vault is Databricks' to read: what is to be done instead is said before anything is sent
// to it. Where the workspace does not tell of which kind a scope is, it is written to as ever.
func TestStoreIntoAVault(t *testing.T) {
	f, w := opened(t)
	f.scopes[DefaultScope], f.vaults = map[string]string{"server": server}, []string{DefaultScope}
	_, err := w.Store(t.Context(), StoreConfig{Server: server, HostKey: hostKey})
	const want = `secret scope: secret scope "taipy-tunnel" is that of an Azure Key Vault: Databricks reads it, and cannot write to it`
	e := asError(t, err)
	if e.Error() != want || !e.Permanent {
		t.Errorf("%v", e)
	}
	for _, part := range []string{"--name host-key --value SHA256:", "az keyvault secret set", "put-acl taipy-tunnel GROUP READ"} {
		if !strings.Contains(e.Hint.String(), part) {
			t.Errorf("%q is not in: %s", part, e.Hint)
		}
	}
	equal(t, "asked", f.routes(), []string{"GET/secrets/list", "GET/secrets/scopes/list"})
	compat.Row(t, "platforms", "taipy-tunnel databricks store, into a scope of an Azure Key Vault", compat.Outcome(err))

	f.vaults = nil
	f.refusing(map[string]refusal{"GET /api/2.0/secrets/scopes/list": {403, "PERMISSION_DENIED", "not for you"}})
	if _, err := w.Store(t.Context(), StoreConfig{Server: server, HostKey: hostKey}); err != nil {
		t.Errorf("of an unknown kind: %v", err)
	}
}

// Two administrators at a time: the scope is there when it is to be made.
func TestStoreIntoAScopeThatCameMeanwhile(t *testing.T) {
	f, w := opened(t)
	f.scopes["s"] = map[string]string{}
	f.refusing(map[string]refusal{
		"GET /api/2.0/secrets/list":           {404, "RESOURCE_DOES_NOT_EXIST", "Scope s does not exist!"},
		"POST /api/2.0/secrets/scopes/create": {400, "RESOURCE_ALREADY_EXISTS", "Scope s already exists!"},
	})
	if _, err := w.Store(t.Context(), StoreConfig{Scope: "s", Server: server, HostKey: hostKey}); err != nil || len(f.scopes["s"]) != 3 {
		t.Errorf("%v, %d secrets", err, len(f.scopes["s"]))
	}
}

// pem64 are the lines of a key that are secret.
func pem64(key string) []string {
	return slices.DeleteFunc(strings.Split(key, "\n"), func(line string) bool { return len(line) < 20 || strings.HasPrefix(line, "-----") })
}

// holdsNone reports secrets that show in a value, however it is written.
func holdsNone(t *testing.T, what string, v any, secrets ...string) {
	t.Helper()
	texts := []string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, v))
	}
	if text, err := json.Marshal(v); err == nil {
		texts = append(texts, string(text))
	}
	if e, ok := v.(error); ok {
		for ; e != nil; e = errors.Unwrap(e) {
			texts = append(texts, e.Error())
		}
		if e, ok := errors.AsType[*Error](v.(error)); ok {
			texts = append(texts, e.Err.Error(), e.Hint.String())
		}
	}
	for _, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s holds a secret: %s", what, text)
			}
		}
	}
}

func lockedKey(t *testing.T) *pem.Block {
	t.Helper()
	private, _ := newKey(t)
	raw, err := ssh.ParseRawPrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(raw, "", []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// refuseKey answers a request that holds the key with the key.
func refuseKey(f *fake, key string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "PRIVATE") {
			reply(w, 400, map[string]string{"error_code": "INVALID_PARAMETER_VALUE", "message": "cannot store " + key})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.answer(w, r)
	})
}
