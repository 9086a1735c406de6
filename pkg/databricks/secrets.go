// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"encoding/base64"
	"regexp"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/databricks/databricks-sdk-go/service/workspace"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

// DefaultScope is the secret scope that is looked at where none is named. Its keys have the names of
// the arguments that they stand for.
const DefaultScope = "taipy-tunnel"

var nameOfSecret = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,128}$`)

// Secrets reads those of the wanted keys that a scope has, and does not fail for want of one: a list
// of the scope, then the found ones side by side.
func (w *Workspace) Secrets(ctx context.Context, scope string, wanted []string) (map[string]Value, error) {
	keys, err := w.keys(ctx, scope)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !slices.Contains(wanted, key) })
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		mu     sync.Mutex
		first  error
		found  = map[string]Value{}
		places = make(chan struct{}, maxTogether)
	)
	note := func(key string, value Value, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			found[key] = value
		} else if first == nil {
			first = err
			stop()
		}
	}
	g := guard.Group{Panicked: func(err error) { note("", "", fault.Internal(err)) }}
	for _, key := range keys {
		places <- struct{}{}
		g.Go(func() {
			defer func() { <-places }()
			value, err := w.Secret(ctx, scope, key)
			note(key, value, err)
		})
	}
	g.Wait()
	if first != nil {
		return nil, first
	}
	return found, nil
}

// keys lists those of a scope.
func (w *Workspace) keys(ctx context.Context, scope string) (keys []string, err error) {
	if err := checkName("scope", scope); err != nil {
		return nil, err
	}
	words := refusals{
		sent:      []string{scope},
		missing:   func(said string) *fault.Error { return fault.NoScope(scope, said) },
		forbidden: func(said string) *fault.Error { return fault.NoRead(scope, said) },
	}
	list, err := ask(ctx, w, words, func(ctx context.Context) (*workspace.ListSecretsResponse, error) {
		return workspace.NewSecrets(w.client).ListSecretsByScope(ctx, scope)
	})
	if err != nil {
		return nil, err
	}
	for _, s := range list.Secrets {
		keys = append(keys, s.Key)
	}
	return keys, nil
}

// Secret reads one value. Its text is returned as it was stored.
func (w *Workspace) Secret(ctx context.Context, scope, key string) (Value, error) {
	if err := checkName("scope", scope); err != nil {
		return "", err
	}
	if err := checkName("key", key); err != nil {
		return "", err
	}
	words := refusals{
		sent:      []string{scope, key},
		missing:   func(said string) *fault.Error { return fault.NoSecret(scope, key, said) },
		forbidden: func(said string) *fault.Error { return fault.NoRead(scope, said) },
		bad:       func(said string) *fault.Error { return fault.NotesOnly(scope, key, said) },
	}
	answer, err := ask(ctx, w, words, func(ctx context.Context) (*workspace.GetSecretResponse, error) {
		return workspace.NewSecrets(w.client).GetSecret(ctx, workspace.GetSecretRequest{Scope: scope, Key: key})
	})
	if err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(answer.Value)
	if err != nil || answer.Key != key {
		return "", fault.NotWorkspace(w.name, "something that is not a secret")
	}
	if !utf8.Valid(text) {
		return "", fault.Config("store it as text: databricks secrets put-secret SCOPE KEY", "secret %s of scope %s is not text", fault.Quote(key), fault.Quote(scope))
	}
	return Value(text), nil
}

func checkName(what, name string) error {
	if !nameOfSecret.MatchString(name) {
		return fault.Config("names have up to 128 letters, digits, and - _ . @", "%s is not the name of a secret's %s", fault.Quote(name), what)
	}
	return nil
}
