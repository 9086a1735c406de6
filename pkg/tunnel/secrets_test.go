// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/secrettest"
)

// placed are the ways to put a secret into a field: alone, and where a user or a password would be.
func placed(secret string) []string {
	return []string{secret, "me@" + secret, secret + "@127.0.0.1:1", "http://" + secret, "http://me:" + secret + "@127.0.0.1:1", "/no/such/" + secret}
}

// fill puts a text into a field of Config; false: the field takes no text.
func fill(t *testing.T, field reflect.Value, text string) bool {
	switch to := field.Addr().Interface().(type) {
	case *string:
		*to = text
	case *Check:
		*to = Check(text)
	case *Servers:
		*to = Servers{text}
	case *[]string:
		*to = []string{text}
	case *map[string]string:
		*to = map[string]string{"HTTPS_PROXY": text, "SSL_CERT_FILE": text, "NO_PROXY": text}
	case *Access:
		*to = Access{Passwords: map[string]string{"me": text}}
	case *int, *bool, *time.Time, *func() bool, *func(int, error), **slog.Logger, *func(network, address string, c syscall.RawConn) error:
		return false
	default:
		t.Fatalf("how to fill a field of type %T?", to)
	}
	return true
}

// seen collects what people see of an error.
func seen(err error) string {
	if err == nil {
		return ""
	}
	shown := fmt.Sprintf("%v\n%+v\n%#v\n", err, err, err)
	if e, ok := errors.AsType[*Error](err); ok {
		text, _ := json.Marshal(e)
		shown += e.Hint.String() + "\n" + string(text)
	}
	return shown
}

// network notes what a tunnel asks of it, and refuses all. The machine's own address is no secret.
type network struct {
	mu    sync.Mutex
	asked []string
}

func (n *network) note(what string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, what)
	return errors.New("there is no network here")
}

// shut has names resolved nowhere, and noted, until the test ends.
func shut(t *testing.T) *network {
	n := &network{}
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, n.note("a name")
	}}
	t.Cleanup(func() { net.DefaultResolver = before })
	return n
}

// A secret in any field, in any form, is in nothing that people are shown, and asked of no network. The
// fields are those that there are.
func TestNoArgumentIsEchoed(t *testing.T) {
	n := shut(t)
	t.Setenv("HOME", t.TempDir())
	base := Config{Server: Servers{"me@127.0.0.1:1"}, HostKey: "SHA256:" + strings.Repeat("A", 43), SSHConfig: "none", Agent: "none",
		Environment: map[string]string{}, Key: filepath.Join(t.TempDir(), "key")}
	forms := secrettest.Forms(t)
	if err := os.WriteFile(base.Key, []byte(secrettest.Forms(t)["PEM"]), 0o600); err != nil {
		t.Fatal(err)
	}
	tried, echoes := 0, 0
	look := func(cfg Config, field, form, secret string, more ...string) {
		var log bytes.Buffer
		cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.Control = func(_, address string, _ syscall.RawConn) error {
			if address != "127.0.0.1:1" {
				return n.note(address)
			}
			return errors.New("it is shut")
		}
		announced, err := json.Marshal(cfg.Announced())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // the configuration is read whole before any wait
		defer cancel()
		_, err = Expose(ctx, cfg)
		shown := strings.Join(append(more, seen(err), log.String(), string(announced)), "\n")
		tried++
		if part := secrettest.Echo(secret, shown); part != "" {
			echoes++
			t.Errorf("%s, %s: %q is shown: %.200s", field, form, part, shown[max(0, strings.Index(shown, part)-100):])
		}
	}
	for form, secret := range forms {
		for i := range reflect.TypeFor[Config]().NumField() {
			field := reflect.TypeFor[Config]().Field(i)
			for way, text := range placed(secret) {
				if (way > 0 || strings.HasPrefix(form, "URL") || strings.HasPrefix(text, "/")) && (field.Name == "URL" || field.Name == "RemoteSocket" || field.Name == "Target") {
					continue // a path that is whole, or an address of visitors', is what it says
				}
				cfg := base
				if fill(t, reflect.ValueOf(&cfg).Elem().Field(i), text) {
					look(cfg, field.Name, fmt.Sprint(form, ", way ", way), secret)
				}
			}
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			for _, text := range []string{asJSON(t, map[string]any{name: secret}), asJSON(t, map[string]any{name: map[string]string{secret: secret}}),
				asJSON(t, map[string]any{name: []any{secret, 7}}), asJSON(t, map[string]any{secret: 1})} {
				cfg, err := ParseConfig([]byte(text))
				cfg.Key, cfg.HostKey, cfg.SSHConfig, cfg.Environment = base.Key, base.HostKey, "none", base.Environment
				look(cfg, "JSON of "+field.Name, form, secret, seen(err))
			}
		}
	}
	t.Logf("%d echoes in %d tries", echoes, tried)
	if len(n.asked) > 0 {
		t.Errorf("%d times the network was asked: %q", len(n.asked), n.asked[:1])
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Where the field itself is a secret not even a short one is shown, nor looked up as a name.
func TestNoPasswordIsEchoed(t *testing.T) {
	n := shut(t)
	const secret = "hunter2horse" // 12 characters
	set := map[string]func(*Config, string){
		"key_passphrase": func(c *Config, s string) { c.KeyPassphrase = s },
		"token":          func(c *Config, s string) { c.Token = s },
		"password":       func(c *Config, s string) { c.Access.Passwords = map[string]string{"me": s} },
		"user":           func(c *Config, s string) { c.Access.Passwords = map[string]string{s + ":": "short"} },
		"via":            func(c *Config, s string) { c.Via = s },
		"via's password": func(c *Config, s string) { c.Via = "http://me:" + s + "@127.0.0.1:x" },
		"via's user":     func(c *Config, s string) { c.Via = s + "@127.0.0.1:1/x" },
		"variable":       func(c *Config, s string) { c.Environment = map[string]string{"ALL_PROXY": s} },
		"url's password": func(c *Config, s string) { c.URL = "https://me:" + s + "@example.com/" },
		"server's":       func(c *Config, s string) { c.Server = Servers{"me:" + s + "@127.0.0.1:1"} },
		"server as URL":  func(c *Config, s string) { c.Server = Servers{"ssh://me:" + s + "@127.0.0.1:1"} },
		"jump's":         func(c *Config, s string) { c.Jump = "me:" + s + "@127.0.0.1:1" },
	}
	for name, set := range set {
		cfg := Config{Server: Servers{"me@127.0.0.1:1"}, HostKey: "SHA256:" + strings.Repeat("A", 43), SSHConfig: "none", Environment: map[string]string{}, Key: "/no/such/key"}
		set(&cfg, secret)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := Expose(ctx, cfg)
		cancel()
		if shown := seen(err); !errors.Is(err, ErrConfig) || strings.Contains(shown, secret) {
			t.Errorf("%s: %s", name, shown)
		}
	}
	if len(n.asked) > 0 {
		t.Errorf("the network was asked: %q", n.asked)
	}
}

// What is as long as a token and is none: a host with its domain, an alias of ssh's configuration, a tenant.
func TestLongNamesAreTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("Host a-name-of-our-own-machine\n HostName 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for server, right := range map[string]bool{
		"me@a-name-of-a-machine-that-is-long.example.com": true,
		"me@a-name-of-our-own-machine":                    true,
		"me@a-name-of-another-machine":                    false,
		"finance-department-emea@host":                    true,
		"finance-department-of-all-the-world@host":        false,
		"0123456789abcdef0123456789abcdef@host":           false,
		"0123456789abcdef0123456789abcdef":                false,
	} {
		cfg := Config{Server: Servers{server}, SSHConfig: file}
		if _, err := cfg.resolve(); (err == nil) != right {
			t.Errorf("%s: %v", server, err)
		}
	}
}
