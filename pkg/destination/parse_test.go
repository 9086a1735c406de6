// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
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
	for _, c := range []struct{ server, jump, want, host string }{
		{"prox", "", "me@203.0.113.7:2222 []", "203.0.113.7"},
		{"prox:99", "", "me@203.0.113.7:99 []", "203.0.113.7"},
		{"you@prox", "", "you@203.0.113.7:2222 []", "203.0.113.7"},
		{"me@other", "", "me@other:22 []", "other"},
		{"far", "", "me@far.example.com:22 [u@one:23 second@192.0.2.2:22]", "far.example.com"},
		{"far", "none", "me@far.example.com:22 []", "far.example.com"},
		{"far", "x@y", "me@far.example.com:22 [x@y:22]", "far.example.com"},
		{"me@other", " x@y , two", "me@other:22 [x@y:22 second@192.0.2.2:22]", "other"},
		{"tls://me@other", "", "tls://me@other:443 []", "other"},
		{"TLS://me@other/", "", "tls://me@other:443 []", "other"},
		{"tls://prox", "", "tls://me@203.0.113.7:443 []", "203.0.113.7"},
		{"tls://prox:8443", "", "tls://me@203.0.113.7:8443 []", "203.0.113.7"},
		{"tls://me@[2001:db8::1]", "", "tls://me@[2001:db8::1]:443 []", "[2001:db8::1]"},
		{"me@other", "tls://x@y, tls://two:9", "me@other:22 [tls://x@y:443 tls://second@192.0.2.2:9]", "other"},
		{"chained", "", "me@chained:22 [second@192.0.2.2:22 third@three:22]", "chained"},
		{`CORP\jdoe@other`, "", `CORP\jdoe@other:22 []`, "other"},
		{"jdoe@corp.example.com@other", `CORP\jdoe@two`, `jdoe@corp.example.com@other:22 [CORP\jdoe@192.0.2.2:22]`, "other"},
		{"me@other", "three", "me@other:22 [second@192.0.2.2:22 third@three:22]", "other"},
	} {
		d, err := Resolve(Config{Server: c.server, SSHConfig: path, Jump: c.jump})
		if err != nil {
			t.Errorf("%s by %q: %v", c.server, c.jump, err)
		} else if got := fmt.Sprint(d, " ", d.jumps); got != c.want || d.URLHost() != c.host {
			t.Errorf("%s by %q: %s, %s; want %s, %s", c.server, c.jump, got, d.URLHost(), c.want, c.host)
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
Host overTLS
	ProxyCommand openssl s_client -quiet -connect %h:443
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
		{"tls://tls://me@host", "", "none", "is a URL"},
		{"https://me@host", "", "none", "is a URL"},
		{"command", "", path, "ProxyCommand"},
		{"overTLS", "", path, "ProxyCommand"},
		{"me@host", "command", path, "ProxyCommand"},
		{"circle", "", path, "machines are on the way"},
		{"me@host", "circle", path, "machines are on the way"},
		{"me@host", strings.Repeat("a@b,", 9) + "a@b", "none", "machines are on the way"},
		{"odd", "", path, "a character that no"},
		{`me@CORP\host`, "", "none", "a character that no"},
		{"dash", "", path, "dash"},
		{"port", "", path, `Port "0"`},
		{"me@host", "", path + ".none", "cannot be read"},
	} {
		_, err := Resolve(Config{Server: c.server, SSHConfig: c.file, Jump: c.jump})
		if !errors.Is(err, fault.ErrConfig) || !strings.Contains(err.Error(), c.says) || fault.From(err).Hint == "" {
			t.Errorf("%s by %q: %v, want %q", c.server, c.jump, err, c.says)
		}
	}
	if _, err := Resolve(Config{Server: "command", SSHConfig: path, Jump: "none"}); err != nil {
		t.Errorf("jump=none: %v", err)
	}
}

// What a tenant's server is called follows from what the admin logged in to.
func TestServerForAnotherAccount(t *testing.T) {
	for want, s := range map[string]Destination{
		"sales@proxy.example.com":       {User: "root", Host: "proxy.example.com", Port: 22},
		"sales@proxy.example.com:2222":  {User: "root", Host: "proxy.example.com", Port: 2222},
		"sales@[2001:db8::1]":           {User: "root", Host: "2001:db8::1", Port: 22},
		"sales@[2001:db8::1]:2222":      {User: "root", Host: "2001:db8::1", Port: 2222},
		"tls://sales@proxy.example.com": {User: "root", Host: "proxy.example.com", Port: 443, tls: &egress.TLS{}},
		"tls://sales@[2001:db8::1]:22":  {User: "root", Host: "2001:db8::1", Port: 22, tls: &egress.TLS{}},
	} {
		got := s.ServerFor("sales")
		again, err := parse("server", got)
		if got != want || err != nil || again.Host != s.Host || again.User != "sales" || again.Port != s.Port && again.Port != 0 {
			t.Errorf("%q, want %q; read again %+v, %v", got, want, again, err)
		}
	}
}
