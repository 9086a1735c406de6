// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
)

// FuzzConfig: any text is either a configuration that stays the same when it is written and read
// again, or an error of class ErrConfig that does not quote a secret.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"", "{}", `{"server":"me@h","remote":8080}`, `{"server":["a@[::1]:22"],"url":"https://h/"}`,
		`{"server":"me@h:99999"}`, `{"server":"CORP\\jdoe@h"}`, `{"server":"ssh -p 2222 me@h"}`, `{"server":"me:pw@h"}`, `{"key":"PRIVATE KEY","no":1}`, `{"server":"me@h","target":"x"}`, `{"remote":1e99}`,
		`{"server":"tls://me@h","via":"http://a:b@c:1"}`, `{"server":"me@h","via":"socks5://[::1]","environment":{"NO_PROXY":"*"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig(text)
		var r resolved
		if err == nil {
			cfg.KeyPassphrase = "PASSPHRASE"
			r, err = cfg.resolve()
			cfg = r.Config
		}
		if err != nil {
			if !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "PASSPHRASE") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if cfg.Remote < 1 || cfg.Remote > 65535 || strings.ContainsAny(r.server.User+r.server.Host, " \n\t'\"/") || strings.Contains(r.server.Host, `\`) {
			t.Fatalf("%q was taken as %+v", text, cfg)
		}
		again, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseConfig(again)
		if err != nil || back.Server[0] != cfg.Server[0] || back.Remote != cfg.Remote || back.URL != cfg.URL {
			t.Fatalf("%s became %+v, %v", again, back, err)
		}
	})
}

// Without a URL it is that of the server's host, after ssh's configuration.
func TestURLOfTheServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("Host prox\n HostName 203.0.113.7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]string{"me@other": "http://other/", "tls://me@prox:8443": "http://203.0.113.7/", "me@[2001:db8::1]": "http://[2001:db8::1]/"} {
		cfg := Config{Server: Servers{server}, SSHConfig: path}
		if r, err := cfg.resolve(); err != nil || r.URL != want {
			t.Errorf("%s: %s, %v; want %s", server, r.URL, err, want)
		}
	}
}

// What a destination is told of the way there is all that Config says of it.
func TestDestinationOfAConfig(t *testing.T) {
	cfg := Config{Environment: map[string]string{"NO_PROXY": "*"}, Log: slog.New(slog.DiscardHandler), Control: func(string, string, syscall.RawConn) error { return nil }}
	from := reflect.ValueOf(&cfg).Elem()
	for i := range from.NumField() {
		if field := from.Field(i); field.CanSet() && field.Kind() == reflect.String {
			field.SetString("the " + from.Type().Field(i).Name)
		}
	}
	cfg.Server = Servers{"the Server"}
	to, err := cfg.Destination()
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[destination.Config]().NumField() {
		name, got := reflect.TypeFor[destination.Config]().Field(i).Name, reflect.ValueOf(to).Field(i)
		if got.IsZero() || got.Kind() == reflect.String && got.String() != "the "+name {
			t.Errorf("%s is %v", name, got)
		}
	}
	cfg.Server = append(cfg.Server, "another")
	if _, err := cfg.Destination(); !errors.Is(err, ErrConfig) {
		t.Errorf("two servers: %v", err)
	}
}

// A hint names a field of Config as a program in Go does; in JSON it is marked by its name there.
func TestHintsNameFields(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if hint := Hint("{" + name + "}"); name != "-" && hint.String() != "Config."+field.Name {
			t.Errorf("%s is %s, want Config.%s", string(hint), hint, field.Name)
		}
	}
}
