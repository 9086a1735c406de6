// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/databricks/databricks-sdk-go/apierr"
	"github.com/databricks/databricks-sdk-go/service/workspace"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// StoreConfig says what a workspace's notebooks shall find.
type StoreConfig struct {
	// Scope is the secret scope, made if it is not there. "": DefaultScope.
	Scope string
	// Server is the proxy, "user@host[:port]", required. It may have any form of tunnel.Config.
	Server string
	// HostKey is the proxy's: fingerprints, as ssh-keygen -l prints them, or known_hosts lines, required: what the
	// machine says of itself, not what a scan of the network says.
	HostKey string
	// Key is the text of the private key to log in with, without a passphrase. "": the one that the
	// scope has stays; if it has none, a new one is made.
	Key Value
	// NewKey has a new key made though the scope has one. Not with Key.
	NewKey bool
	// Group is who may read the scope from then on, a group or a user. "": "users", everybody in the
	// workspace.
	Group string
}

// StoreResult is what was stored. It holds no secret.
type StoreResult struct {
	Scope string `json:"scope"`
	Group string `json:"group"`
	// PublicKey is the line for authorized_keys on the proxy. "": the scope's own key was kept, and
	// the workspace does not give it out here.
	PublicKey string `json:"public_key"`
	// KeyKept: the scope had a key already.
	KeyKept bool `json:"key_kept"`
}

const (
	maxSecret  = 128 << 10 // bytes
	keyComment = "taipy-tunnel"
)

// Store writes server, host_key and key to a secret scope, and lets a group read it. A key that it
// makes goes nowhere else. Everything is checked before anything is written; the permission to read
// is given last, so that nobody reads one half. A scope of an Azure Key Vault, into which Databricks
// cannot write, is an error.
func (w *Workspace) Store(ctx context.Context, cfg StoreConfig) (StoreResult, error) {
	public, err := cfg.check()
	if err != nil {
		return StoreResult{}, err
	}
	result := StoreResult{Scope: cfg.Scope, Group: cfg.Group, PublicKey: public}
	existing, err := w.keys(ctx, cfg.Scope)
	if errors.Is(err, ErrNoScope) {
		err = w.createScope(ctx, cfg.Scope)
	} else if err == nil && w.inVault(ctx, cfg.Scope) {
		err = fault.VaultScope(cfg.Scope)
	}
	if err != nil {
		return StoreResult{}, err
	}
	pairs := [][2]string{{"server", cfg.Server}, {"host_key", cfg.HostKey}}
	switch {
	case cfg.Key != "":
	case slices.Contains(existing, "key") && !cfg.NewKey:
		result.KeyKept = true
		if kept, err := w.Secret(ctx, cfg.Scope, "key"); err == nil {
			result.PublicKey, _ = sshauth.PublicKey(string(kept))
		}
	default:
		private, public, err := sshauth.NewKeyPair(keyComment)
		if err != nil {
			return StoreResult{}, fault.Internal(err)
		}
		cfg.Key, result.PublicKey = Value(private), public
	}
	if !result.KeyKept {
		pairs = append(pairs, [2]string{"key", string(cfg.Key)})
	}
	for _, pair := range pairs {
		if err := w.put(ctx, cfg.Scope, pair[0], pair[1]); err != nil {
			return StoreResult{}, err
		}
	}
	return result, w.allow(ctx, cfg.Scope, cfg.Group)
}

// check fills in defaults and returns the public half of the key that was given.
func (cfg *StoreConfig) check() (public string, err error) {
	if cfg.Scope == "" {
		cfg.Scope = DefaultScope
	}
	if cfg.Group == "" {
		cfg.Group = "users"
	}
	cfg.Server, cfg.HostKey = strings.TrimSpace(cfg.Server), strings.TrimSpace(cfg.HostKey)
	if err := checkName("scope", cfg.Scope); err != nil {
		return "", err
	}
	if strings.ContainsFunc(cfg.Group, unicode.IsControl) || len(cfg.Group) > 255 {
		return "", fault.Config("", "group is not the name of a group or user")
	}
	if cfg.Server, err = canonical(cfg.Server); err != nil {
		return "", err
	}
	if cfg.HostKey, err = canonicalHostKey(cfg.HostKey); err != nil {
		return "", err
	}
	if cfg.Key == "" {
		return "", nil
	}
	if cfg.NewKey {
		return "", fault.Config("leave one of them out", "a key was given, and a new one is to be made")
	}
	if len(cfg.Key) > maxSecret {
		return "", fault.Config("", "key is larger than 128 KiB, the most that a secret may be")
	}
	return sshauth.PublicKey(string(cfg.Key))
}

// canonical is the server as notebooks find it. That it has a user is checked here, for there is no ssh_config.
func canonical(server string) (string, error) {
	const hint = `write {server="user@host"} or {server="user@host:port"}`
	if server == "" {
		return "", fault.Config(hint, "no server was given")
	}
	text, err := destination.Canonical(server)
	if err == nil && !strings.Contains(text, "@") {
		err = fault.Config(hint, "server %s names no user and host", fault.Quote(server))
	}
	return text, err
}

// canonicalHostKey takes what a notebook can use: no path, for the file is on another machine. Fingerprints are stored without
// what was copied with them.
func canonicalHostKey(text string) (string, error) {
	const hint = "on the proxy: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; give the line that it prints"
	if text == "" {
		return "", fault.Config(hint, "no host key was given, and none is taken from the network")
	}
	if hostkeys.IsPath(text) {
		return "", fault.Config(hint, "the host key is neither a fingerprint nor a known_hosts line")
	}
	if len(text) > maxSecret {
		return "", fault.Config("", "the host key is larger than 128 KiB, the most that a secret may be")
	}
	known, err := hostkeys.New(text)
	if err == nil && known.Pins() != nil {
		text = strings.Join(known.Pins(), " ")
	}
	return text, err
}

func manage(scope string, sent ...string) refusals {
	return refusals{
		sent:      append(sent, scope),
		missing:   func(said string) *fault.Error { return fault.NoScope(scope, said) },
		forbidden: func(said string) *fault.Error { return fault.NoManage(scope, said) },
	}
}

// inVault reports whether a scope is that of an Azure Key Vault. Where the workspace does not tell, it is not.
func (w *Workspace) inVault(ctx context.Context, scope string) bool {
	all, err := ask(ctx, w, manage(scope), workspace.NewSecrets(w.client).ListScopesAll)
	return err == nil && slices.ContainsFunc(all, func(s workspace.SecretScope) bool {
		return s.Name == scope && s.BackendType == workspace.ScopeBackendTypeAzureKeyvault
	})
}

func (w *Workspace) createScope(ctx context.Context, scope string) error {
	return w.do(ctx, manage(scope), func(ctx context.Context) error {
		err := workspace.NewSecrets(w.client).CreateScope(ctx, workspace.CreateScope{Scope: scope})
		if errors.Is(err, apierr.ErrResourceAlreadyExists) {
			return nil
		}
		return err
	})
}

func (w *Workspace) put(ctx context.Context, scope, key, value string) error {
	words := manage(scope)
	words.quiet = key == "key"
	return w.do(ctx, words, func(ctx context.Context) error {
		return workspace.NewSecrets(w.client).PutSecret(ctx, workspace.PutSecret{Scope: scope, Key: key, StringValue: value})
	})
}

func (w *Workspace) allow(ctx context.Context, scope, group string) error {
	return w.do(ctx, manage(scope, group), func(ctx context.Context) error {
		return workspace.NewSecrets(w.client).PutAcl(ctx, workspace.PutAcl{Scope: scope, Principal: group, Permission: workspace.AclPermissionRead})
	})
}

// do is ask for what has no answer.
func (w *Workspace) do(ctx context.Context, words refusals, f func(context.Context) error) error {
	_, err := ask(ctx, w, words, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}
