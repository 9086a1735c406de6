// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// server is a row of what people have as a proxy.
type server struct {
	group, name string
	options     sshdtest.Options
	within      time.Duration // the set-up's time; 0: 20 s
	change      func(*testing.T, *chain, *tunnel.Config)
	then        func(t *testing.T, c *chain, tun *tunnel.Tunnel, took time.Duration) // what is looked at if it is taken; nil: nothing more

	// The outcome: nil, "" and "" if it is taken.
	class      error
	permanent  bool
	says, hint string
	not        string // what is not said, for it is not the cause
	ten        bool   // it is tried with OpenSSH 10 as well
	shows      string // what the hint's command shows of that server's configuration, "": there is none, or it is not the cause
}

func servers() []server {
	slow := func(each string) sshdtest.Options {
		return sshdtest.Options{Config: []string{"AuthorizedKeysFile none", "AuthorizedKeysCommandUser root", `AuthorizedKeysCommand /bin/sh -c "sleep ` + each + `; echo %t %k"`}}
	}
	config := func(lines ...string) sshdtest.Options { return sshdtest.Options{Config: lines} }
	const pam = "UsePAM yes"
	rows := []server{
		{group: "servers", name: "OpenSSH of this machine"},
		{group: "servers", name: ten, options: sshdtest.Options{Root: sshdtest.Trixie()}},
		{group: "servers", name: "Dropbear", options: sshdtest.Options{Dropbear: true}},
		{group: "servers", name: "logins that take 11 s, as with a slow LDAP", options: slow("5.5"), within: 40 * time.Second, then: onceForEachLink},
		{group: "servers", name: "logins that take longer than timeout", options: slow("20"), within: 3 * time.Second,
			class: tunnel.ErrUnreachable, says: "did not answer the login", hint: "LDAP", not: "ended the connection"},
		{group: "servers", name: "post-quantum sntrup761 alone", options: config("KexAlgorithms sntrup761x25519-sha512@openssh.com"),
			class: tunnel.ErrUnreachable, permanent: true, says: "sntrup761x25519-sha512@openssh.com", hint: "adds curve25519-sha256 (or, with OpenSSH 9.9 or newer, mlkem768x25519-sha256", not: "too old or restricted", shows: `kexalgorithms sntrup761x25519-sha512@openssh.com`},
		{group: "servers", name: "post-quantum ML-KEM alone (OpenSSH 10)", options: sshdtest.Options{Root: sshdtest.Trixie(), Config: []string{"KexAlgorithms mlkem768x25519-sha256"}}},
		{group: "servers", name: "ciphers of CBC alone", options: config("Ciphers aes256-cbc"),
			class: tunnel.ErrUnreachable, permanent: true, says: "aes256-cbc", hint: "to Ciphers", shows: `ciphers aes256-cbc`},
		{group: "servers", name: "MACs of MD5 alone", options: config("Ciphers aes256-ctr", "MACs hmac-md5-96"),
			class: tunnel.ErrUnreachable, permanent: true, says: "hmac-md5-96", hint: "to MACs", shows: `macs hmac-md5-96`},
		{group: "servers", name: "AddressFamily inet6", options: sshdtest.Options{IPv6: true, Config: []string{"AddressFamily inet6"}},
			class: tunnel.ErrForward, permanent: true, says: "listens on ::1", hint: "AddressFamily any", not: "any free port too", shows: `addressfamily inet6`, ten: true},
		{group: "servers", name: "AllowTcpForwarding no", options: config("AllowTcpForwarding no"),
			class: tunnel.ErrForward, permanent: true, says: "any free port too", hint: "AllowTcpForwarding yes"},
		{group: "servers", name: "GatewayPorts yes, and an app for everybody", options: config("GatewayPorts yes"),
			class: tunnel.ErrForward, permanent: true, says: "bypasses nginx", hint: "GatewayPorts no", ten: true},

		{group: "accounts", name: `permitlisten="localhost:8080"`, change: permit("localhost:%d", ""),
			class: tunnel.ErrForward, permanent: true, says: "compares the words", hint: `permitlisten="127.0.0.1:`, not: "any free port too"},
		{group: "accounts", name: `permitlisten="localhost:8080" and a permitopen`, change: permit("localhost:%d", `,permitopen="127.0.0.1:80"`),
			class: tunnel.ErrForward, permanent: true, says: "any free port too", hint: "compares the words"},
		{group: "accounts", name: `permitlisten="127.0.0.1:8080"`, change: permit("127.0.0.1:%d", "")},
		{group: "accounts", name: `permitlisten="8080"`, change: permit("%d", "")},
		{group: "accounts", name: `permitlisten="8080", and another program has that port`, change: taken(permit("%d", "")), within: 3 * time.Second, class: tunnel.ErrForward, says: "in use, and any other port is refused", hint: "permitlisten", not: "take another port"},
		{group: "accounts", name: "the options of docs/proxy.md before the key, and another program has that port", change: taken(permit("127.0.0.1:%d", `,permitopen="127.0.0.1:80"`)),
			within: 3 * time.Second, class: tunnel.ErrForward, says: "in use, and any other port is refused", hint: "permitlisten", not: "any free port too"},
		{group: "accounts", name: `permitlisten="127.0.0.1:8080", nologin as its shell, and another program has that port`, options: sshdtest.Options{Shell: "/usr/sbin/nologin"}, change: taken(permit("127.0.0.1:%d", "")),
			within: 3 * time.Second, class: tunnel.ErrForward, says: "in use, and any other port is refused", hint: "permitlisten", not: "any free port too"},
		{group: "accounts", name: "AllowTcpForwarding no, and another program has that port", options: config("AllowTcpForwarding no"), change: taken(nil),
			within: 3 * time.Second, class: tunnel.ErrForward, says: "in use, and any other port is refused", hint: "AllowTcpForwarding"},
		{group: "accounts", name: "a password that has expired", options: sshdtest.Options{Account: "jdoe", Shadow: "*:0:0:90:7:::", Config: []string{pam}},
			class: tunnel.ErrForward, permanent: true, says: `password of user "jdoe"`, hint: "ssh -t", not: "AllowTcpForwarding", ten: true},
		{group: "accounts", name: "an account that has expired", options: sshdtest.Options{Account: "jdoe", Shadow: "*:20000:0:99999:7::10:", Config: []string{pam}},
			class: tunnel.ErrAuth, permanent: true, says: "account has expired", hint: "chage -E -1 jdoe"},
		{group: "accounts", name: "an account to which PAM opens no session", options: sshdtest.Options{Config: []string{pam}, InPlace: map[string]string{"/etc/pam.d/sshd": "testdata/pam"}},
			class: tunnel.ErrForward, permanent: true, says: "as sshd does where PAM opens no session", hint: "pam_access", not: "AllowTcpForwarding"},
		{group: "accounts", name: "an account to which PAM opens one session at a time", options: sshdtest.Options{Config: []string{pam}, InPlace: map[string]string{"/etc/pam.d/sshd": "testdata/pam-one"}},
			then: oneSession},
		{group: "accounts", name: `DOMAIN\user`, options: sshdtest.Options{Account: `CORP\jdoe`}},
		{group: "accounts", name: "user@domain", options: sshdtest.Options{Account: "jdoe@corp.example.com"}},
		{group: "accounts", name: "a home directory that is away", options: sshdtest.Options{NoHome: true}},
		{group: "accounts", name: "a key of a kind that sshd does not take (FIPS)", options: config("PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256"),
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "PubkeyAcceptedAlgorithms", not: "needs this line", shows: `pubkeyacceptedalgorithms ecdsa-sha2-nistp256`, ten: true},
		{group: "accounts", name: `DOMAIN\user, and a key of a kind that sshd does not take from that user`, options: sshdtest.Options{Account: `CORP\jdoe`,
			Config: []string{`Match User CORP\jdoe`, "PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256", "Match all"}},
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "PubkeyAcceptedAlgorithms", shows: `pubkeyacceptedalgorithms ecdsa-sha2-nistp256`},
		{group: "accounts", name: "an RSA key shorter than RequiredRSASize", options: config("RequiredRSASize 4096"), change: rsaKey,
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "RequiredRSASize", not: "needs this line", shows: `requiredrsasize 4096`, ten: true},
		{group: "accounts", name: "a home directory that others may write to (StrictModes)", options: sshdtest.Options{
			Home: map[string]string{".ssh/authorized_keys": ""}, Config: []string{"StrictModes yes", "AuthorizedKeysFile .ssh/authorized_keys"}}, change: groupWritable,
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "StrictModes", not: "needs this line", shows: `strictmodes yes`, ten: true},
		{group: "accounts", name: "an account that AllowUsers does not name", options: config("AllowUsers somebodyelse"),
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "AllowUsers", shows: `allowusers somebodyelse`},
		{group: "accounts", name: "root where PermitRootLogin is no", options: config("PermitRootLogin no"),
			class: tunnel.ErrAuth, permanent: true, says: "refused user", hint: "whether root may log in (PermitRootLogin)", shows: `permitrootlogin no`},
		{group: "accounts", name: "root where PermitRootLogin is forced-commands-only", options: config("PermitRootLogin forced-commands-only"),
			change: func(_ *testing.T, _ *chain, cfg *tunnel.Config) { cfg.Remote, cfg.URL = 0, "" }, within: 3 * time.Second, class: tunnel.ErrUnreachable, says: "the connection ends after the login", hint: "forced-commands-only", not: "whether root"},
		{group: "accounts", name: "a menu in place of a shell, and AllowTcpForwarding no", options: config("AllowTcpForwarding no", "ForceCommand echo '1) Change your password 2) Quit'"),
			class: tunnel.ErrForward, permanent: true, says: "any free port too", hint: "AllowTcpForwarding yes", not: "expired"},
		{group: "accounts", name: "advice about passwords in place of a shell, and AllowTcpForwarding no", options: config("AllowTcpForwarding no",
			"ForceCommand echo 'You must change your password every 90 days: with an expired password, password change required. WARNING: Your password has expired. Not yet.'"),
			class: tunnel.ErrForward, permanent: true, says: "any free port too", hint: "AllowTcpForwarding yes", not: "expired"},
		{group: "accounts", name: "nologin as its shell", options: sshdtest.Options{Shell: "/usr/sbin/nologin"}},

		{group: "shells", name: "bash", options: sshdtest.Options{Shell: "/bin/bash"}},
		{group: "shells", name: "dash", options: sshdtest.Options{Shell: "/bin/dash"}},
		{group: "shells", name: "fish", options: sshdtest.Options{Shell: "/usr/bin/fish"}},
		{group: "shells", name: "tcsh", options: sshdtest.Options{Shell: "/usr/bin/tcsh"}},
		{group: "shells", name: "BusyBox, as on Alpine", options: sshdtest.Options{BusyBox: true}},
		{group: "shells", name: "start-up files that print, and SFTP by sftp-server", options: sshdtest.Options{Shell: "/bin/bash",
			Home: map[string]string{".bashrc": "echo 'Welcome to the machine'\n"}, Config: []string{"Subsystem sftp /usr/lib/openssh/sftp-server"}}, change: undescribed},
		{group: "shells", name: "start-up files that take 10 s, and SFTP by sftp-server", options: sshdtest.Options{Shell: "/bin/bash",
			Home: map[string]string{".bashrc": "sleep 10\n"}, Config: []string{"Subsystem sftp /usr/lib/openssh/sftp-server"}}, change: undescribed, within: 30 * time.Second},
	}
	for _, row := range rows {
		if row.ten {
			row.name += ", " + ten
			row.options.Root, row.shows = sshdtest.Trixie(), ""
			rows = append(rows, row)
		}
	}
	return rows
}

// ten is the server in the Debian 13 of ./build.sh roots.
const ten = "OpenSSH 10 (Debian 13)"

// A server that forwards no ports is told at once, though all it does is not to understand.
func TestServerWithoutForwarding(t *testing.T) {
	leak.Check(t)
	c := &chain{Server: sshdtest.StartTinySSH(t)}
	c.port = c.FreePort()
	c.url = front(t, c.port)
	_, err := tunnel.Expose(within(t, 20*time.Second), c.config(app(t, "hello")))
	if e := tunnel.AsError(err); !errors.Is(err, tunnel.ErrForward) || !e.Permanent || !strings.Contains(e.Error(), "does not know port forwarding") || !strings.Contains(e.Error(), "tinyssh") {
		t.Errorf("%v", err)
	}
	compat.Row(t, "servers", "TinySSH", compat.Outcome(err))
}

// program is what a server says it is: "OpenSSH 9.2".
func program(t *testing.T, addr string) string {
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	said, err := bufio.NewReader(conn).ReadString('\n')
	must(t, err)
	found := regexp.MustCompile(`^SSH-2\.0-(\w+)_([\d.]+)`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("says %q", said)
	}
	return found[1] + " " + found[2]
}

// oneSession: the second link is there, and is told that it is none to rely on. When the first one is lost, another login has the port.
func oneSession(t *testing.T, c *chain, tun *tunnel.Tunnel, _ time.Duration) {
	t.Cleanup(func() { _ = os.Remove(fmt.Sprint("/tmp/pam-one.", c.Listener())) })
	s := await(t, tun, "the warning", func(s tunnel.Status) bool { return s.Warning != nil })
	if !strings.Contains(s.Warning.Error(), "where PAM opens one session at a time") || !strings.Contains(s.Warning.Hint.String(), "maxlogins") {
		t.Errorf("%v, hint %s", s.Warning, s.Warning.Hint)
	}
	if row := rowOf(t, tun, "link"); !row.OK || !row.Warn || !strings.Contains(row.Hint.String(), "maxlogins") {
		t.Errorf("%+v", row)
	}
	wantBody(t, c.url, "hello")
	for range 2 { // the first holder, and the one after it, which may have stood by
		before := tun.Status().Reconnects
		c.EndLinks(c.Links()[:1])
		await(t, tun, "another link with the port", func(s tunnel.Status) bool { return s.Reconnects > before && s.Slots == 1 && s.State == tunnel.Up })
		eventually(t, c.url, "hello") // links without a session come and go by themselves
	}
}

// permit has the key listen on one address alone; %d is the slot's port.
func permit(address, more string) func(*testing.T, *chain, *tunnel.Config) {
	return func(t *testing.T, c *chain, _ *tunnel.Config) {
		line := fmt.Sprintf(`restrict,port-forwarding,permitlisten="`+address+`"`, c.port) + more + " " + authorized(t, c.KeyFile)
		write(t, filepath.Join(filepath.Dir(c.KeyFile), "authorized_keys"), line)
	}
}

// taken has another program listen where the slot should be, after a change; nil: none.
func taken(change func(*testing.T, *chain, *tunnel.Config)) func(*testing.T, *chain, *tunnel.Config) {
	return func(t *testing.T, c *chain, cfg *tunnel.Config) {
		if change != nil {
			change(t, c, cfg)
		}
		l := listenSoon(t, c.port)
		t.Cleanup(func() { _ = l.Close() })
	}
}

func rsaKey(t *testing.T, c *chain, cfg *tunnel.Config) {
	cfg.Key = sshdtest.NewKey(t, "rsa")
	write(t, filepath.Join(filepath.Dir(c.KeyFile), "authorized_keys"), authorized(t, cfg.Key))
}

func groupWritable(t *testing.T, c *chain, _ *tunnel.Config) {
	write(t, c.HomeFile(".ssh/authorized_keys"), authorized(t, c.KeyFile))
	for _, path := range []string{"", ".ssh/authorized_keys"} {
		if err := os.Chmod(c.HomeFile(path), 0o775); err != nil {
			t.Fatal(err)
		}
	}
}

// askedOf is what the command that a hint has its reader run on the proxy says of that server's configuration.
func askedOf(t *testing.T, c *chain, hint string) string {
	t.Helper()
	command := regexp.MustCompile(`sshd -T( -C \S+)? \| grep (-i \w+|-iE '[^']+')`).FindString(hint)
	if command == "" {
		t.Fatalf("no command in %s", hint)
	}
	sshd := "/usr/sbin/sshd -f " + filepath.Join(filepath.Dir(c.KeyFile), "sshd_config")
	said, err := exec.Command("sh", "-c", strings.Replace(command, "sshd", sshd, 1)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, said)
	}
	return string(said)
}

// onceForEachLink sees that no login was given up and begun again: each takes 11 s, and there was one for each link.
func onceForEachLink(t *testing.T, c *chain, tun *tunnel.Tunnel, took time.Duration) {
	if took < 10*time.Second {
		t.Errorf("the first login took %v: nothing was tried", took)
	}
	s := awaitFor(t, time.Minute, tun, "both links", func(s tunnel.Status) bool { return s.Links == 2 })
	if n := strings.Count(c.Log(), " service ssh-connection method none"); n != 2 || s.Reconnects != 0 { // x/crypto's first question
		t.Errorf("%d logins, %d reconnects, for %d links", n, s.Reconnects, s.Links)
	}
}

// undescribed leaves it to the tunnel to find out whether the proxy is a prepared one: by its default port, then, of which this machine
// has one. Tests that want it, of other processes too, take turns.
func undescribed(t *testing.T, c *chain, cfg *tunnel.Config) {
	turn := listens(t, "unix", "@taipy-tunnel-test-8080", time.Minute)
	t.Cleanup(func() { _ = turn.Close() })
	_ = listens(t, "tcp", "127.0.0.1:8080", 10*time.Second).Close()
	c.url = front(t, 8080)
	cfg.Remote, cfg.URL = 0, c.url
}

// listens listens there as soon as nobody else does.
func listens(t *testing.T, network, addr string, within time.Duration) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.Listen(network, addr)
		if err == nil {
			return l
		}
		if time.Now().After(deadline) {
			missing.Skip(t, "this machine's %s is taken", addr)
		}
	}
}

// Servers and accounts as people have them are taken, or refused by the name of the cause.
func TestServersAndAccounts(t *testing.T) {
	leak.Check(t)
	for _, row := range servers() {
		t.Run(row.group+": "+row.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(row.name, "OpenSSH 10") && row.options.Root == "" {
				t.Skip("./build.sh roots has the Debian 13")
			}
			c := &chain{Server: sshdtest.Start(t, row.options)}
			c.port = c.FreePort()
			c.url = front(t, c.port)
			cfg := c.config(app(t, "hello"))
			if row.options.Account != "" || strings.Contains(c.Host, ":") {
				cfg.Server = tunnel.Servers{c.User + "@" + c.Addr()}
			}
			if row.change != nil {
				row.change(t, c, &cfg)
			}
			limit := row.within
			if limit == 0 {
				limit = 20 * time.Second
			}
			begin := time.Now()
			tun, err := tunnel.Expose(within(t, limit), cfg)
			took := time.Since(begin)
			t.Logf("after %v: %v", took.Round(time.Millisecond), err)
			if row.class == nil {
				if err != nil {
					t.Fatalf("%v\n%s", err, tunnel.AsError(err).Hint)
				}
				defer func() { _ = tun.Close() }()
				wantBody(t, c.url, "hello")
				if row.then != nil {
					row.then(t, c, tun, took)
				}
				tried := row.name
				if tried == "OpenSSH of this machine" || tried == "Dropbear" {
					tried = program(t, c.Addr())
				}
				compat.Row(t, row.group, tried, compat.Taken)
				return
			}
			if err == nil {
				_ = tun.Close()
				t.Fatal("no error")
			}
			e := tunnel.AsError(err)
			said := e.Error() + "; " + e.Hint.String()
			if !errors.Is(err, row.class) || e.Permanent != row.permanent || !strings.Contains(e.Error(), row.says) || !strings.Contains(e.Hint.String(), row.hint) {
				t.Errorf("class %v, permanent %v: %s", e.Class, e.Permanent, said)
			}
			if row.not != "" && strings.Contains(said, row.not) {
				t.Errorf("%q is not the cause: %s", row.not, said)
			}
			if row.shows != "" {
				if said := askedOf(t, c, e.Hint.String()); !slices.Contains(strings.Split(said, "\n"), row.shows) {
					t.Errorf("the hint's command does not show %q, but %q", row.shows, said)
				}
			}
			compat.Row(t, row.group, row.name, compat.Outcome(err))
		})
	}
}
