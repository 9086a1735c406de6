// SPDX-License-Identifier: Apache-2.0

//go:build linux

package destination

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// What people copy from a page, a terminal or an .env file is a server.
func TestPastedServers(t *testing.T) {
	for _, row := range []struct{ name, server, want string }{
		{"user@host", "me@proxy.example.com", "me@proxy.example.com"},
		{"with a line end", "me@proxy.example.com:2222\n", "me@proxy.example.com:2222"},
		{"with blanks around it", "  me@proxy.example.com ", "me@proxy.example.com"},
		{"in quotes, as docker --env-file keeps them", `"me@proxy.example.com"`, "me@proxy.example.com"},
		{"ssh://", "ssh://me@proxy.example.com", "me@proxy.example.com"},
		{"ssh:// with a port and a slash", "ssh://me@proxy.example.com:2222/", "me@proxy.example.com:2222"},
		{"ssh:// in capitals", "SSH://me@proxy.example.com", "me@proxy.example.com"},
		{"ssh:// with IPv6", "ssh://me@[2001:db8::1]:2222", "me@[2001:db8::1]:2222"},
		{"tls://", "tls://me@proxy.example.com", "tls://me@proxy.example.com"},
		{"the line of Taipy's page", "ssh -R 8080:127.0.0.1:5000 me@203.0.113.7", "me@203.0.113.7"},
		{"the same with -p", "ssh -R 8080:localhost:5000 me@203.0.113.7 -p 2222", "me@203.0.113.7:2222"},
		{"the same with flags", "ssh -fNT -o ServerAliveInterval=60 -o ExitOnForwardFailure=yes -R 8080:127.0.0.1:5000 -p2222 me@203.0.113.7", "me@203.0.113.7:2222"},
		{"the same with a bind address", "ssh -R 127.0.0.1:8080:127.0.0.1:5000 me@203.0.113.7", "me@203.0.113.7"},
		{"autossh", "autossh -M 0 -N -R 8080:127.0.0.1:5000 me@203.0.113.7", "me@203.0.113.7"},
		{"-l", "ssh -l me 203.0.113.7", "me@203.0.113.7"},
		{"-o User and Port", "ssh -o User=me -oPort=2222 203.0.113.7", "me@203.0.113.7:2222"},
		{"the command's words alone", "me@203.0.113.7 -p 2222", "me@203.0.113.7:2222"},
		{"with a prompt, on several lines", "$ ssh -N \\\n    -R 8080:127.0.0.1:5000 \\\n    me@203.0.113.7", "me@203.0.113.7"},
		{"of a notebook's cell", "!ssh -N -R 8080:127.0.0.1:5000 me@203.0.113.7", "me@203.0.113.7"},
		{"-o in quotes", `ssh -o "User me" -o 'ServerAliveInterval 60' 203.0.113.7`, "me@203.0.113.7"},
		{"a command for the other side", "ssh me@203.0.113.7 sudo -u root ls", "me@203.0.113.7"},
		{"run by sudo", "sudo ssh -N -R 8080:127.0.0.1:5000 me@203.0.113.7", "me@203.0.113.7"},
		{"run by nohup", "nohup ssh -N -R 8080:127.0.0.1:5000 me@203.0.113.7 &", "me@203.0.113.7"},
		{"run by sshpass, with a password that might be a port", "sshpass -p 1234 ssh me@203.0.113.7", "me@203.0.113.7"},
		{"after an assignment", "LC_ALL=C ssh me@203.0.113.7", "me@203.0.113.7"},
		{"after a variable with an @ in it", "X=p@ss ssh me@203.0.113.7", "me@203.0.113.7"},
		{"run by sshpass, after a password with an @", "SSHPASS=p@ss sshpass -e ssh me@203.0.113.7", "me@203.0.113.7"},
		{"run by sshpass, with a password with an @", "sshpass -p 'p@ss' ssh me@203.0.113.7", "me@203.0.113.7"},
		{"of Windows", `C:\Windows\System32\OpenSSH\ssh.exe -N me@203.0.113.7`, "me@203.0.113.7"},
		{"an account named ssh", "ssh@203.0.113.7 -p 2222", "ssh@203.0.113.7:2222"},
		{"ssh and a URL", "ssh ssh://me@203.0.113.7:2222", "me@203.0.113.7:2222"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, err := Canonical(row.server); err != nil || got != row.want {
				t.Errorf("%s, %v; want %s", got, err, row.want)
			}
			if d, err := Resolve(Config{Server: row.server, SSHConfig: "none"}); err != nil || !strings.HasPrefix(row.want, d.User+"@") && !strings.HasPrefix(row.want, tlsScheme+d.User+"@") {
				t.Errorf("%v, %v", d, err)
			}
			outcome := compat.Taken
			if row.server != row.want {
				outcome += ": as " + row.want
			}
			compat.Row(t, "servers", fmt.Sprintf("server=%q", row.server), outcome)
		})
	}
}

// What would be lost of a command is told, with the arguments that stand for it.
func TestPastedServersThatAreRefused(t *testing.T) {
	const command = "server is an ssh command with options that have arguments of their own here"
	for _, row := range []struct{ name, server, says, hint string }{
		{"-R of two ports", "ssh -R 8081:127.0.0.1:5000 -R 8082:127.0.0.1:5001 me@203.0.113.7 -p 2222", command, `write Config.Server = []string{"me@203.0.113.7:2222"}, and the port that nginx asks for the app, or the socket, as Config.Remote`},
		{"-R of the documentation's and another", "ssh -R 8080:127.0.0.1:5000 -R 2222:127.0.0.1:22 me@203.0.113.7", command, "Config.Remote"},
		{"-R of another and the documentation's", "ssh -R 2222:127.0.0.1:22 -R 8080:127.0.0.1:5000 me@203.0.113.7", command, "Config.Remote"},
		{"-i", "ssh -i ~/.ssh/id -R 8080:127.0.0.1:5000 me@203.0.113.7", command, `Config.Key = "PATH"`},
		{"-J", "ssh -J you@bastion me@203.0.113.7", command, `Config.Jump = "you@bastion"`},
		{"-J without an account", "ssh -J b,tls://c me@203.0.113.7", command, `Config.Jump = "b,tls://c" with an account before each machine`},
		{"-R of a port that sshd chooses", "ssh -R 0:127.0.0.1:5000 me@203.0.113.7", command, `and the port that nginx asks for the app, or the socket, as Config.Remote`},
		{"-J of TLS", "ssh -J tls://you@bastion me@203.0.113.7", command, `Config.Jump = "tls://you@bastion"`},
		{"-J and -R of another port", "ssh -J you@bastion -R 8081:127.0.0.1:5000 me@203.0.113.7", command, `Config.Jump = "you@bastion", Config.Remote = 8081`},
		{"-i and -R of another port", "ssh -i ~/.ssh/id -R 8081:127.0.0.1:5000 me@203.0.113.7", command, `Config.Key = "PATH", Config.Remote = 8081`},
		{"-J that may hold a password", "ssh -J you:hunter2@bastion me@203.0.113.7", command, `Config.Jump = "user@host"`},
		{"-o ProxyCommand of TLS", "ssh -p 22 -o 'ProxyCommand=openssl s_client -quiet -connect %h:443' me@203.0.113.7", command, `Config.Server = []string{"tls://me@203.0.113.7"}`},
		{"-o ProxyCommand of TLS, another port", "ssh -oProxyCommand='ncat --ssl 203.0.113.7 8443' me@203.0.113.7", command, `Config.Server = []string{"tls://me@203.0.113.7:8443"}`},
		{"-o ProxyCommand of TLS, ssh's port", "ssh -p 8443 -o 'ProxyCommand openssl s_client -proxy corp:3128 -connect %h:%p' me@203.0.113.7", command, `Config.Server = []string{"tls://me@203.0.113.7:8443"}`},
		{"-o ProxyCommand of TLS, ssh's own port", "ssh -o 'ProxyCommand openssl s_client -connect %h:%p' me@203.0.113.7", command, `Config.Server = []string{"tls://me@203.0.113.7:22"}`},
		{"-o ProxyCommand of TLS to another host", "ssh -o 'ProxyCommand openssl s_client -connect gateway:443' me@203.0.113.7", "whose ProxyCommand speaks TLS", `"tls://user@host:port"`},
		{"-o ProxyCommand of GnuTLS", "ssh -o 'ProxyCommand gnutls-cli -p 8443 %h' me@203.0.113.7", "whose ProxyCommand speaks TLS", `"tls://user@host:port"`},
		{"-o ProxyCommand", "ssh -o 'ProxyCommand nc %h %p' me@203.0.113.7", command, "Config.Via"},
		{"-R of a socket", "ssh -R /run/app.sock:127.0.0.1:5000 me@203.0.113.7", command, "Config.Remote"},
		{"no host", "ssh -N -R 8080:127.0.0.1:5000", "server is an ssh command that names no host", "user@host"},
		{"an option that ssh has not", "ssh --help me@203.0.113.7", "an option that ssh does not have", "user@host"},
		{"a port that is none", "ssh -p x me@203.0.113.7", "not a number from 1 to 65535", "user@host:port"},
		{"http://", "http://me@203.0.113.7/", "server is a URL", "Config.URL"},
		{"https:// with a port", "https://proxy.example.com:8443", "server is a URL", "Config.URL"},
		{"sftp://", "sftp://me@203.0.113.7", "server is a URL", "user@host"},
		{"a password in place of a port", "me@203.0.113.7:hunter2", `server "me@203.0.113.7" is followed by a port that is not a number`, "user@host:port"},
		{"one after the port", "me@203.0.113.7:22:hunter2", "server has more than one colon after the user", "user@host:port"},
		{"tls: without its slashes", "tls:me@203.0.113.7", `server begins with "tls:"`, `"tls://user@host"`},
		{"two machines", "tls://me@203.0.113.7,tls://me@203.0.113.8", "server holds a comma", "one machine alone"},
		{"two machines with a blank between them", "tls://me@203.0.113.7 tls://me@203.0.113.8", "server holds a blank or a semicolon, as between two machines", "one machine alone"},
		{"two machines with a semicolon between them", "me@203.0.113.7;me@203.0.113.8", "server holds a blank or a semicolon, as between two machines", "one machine alone"},
		{"ssh: without its slashes", "ssh:me@203.0.113.7", `server begins with "ssh:"`, "user@host"},
		{"a user ssh with a password", "ssh:hunter2@203.0.113.7", `server begins with "ssh:"`, "user@host"},
		{"a user and a password with a comma", "me:hunt,hunter2@203.0.113.7", "server holds a comma", "user@host"},
		{"ssh after tls://", "tls://ssh -p 2222 me@203.0.113.7", "an ssh command after tls://", `"tls://user@host"`},
		{"options of ssh after tls://", "tls://me@203.0.113.7 -p 2222", "an ssh command after tls://", `"tls://user@host:port"`},
		{"a path in ssh://", "ssh://me@203.0.113.7:22/home", `server "me@203.0.113.7:22" is followed by a path`, "user@host:port"},
		{"a password in ssh://", "ssh://me:hunter2@203.0.113.7", "a colon in the user's name", "passwords are not used"},
		{"a page's placeholder", "ssh -R 8080:localhost:5000 me@<PROXY_IP>", "no user or host name has", "user@host"},
		{"a password after -l", "ssh -l me:hunter2 203.0.113.7", "a colon in the user's name", "passwords are not used"},
		{"a password after a blank", "me@203.0.113.7 hunter2", "no user or host name has", "user@host"},
		{"a password in a command", "ssh me:hunter2@203.0.113.7 -p 22", "a colon in the user's name", "passwords are not used"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Resolve(Config{Server: row.server, SSHConfig: "none"})
			if !errors.Is(err, fault.ErrConfig) || !strings.Contains(err.Error(), row.says) || !strings.Contains(fault.From(err).Hint.String(), row.hint) {
				t.Errorf("%v, hint %s; want %q, %q", err, fault.From(err).Hint, row.says, row.hint)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error(err)
			}
			compat.Row(t, "servers", fmt.Sprintf("server=%q", strings.ReplaceAll(row.server, "hunter2", "PASSWORD")), compat.Outcome(err))
		})
	}
}

// The port of -R is known, but to what keeps no port.
func TestRemoteOfACommand(t *testing.T) {
	for text, want := range map[string]int{"ssh -R 8081:127.0.0.1:5000 me@h": 8081, "ssh -NR 127.0.0.1:8081:127.0.0.1:5000 -R 8081:localhost:5000 me@h": 8081,
		"ssh -R [::1]:8081:127.0.0.1:5000 me@h": 8081, "ssh -R 127.0.0.1:8081:[::1]:5000 me@h": 8081, "ssh -R *:8081:/run/app.sock me@h": 8081,
		"ssh -o 'RemoteForward 8081 127.0.0.1:5000' me@h": 8081, "ssh -oRemoteForward=8081:127.0.0.1:5000 me@h": 8081,
		"ssh -R 8080:127.0.0.1:5000 me@h": 0, "me@h": 0} {
		if short, remote, err := Given(text); short != "me@h" || remote != want || err != nil {
			t.Errorf("%s: %s, %d, %v", text, short, remote, err)
		}
		if _, err := Canonical(text); (err != nil) != (want != 0) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Names may have letters of both cases, and figures; a token with a comma in it is no chain of which a part may be shown.
func TestNamesInBothCases(t *testing.T) {
	for _, server := range []string{"me@SRV-Proxy01.Corp.Example.com", "Jane.Doe.Analytics2024@h", "me@h"} {
		if _, err := Resolve(Config{Server: server, SSHConfig: "none", Environment: map[string]string{"HTTPS_PROXY": "http://WebProxy01.Corp.Contoso.com:8080"}}); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
	for jump, says := range map[string]string{"aB3,k9dKe8fjdQleiWof93kdPqz0": "looks like a key or a token", "svc_deploy-frontend-prod@bastion:99999": "not a number from 1 to 65535"} {
		_, err := Resolve(Config{Server: "me@h", SSHConfig: "none", Jump: jump})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "aB3") {
			t.Errorf("%s: %v", jump, err)
		}
	}
}

// newKey is the path of a key, the line of its .pub file, and that as it is parsed.
func newKey(t *testing.T) (path string, line []byte, public ssh.PublicKey) {
	t.Helper()
	path = sshdtest.NewKey(t, "ed25519")
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if public, _, _, _, err = ssh.ParseAuthorizedKey(line); err != nil {
		t.Fatal(err)
	}
	return path, line, public
}

// A key that counts whatever the host's name is none for the machines on the way: a bastion that has it could pass itself
// off as the server.
func TestPinsAreNotForMachinesOnTheWay(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	key, pub, public := newKey(t)
	pin := ssh.FingerprintSHA256(public)
	for name, given := range map[string]string{
		"a fingerprint": pin, "one without SHA256:": strings.TrimPrefix(pin, "SHA256:"), "the line of ssh-keygen -lf": "256 " + pin + " root@proxy (ED25519)",
		"a .pub line": string(pub), "a .pub file": key + ".pub",
	} {
		d, err := Resolve(Config{Server: "me@server", Jump: "me@bastion", Key: key, HostKey: given, SSHConfig: "none", Agent: "none"})
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := d.SSH()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := cfg.HostKeys.Check("server:22", &net.TCPAddr{}, public); err != nil {
			t.Errorf("%s, the server: %v", name, err)
		}
		if err := cfg.Jump.HostKeys.Check("bastion:22", &net.TCPAddr{}, public); !errors.Is(err, fault.ErrHostKey) {
			t.Errorf("%s, the bastion: %v", name, err)
		}
	}
}
