// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
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
