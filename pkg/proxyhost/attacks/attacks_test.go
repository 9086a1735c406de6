// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// attack is a row of docs/security.md.
type attack struct {
	// tried is the command or request, as a reader knows it.
	tried string
	// do tries it, and returns all that came of it.
	do func() string
	// got has to be in that: the refusal.
	got string
	// log is what one line of sshd's or nginx's log must match, written meanwhile.
	log string
	// kernel has to be in what do returns, where neither of the two is asked.
	kernel string
}

// neighbour is the other tenant.
const neighbour = proxytest.Neighbour

type attacks struct {
	title, about string
	rows         []attack
}

// scene is a proxy as it is rendered, and a thief who has its first tenant's key.
type scene struct {
	*proxytest.Proxy
	t        testing.TB
	files    proxytest.Log  // what the SFTP server logs
	ends     *proxytest.Log // what ends stale links says
	read     [4]int
	stranger string // another service of the machine
	theirs   ssh.Signer
	pki      *pki
	agent    *sshdtest.Agent
	status   int          // port of the admin's page
	others   int          // the other tenant's check port
	filled   atomic.Int64 // bytes of an answer that its app has got rid of
	accel    string       // what the thief's app answers in X-Accel-Redirect
}

// newScene has sshd say more than usual: LogLevel and the SFTP server's -l are all that is not as rendered.
// For the rest of the machine it accepts passwords and what else there is, as many do.
func newScene(t testing.TB, edit func(path, text string) string) *scene {
	t.Helper()
	a := &scene{t: t, stranger: serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "not for tenants") }), theirs: signer(t), pki: newPKI(t), agent: sshdtest.StartAgent(t)}
	louder := func(path, text string) string {
		text = edit(path, text)
		if strings.HasSuffix(path, "/sshd.conf") {
			text = strings.Replace(text, "LogLevel VERBOSE", "LogLevel DEBUG3", 1)
			text = strings.Replace(text, "internal-sftp -R", "internal-sftp -R -l VERBOSE", 1)
		}
		return text
	}
	a.Proxy = proxytest.Start(t, proxytest.Options{Edit: louder, Change: a.arrange, SSHD: sshdtest.Options{AuthorizedKeys: "# nobody's", Config: []string{"PasswordAuthentication yes",
		"KbdInteractiveAuthentication yes", "HostbasedAuthentication yes"}}})
	a.ends = a.EndStale()
	a.listenForSFTP()
	a.settle()
	return a
}

// settle has the thief's app, and the other tenant's, on their slots.
func (a *scene) settle() {
	a.occupy(a.User, a.key(), a.evil, "/s/board.0.sock", "/s/board.1.sock", "/s/board.2.sock", "/s/board.3.sock")
	a.occupy(neighbour, a.theirs, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "theirs") }, "/s/theirs.0.sock")
}

// arrange declares what there is to attack.
func (a *scene) arrange(h *proxyhost.Host) {
	line := func(s ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(s.PublicKey())) }
	own, other := &h.Tenants[0], &h.Tenants[1]
	own.Keys = append(own.Keys, line(a.pki.lost))
	own.UserCA, own.Principals, own.Revoked = []string{line(a.pki.authority)}, []string{"team"}, []string{line(a.pki.lost)}
	other.Keys = []string{line(a.theirs)}
	a.others, a.status = other.Check, new(sshdtest.Server).FreePort()
	other.Access = &proxyhost.Access{AuthRequest: "http://" + serve(a.t, judge) + "/auth"}
	h.Tenants = append(h.Tenants, proxyhost.Tenant{Name: "closed", Keys: other.Keys, Check: new(sshdtest.Server).FreePort(), Apps: []proxyhost.Declared{{Name: "closed", Host: "closed.invalid"}},
		Access: &proxyhost.Access{Allow: []string{"192.0.2.0/24"}}})
	passwords := filepath.Join(filepath.Dir(h.Layout.Etc), "passwords")
	must(a.t, os.WriteFile(passwords, []byte("admin:{PLAIN}secret\n"), 0o644))
	h.Status = proxyhost.Status{Port: a.status, BasicAuth: passwords}
}

// listenForSFTP is the machine's syslog in the tenant's directory, where the SFTP server looks for it.
func (a *scene) listenForSFTP() {
	dir := filepath.Join(a.Layout.Run, a.User, "dev")
	must(a.t, os.Mkdir(dir, 0o755))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/log", Net: "unixgram"})
	must(a.t, err)
	must(a.t, os.Chmod(dir+"/log", 0o666))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for line := make([]byte, 8<<10); ; {
			n, err := l.Read(line)
			if err != nil {
				return
			}
			_, _ = a.files.Write(append(bytes.TrimSpace(line[:n]), '\n'))
		}
	}()
	a.t.Cleanup(func() { _ = l.Close(); <-done })
}

// since returns what was logged since the last attack began.
func (a *scene) since() string {
	var text strings.Builder
	for i, log := range a.logs() {
		text.WriteString(log[min(a.read[i], len(log)):])
	}
	return text.String()
}

func (a *scene) logs() [4]string {
	access, _ := os.ReadFile(a.Layout.Log + "/taipy-tunnel.access.log")
	return [4]string{a.Log(), a.files.String(), string(access), a.ends.String()}
}

// try runs an attack, and returns the line that proves its refusal, "" if it was not refused or not logged.
func (a *scene) try(r attack) (proof string, refused bool) {
	a.t.Helper()
	for i, log := range a.logs() {
		a.read[i] = len(log)
	}
	got := r.do()
	if !strings.Contains(got, r.got) || !strings.Contains(got, r.kernel) {
		return got, false
	}
	if r.log == "" {
		return r.kernel, true
	}
	pattern := regexp.MustCompile(r.log)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // a process of its own writes it
		for line := range strings.Lines(a.since()) {
			if pattern.MatchString(line) {
				return strings.TrimSpace(line), true
			}
		}
		if time.Now().After(deadline) {
			a.t.Errorf("%s: refused with %q, but no line of a log matches %s:\n%s", r.tried, got, r.log, a.since())
			return "", true
		}
	}
}

// login logs in by a client that does what it is told.
func (a *scene) login(user string, keys ...ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", a.Addr(), &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(keys...)},
		HostKeyCallback: ssh.FixedHostKey(a.HostKey), Timeout: 20 * time.Second})
}

// key is the tenant's, stolen.
func (a *scene) key() ssh.Signer {
	text, err := os.ReadFile(a.KeyFile)
	must(a.t, err)
	key, err := ssh.ParsePrivateKey(text)
	must(a.t, err)
	return key
}

// raw has an attack do something with a connection of its own; what it returns is the answer.
func (a *scene) raw(do func(*ssh.Client) error, keys ...ssh.Signer) func() string {
	return func() string {
		if len(keys) == 0 {
			keys = []ssh.Signer{a.key()}
		}
		c, err := a.login(a.User, keys...)
		if err != nil {
			return "login: " + err.Error()
		}
		defer func() { _ = c.Close() }()
		return answer(do(c))
	}
}

func answer(err error) string {
	if err == nil {
		return "granted"
	}
	return err.Error()
}

// stock runs OpenSSH's client. Its arguments follow those that a thief cannot do without; "proxy" is the machine.
func (a *scene) stock(program string, stdin string, args ...string) func() string {
	return func() string { return a.run(program, stdin, a.User, args...) }
}

func (a *scene) run(program, stdin, user string, args ...string) string {
	c := exec.Command(client(a.t, program), append(a.options(user), args...)...)
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "DISPLAY=:99", "SSH_AUTH_SOCK="+a.agent.Socket)
	c.WaitDelay = time.Second
	timer := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	said, err := c.CombinedOutput()
	return string(said) + "\n" + answer(err)
}

func (a *scene) options(user string) []string {
	known := filepath.Join(a.t.TempDir(), "known_hosts")
	must(a.t, os.WriteFile(known, []byte(a.KnownHostsLine()), 0o644))
	options := []string{"-F", "none"}
	for _, o := range []string{"User=" + user, "HostName=" + a.Host, "IdentityFile=" + a.KeyFile, "IdentitiesOnly=yes", "BatchMode=yes", "UserKnownHostsFile=" + known,
		"StrictHostKeyChecking=yes", "HostKeyAlias=" + strings.Fields(a.KnownHostsLine())[0]} {
		options = append(options, "-o", o)
	}
	_, port, _ := net.SplitHostPort(a.Addr())
	return append(options, "-o", "Port="+port)
}

// client is the path of a program of OpenSSH's client.
func client(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing.Skip(t, "no %s is installed (Debian: openssh-client)", name)
	}
	return path
}

// serve starts a web application and returns its "host:port".
func serve(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
