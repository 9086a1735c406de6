// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sshConfig writes an ssh_config file and returns its path.
func sshConfig(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Names are completed from ssh's configuration; what was given wins.
func TestServersFromSSHConfig(t *testing.T) {
	path := sshConfig(t, `
Host prox
	HostName 203.0.113.7
	User me
	Port 2222
Host far
	HostName far.example.com
	User me
	ProxyJump u@one:23,two
Host two
	User second
	HostName 192.0.2.2
Host chained
	User me
	ProxyJump three
Host three
	User third
	ProxyJump two
`)
	for _, c := range []struct{ server, jump, want, url string }{
		{"prox", "", "me@203.0.113.7:2222 []", "http://203.0.113.7/"},
		{"prox:99", "", "me@203.0.113.7:99 []", "http://203.0.113.7/"},
		{"you@prox", "", "you@203.0.113.7:2222 []", "http://203.0.113.7/"},
		{"me@other", "", "me@other:22 []", "http://other/"},
		{"far", "", "me@far.example.com:22 [u@one:23 second@192.0.2.2:22]", "http://far.example.com/"},
		{"far", "none", "me@far.example.com:22 []", "http://far.example.com/"},
		{"far", "x@y", "me@far.example.com:22 [x@y:22]", "http://far.example.com/"},
		{"me@other", " x@y , two", "me@other:22 [x@y:22 second@192.0.2.2:22]", "http://other/"},
		{"tls://me@other", "", "tls://me@other:443 []", "http://other/"},
		{"tls://prox", "", "tls://me@203.0.113.7:443 []", "http://203.0.113.7/"},
		{"tls://prox:8443", "", "tls://me@203.0.113.7:8443 []", "http://203.0.113.7/"},
		{"tls://me@[2001:db8::1]", "", "tls://me@[2001:db8::1]:443 []", "http://[2001:db8::1]/"},
		{"me@other", "tls://x@y, tls://two:9", "me@other:22 [tls://x@y:443 tls://second@192.0.2.2:9]", "http://other/"},
		{"chained", "", "me@chained:22 [second@192.0.2.2:22 third@three:22]", "http://chained/"},
		{"me@other", "three", "me@other:22 [second@192.0.2.2:22 third@three:22]", "http://other/"},
	} {
		cfg := Config{Server: Servers{c.server}, SSHConfig: path, Jump: c.jump}
		s, err := cfg.resolve()
		if got := fmt.Sprint(s, " ", s.jumps); err != nil || got != c.want || cfg.URL != c.url {
			t.Errorf("%s by %q: %s, %s, %v; want %s, %s", c.server, c.jump, got, cfg.URL, err, c.want, c.url)
		}
	}
}

func TestServersThatAreRefused(t *testing.T) {
	path := sshConfig(t, `
Host command
	ProxyCommand nc %h %p
Host circle
	ProxyJump circle2
Host circle2
	ProxyJump circle
Host odd
	HostName "a b"
Host dash
	HostName -oProxyCommand=x
Host port
	Port 0
Host *
	User me
Host nobody
`)
	for _, c := range []struct{ server, jump, file, says string }{
		{"host", "", "none", "names no user"},
		{"@host", "", path, "names no user"},
		{"me@host", "bastion", "none", `jump "bastion" names no user`},
		{"me@host", "a@b,", "none", "names no host"},
		{"me@host", "a:b@c", "none", "colon"},
		{"tls://", "", "none", "names no host"},
		{"tls://me@", "", "none", "names no host"},
		{"tls://me:pw@host", "", "none", "colon"},
		{"tls://tls://me@host", "", "none", "colon"},
		{"https://me@host", "", "none", "colon"},
		{"command", "", path, "ProxyCommand"},
		{"me@host", "command", path, "ProxyCommand"},
		{"circle", "", path, "machines are on the way"},
		{"me@host", "circle", path, "machines are on the way"},
		{"me@host", strings.Repeat("a@b,", 9) + "a@b", "none", "machines are on the way"},
		{"odd", "", path, "a character that no"},
		{"dash", "", path, "dash"},
		{"port", "", path, `Port "0"`},
		{"me@host", "", path + ".none", "cannot be read"},
	} {
		_, err := (&Config{Server: Servers{c.server}, SSHConfig: c.file, Jump: c.jump}).resolve()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says) || AsError(err).Hint == "" {
			t.Errorf("%s by %q: %v, want %q", c.server, c.jump, err, c.says)
		}
	}
	if _, err := (&Config{Server: Servers{"command"}, SSHConfig: path, Jump: "none"}).resolve(); err != nil {
		t.Errorf("jump=none: %v", err)
	}
}

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
		if _, err := cfg.resolve(); err != nil || cfg.Remote != want.Remote || cfg.RemoteSocket != want.RemoteSocket {
			t.Errorf("%s: %d, %q, %v", text, cfg.Remote, cfg.RemoteSocket, err)
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
	if _, err := (&Config{Server: Servers{"me@h"}, Remote: 1, RemoteSocket: "/x"}).resolve(); !errors.Is(err, ErrConfig) {
		t.Errorf("both: %v", err)
	}
}
