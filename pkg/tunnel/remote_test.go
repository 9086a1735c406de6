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

// Host names may have letters of both cases, and figures.
func TestHostsInBothCases(t *testing.T) {
	cfg := Config{Server: Servers{"me@h"}, SSHConfig: "none", URL: "https://Apps01.Corp.Contoso.com/", Target: "Node01.Corp.Contoso.com:5000"}
	if _, err := cfg.resolve(); err != nil {
		t.Error(err)
	}
}

// The port of an ssh command's -R is as good as one that is given.
func TestRemoteOfACommand(t *testing.T) {
	for _, cfg := range []Config{{}, {Remote: 9000}} {
		cfg.Server, cfg.SSHConfig = Servers{"ssh -NR 9000:127.0.0.1:5000 me@h"}, "none"
		if r, err := cfg.resolve(); err != nil || r.Remote != 9000 || !r.plainGiven {
			t.Errorf("%d, %v, %v", r.Remote, r.plainGiven, err)
		}
	}
	for _, cfg := range []Config{{Remote: 9001}, {RemoteSocket: "/run/x.sock"}, {Name: "sales"}} {
		cfg.Server, cfg.SSHConfig = Servers{"ssh -NR 9000:127.0.0.1:5000 me@h"}, "none"
		if _, err := cfg.resolve(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "port 9000 by -R") {
			t.Errorf("%v", err)
		}
	}
	cfg := Config{Server: Servers{"ssh -NR 8080:127.0.0.1:5000 me@h"}, SSHConfig: "none", Name: "sales"}
	if r, err := cfg.resolve(); err != nil || r.plainGiven {
		t.Errorf("the documentation's: %v", err)
	}
}

// However a server and its slot are written, they are one tunnel's.
func TestIdentity(t *testing.T) {
	for _, same := range []Config{{Server: Servers{"me@h"}}, {Server: Servers{"me@h:22"}}, {Server: Servers{"ssh://me@h/"}}, {Server: Servers{" 'me@H' "}},
		{Server: Servers{"ssh -NR 8080:127.0.0.1:5000 me@h"}, Remote: 8080}, {Server: Servers{"me@h -p 22"}, URL: "https://apps.example.com/"}} {
		same.SSHConfig = "none"
		if server, slot, err := same.Identity(); server != "me@h" || slot != "port 8080" || err != nil {
			t.Errorf("%q: %s, %s, %v", same.Server, server, slot, err)
		}
	}
	seen := map[string]bool{}
	for _, other := range []Config{{}, {Name: "sales"}, {Name: "9000"}, {RemoteSocket: "/run/x.sock"}, {Remote: 9000}, {Server: Servers{"ssh -NR 9001:127.0.0.1:5000 me@h"}},
		{Server: Servers{"me@h:2222"}}, {Server: Servers{"tls://me@h"}}} {
		if other.Server == nil {
			other.Server = Servers{"me@h"}
		}
		other.SSHConfig = "none"
		server, slot, err := other.Identity()
		if seen[server+" "+slot] || err != nil {
			t.Errorf("%s, %s twice, %v", server, slot, err)
		}
		seen[server+" "+slot] = true
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
		hint := fault.NotOurs("http://h/", "hello", tun.Addr(), false).Hint.String()
		if cfg.Remote == 9000 && (tun.Addr().String() != "127.0.0.1:9000" || !strings.Contains(hint, "proxy_pass http://127.0.0.1:9000;")) {
			t.Errorf("%v, %s", tun.Addr(), hint)
		}
		if cfg.Remote == 0 && (tun.Addr().Network() != "unix" || tun.Addr().String() != "/run/x.sock" || !strings.Contains(hint, "proxy_pass http://unix:/run/x.sock;")) {
			t.Errorf("%v, %s", tun.Addr(), hint)
		}
	}
}
