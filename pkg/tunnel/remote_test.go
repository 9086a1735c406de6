// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// In JSON remote is a port or the path of a socket.
func TestRemoteInJSON(t *testing.T) {
	for text, want := range map[string]Config{`9000`: {Remote: 9000}, `"/run/x.sock"`: {RemoteSocket: "/run/x.sock"}, `0`: {Remote: DefaultRemote}} {
		cfg, err := ParseConfig([]byte(`{"server":"me@h","ssh_config":"none","remote":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		back, err := json.Marshal(cfg)
		if err != nil || !strings.Contains(string(back), `"remote":`+text) || strings.Count(string(back), "remote") != 1 {
			t.Errorf("%s: written as %s, %v", text, back, err)
		}
		if r, err := cfg.resolve(); err != nil || r.Remote != want.Remote || r.RemoteSocket != want.RemoteSocket {
			t.Errorf("%s: %d, %q, %v", text, r.Remote, r.RemoteSocket, err)
		}
	}
	for _, text := range []string{`"8080"`, `""`, `"x/y"`, `[]`, `1.5`, `true`, `"/a\u0000b"`, `"/a\nb"`, `"/` + strings.Repeat("x", maxSocket) + `"`} {
		cfg, err := ParseConfig([]byte(`{"server":"me@h","ssh_config":"none","remote":` + text + `}`))
		if err == nil {
			_, err = cfg.resolve()
		}
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := ParseConfig([]byte(`{"server":"me@h","remotes":1}`)); !errors.Is(err, ErrConfig) {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := (Config{Server: Servers{"me@h"}, Remote: 1, RemoteSocket: "/x"}).resolve(); !errors.Is(err, ErrConfig) {
		t.Errorf("both: %v", err)
	}
}

// The slot is shown as it was given, everywhere.
func TestSlotsAreShown(t *testing.T) {
	for want, cfg := range map[string]Config{
		`"remote":9000`:          {Remote: 9000},
		`"remote":"/run/x.sock"`: {RemoteSocket: "/run/x.sock"},
	} {
		cfg.Server = Servers{"me@h"}
		tun := newTunnel(resolved{Config: cfg, server: &destination.Destination{}}, nil)
		shown, err := tun.Status().MarshalJSON()
		if err != nil || strings.Count(string(shown), "emote") != 1 || !strings.Contains(string(shown), want) {
			t.Errorf("%s, %v: want %s", shown, err, want)
		}
		hint := fault.NotOurs("http://h/", "hello", tun.Addr()).Hint.String()
		if cfg.Remote == 9000 && (tun.Addr().String() != "127.0.0.1:9000" || !strings.Contains(hint, "proxy_pass http://127.0.0.1:9000;")) {
			t.Errorf("%v, %s", tun.Addr(), hint)
		}
		if cfg.Remote == 0 && (tun.Addr().Network() != "unix" || tun.Addr().String() != "/run/x.sock" || !strings.Contains(hint, "proxy_pass http://unix:/run/x.sock;")) {
			t.Errorf("%v, %s", tun.Addr(), hint)
		}
	}
}
