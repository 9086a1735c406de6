// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The roots are paths, separated by colons. The test runs itself for each of them in namespaces of its own: processes,
// mounts and network; its ports 22, 80 and 443 are nobody else's.
const rootsVariable, insideVariable = "TAIPY_TUNNEL_ROOTS", "TAIPY_TUNNEL_INSIDE"

// attacksVariable is the path of package attacks' tests, which are run in each root as well, with its OpenSSH and nginx.
const attacksVariable = "TAIPY_TUNNEL_ATTACKS"

func TestRoots(t *testing.T) {
	roots := os.Getenv(rootsVariable)
	if roots == "" {
		t.Fatal(rootsVariable + " is not set: ./build.sh roots sets it")
	}
	me, err := os.Executable()
	must(t, err)
	attacks := os.Getenv(attacksVariable)
	here, err := filepath.Abs("../../..")
	must(t, err)
	for _, root := range strings.Split(roots, ":") {
		t.Run(filepath.Base(root), func(t *testing.T) {
			t.Parallel()
			enter(t, root, `"$3" -test.run '^TestInside$' -test.v; exit`, "TestInside", me) // no exec: the shell takes orphans that have ended from the table, as an init does
		})
		if attacks != "" {
			t.Run(filepath.Base(root)+"/attacks", func(t *testing.T) {
				enter(t, root, `
					mount --bind "$4" "$2/root/mnt"; cp "$3" "$2/root/root/attacks.test"; mkdir -p "$2/root/run/sshd"
					exec chroot "$2/root" sh -c 'cd /mnt/pkg/proxyhost/attacks && exec /root/attacks.test -test.v -test.run "^(TestAttacks|TestDefences|TestWhatATenantMay)$"'`,
					"TestAttacks", attacks, here)
			})
		}
	}
}

// enter runs a command in namespaces of its own where $2/root is a writable copy of root; $3 and on are args. It has to
// say that a test passed.
func enter(t *testing.T, root, command, test string, args ...string) {
	t.Helper()
	c := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "sh", "-euc", `
		mount --make-rprivate /
		mount -t tmpfs tmpfs "$2"; mkdir "$2/upper" "$2/work" "$2/root"
		mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
		mount -t proc proc /proc; mount -t proc proc "$2/root/proc"
		mount -t tmpfs -o mode=755 tmpfs "$2/root/run"; mount --rbind /dev "$2/root/dev"
		cp /etc/hosts "$2/hosts"; echo 127.0.0.1 ` + certified + ` >>"$2/hosts"; mount --bind "$2/hosts" /etc/hosts
		ip link set lo up` + "\n" + command, "sh", root, t.TempDir()}, args...)...)
	c.Env = append(os.Environ(), insideVariable+"=1")
	said, err := c.CombinedOutput()
	t.Logf("%s", said)
	if err != nil || !bytes.Contains(said, []byte("--- PASS: "+test)) {
		t.Errorf("%v", err)
	}
}

// machine is a fresh Debian, with its sshd and nginx running.
type machine struct {
	t    testing.TB
	root string
	key  string // the notebook's

	workspace string // the address of a stand-in of Databricks'
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sh runs a command in the machine.
func (m *machine) sh(command string) (string, error) {
	said, err := exec.Command("chroot", m.root, "/bin/sh", "-c", command).CombinedOutput()
	return string(said), err
}

func (m *machine) must(command string) string {
	m.t.Helper()
	said, err := m.sh(command)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", command, err, said)
	}
	return strings.TrimSpace(said)
}

// install runs the script for h, with change in place of a text if it is to be broken.
func (m *machine) install(h proxyhost.Host, change ...string) (string, error) {
	m.t.Helper()
	text, err := proxyhost.Script(h)
	must(m.t, err)
	text = strings.NewReplacer(change...).Replace(text)
	must(m.t, os.WriteFile(m.root+"/root/install.sh", []byte(text), 0o600))
	return m.sh("sh /root/install.sh")
}

func (m *machine) installs(h proxyhost.Host, says string) {
	m.t.Helper()
	said, err := m.install(h)
	if err != nil || !strings.Contains(said, says) {
		m.t.Fatalf("the script: %v, want %q in\n%s", err, says, said)
	}
}

// etc is all files that an admin has, but the copies that useradd makes.
func (m *machine) etc() (list []string) {
	must(m.t, filepath.WalkDir(m.root+"/etc", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "-") {
			return err
		}
		text, err := os.ReadFile(path)
		info, gone := d.Info()
		if errors.Is(cmp.Or(err, gone), os.ErrNotExist) { // a script is about to take it away
			return nil
		}
		if err = cmp.Or(err, gone); err != nil {
			return err
		}
		if strings.Contains(path, "/taipy-tunnel/tls/") { // a certificate is another one each time
			text = nil
		}
		list = append(list, fmt.Sprintf("%s %v %x", strings.TrimPrefix(path, m.root), info.Mode(), sha256.Sum256(text)))
		return nil
	}))
	return list
}

// unchanged compares with what etc said before.
func (m *machine) unchanged(what string, before []string) {
	m.t.Helper()
	after := m.etc()
	for _, line := range after {
		if !slices.Contains(before, line) {
			m.t.Errorf("%s: now there is %s", what, line)
		}
	}
	if len(after) != len(before) {
		m.t.Errorf("%s: %d files, %d before", what, len(after), len(before))
	}
}

// visit asks nginx for a host's page.
func (m *machine) visit(host, token string) (int, string) {
	m.t.Helper()
	req, err := http.NewRequest("GET", "https://127.0.0.1/", nil)
	must(m.t, err)
	req.Host = host
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}} // it is self-signed
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	must(m.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(m.t, err)
	if resp.ProtoMajor != 2 {
		m.t.Errorf("%s is served by %s", host, resp.Proto)
	}
	return resp.StatusCode, string(text)
}

// hostKey is what the machine itself says of its host key.
func (m *machine) hostKey() string {
	line, err := os.ReadFile(m.root + "/etc/ssh/ssh_host_ed25519_key.pub")
	must(m.t, err)
	host, _, _, _, err := ssh.ParseAuthorizedKey(line)
	must(m.t, err)
	return ssh.FingerprintSHA256(host)
}

func (m *machine) way(account string) destination.Config {
	return destination.Config{Server: account + "@127.0.0.1", Key: m.key, HostKey: m.hostKey()}
}

func (m *machine) expose(account, name, target string) (*tunnel.Tunnel, error) {
	to := m.way(account)
	return tunnel.Expose(m.t.Context(), tunnel.Config{Server: tunnel.Servers{to.Server}, Key: to.Key, HostKey: to.HostKey, Name: name, Target: target})
}

// endStale runs the program that ends stale links, as systemd would: until it is removed.
func (m *machine) endStale() {
	m.must("setsid sh /etc/taipy-tunnel/stale.sh >/run/stale.log 2>&1 </dev/null &")
}

// endsASilentLink sees that it does, with this machine's sshd and ss.
func (m *machine) endsASilentLink() {
	m.t.Helper()
	text, err := os.ReadFile(m.key)
	must(m.t, err)
	key, err := ssh.ParsePrivateKey(text)
	must(m.t, err)
	line, err := os.ReadFile(m.root + "/etc/ssh/ssh_host_ed25519_key.pub")
	must(m.t, err)
	host, _, _, _, err := ssh.ParseAuthorizedKey(line)
	must(m.t, err)
	way := relay.Start(m.t, "127.0.0.1:22")
	c, err := ssh.Dial("tcp", way.Addr(), &ssh.ClientConfig{User: "sales", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(host), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}})
	must(m.t, err)
	defer func() { _ = c.Close() }()
	way.Hole()
	silent := time.Now()
	for ; ; time.Sleep(20 * time.Millisecond) {
		if said := m.must("cat /run/stale.log"); strings.Contains(said, "ended sshd's process") {
			m.t.Logf("a silent link was ended after %.1f s", time.Since(silent).Seconds())
			return
		} else if time.Since(silent) > 20*time.Second {
			m.t.Fatalf("it is there after 20 s: %s", said)
		}
	}
}
