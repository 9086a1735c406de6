// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshconfig

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// sshDir gives this process a home with these files in .ssh, and returns that directory.
func sshDir(t testing.TB, files map[string]string) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	for name, text := range files {
		path := filepath.Join(home, ".ssh", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, path, text)
	}
	return filepath.Join(home, ".ssh")
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func fifo(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	replace(t, path, text)
	return path
}

func wantFault(t testing.TB, err, class error, permanent bool) {
	t.Helper()
	if e, ok := errors.AsType[*fault.Error](err); !ok || !errors.Is(err, class) || e.Permanent != permanent {
		t.Fatalf("error %v (%T), want class %v, permanent %v", err, err, class, permanent)
	}
}

func hostSettings(t testing.TB, path, alias string) Host {
	t.Helper()
	c, err := Read(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Host(alias, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSSHConfig(t *testing.T) {
	leak.Check(t)
	dir := sshDir(t, map[string]string{"config": `
# first
Include conf.d/*.conf
hostname = of-every.example.com-is-not-this
Host proxy  prox?   # two names
	HostName 203.0.113.7
	User=me
	Port 2222
	IdentityFile ~/.ssh/id_%r_%h
	IdentityFile "%d/with a blank"
	IdentityFile ~/%L/unknown
	CertificateFile /certs/%n.pub
	UserKnownHostsFile ~/.ssh/known2 "/etc/known 3"
	HostKeyAlias the-proxy
	ProxyJump a@b:1,c
	IdentitiesOnly yes
	LocalCommand rm -rf /
Host *.example.com !bad.example.com
	User wild
Match exec "touch /tmp/never"
	User evil
Match originalhost orig user x
	User evil
Match host matched,matched2
	User found
Host commanded
	ProxyCommand nc %h %p
Match all
	Port 99
	User everybody
`, "conf.d/one.conf": "Host included\n\tUser inc\nHost *\n", "conf.d/two.txt": "User no\n"})
	text := read(t, filepath.Join(dir, "config"))
	replace(t, filepath.Join(dir, "config"), strings.Replace(text, "hostname = of-every.example.com-is-not-this\n", "", 1))
	home := filepath.Dir(dir)
	want := Host{HostName: "203.0.113.7", User: "me", Port: 2222, HostKeyAlias: "the-proxy", ProxyJump: "a@b:1,c", IdentitiesOnly: true,
		IdentityFiles: []string{"~/.ssh/id_me_203.0.113.7", home + "/with a blank"}, Certificates: []string{"/certs/proxy.pub"},
		KnownHosts: []string{"~/.ssh/known2", "/etc/known 3"}}
	if got := hostSettings(t, "", "proxy"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for alias, want := range map[string]string{"prox1": "me", "x.example.com": "wild", "bad.example.com": "everybody", "orig": "everybody",
		"matched2": "found", "included": "inc", "other": "everybody"} {
		if got := hostSettings(t, filepath.Join(dir, "config"), alias).User; got != want {
			t.Errorf("%s: user %q, want %q", alias, got, want)
		}
	}
	if got := hostSettings(t, "", "commanded"); got.ProxyCommand != "nc %h %p" {
		t.Errorf("%+v", got)
	}
	if got := hostSettings(t, "none", "proxy"); !reflect.DeepEqual(got, Host{HostName: "proxy"}) {
		t.Errorf("none: %+v", got)
	}
}

// ssh itself reads these the same way.
func TestSSHConfigAsSSHReadsIt(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		missing.Skip(t, "%v", err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{
		"Host a b\nUser u\nHost *\nUser v\nPort 5\n",
		"User first\nHost a\nUser second\n",
		"Host !a *\nUser u\n",
		"Host a\n  HostName %h.example.com\n  Port=17\n",
		"Host \"a\" c\n\tUser \"u\"\n",
		"Host=a\nUser = u\n",
		"host A\nuser u\nhost a\nUSER w\n",
		"Match all\nUser u\n",
		"Match originalhost x,a\nUser u\n",
		"Host b\nInclude INC\nHost a\nPort 7\n",
		"Host a\nInclude INC\nPort 7\n",
		"Host b\nUser no\nMatch host a\nInclude INC\nHost *\nUser last\n",
		"Host a#b\nUser u\n",
		"Host a # b\nUser u # c\n",
		"Host a\nUser u",
		"\r\nHost a\r\nUser u\r\n",
	} {
		inc := file(t, "Host a\nUser inner\nPort 3\nHost b\nPort 4\n")
		path := file(t, strings.ReplaceAll(text, "INC", inc))
		out, err := exec.Command(ssh, "-G", "-F", path, "a").Output()
		if err != nil {
			t.Errorf("%d: ssh refuses %q: %v", n, text, err)
			continue
		}
		said := map[string]string{}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			said[key] = value
		}
		h := hostSettings(t, path, "a")
		if h.User == "" {
			h.User = me.Username
		}
		if h.Port == 0 {
			h.Port = 22
		}
		got := fmt.Sprint(h.HostName, " ", h.User, " ", h.Port)
		if want := said["hostname"] + " " + said["user"] + " " + said["port"]; got != want {
			t.Errorf("%q: got %s, ssh says %s", text, got, want)
		}
	}
}

// "none" is not the same as nothing, and agents have addresses of their own.
func TestSSHConfigOfAgentsAndNone(t *testing.T) {
	t.Setenv("MY_AGENT", "/run/agent")
	t.Setenv("HERE", "/at%home")
	for text, want := range map[string]Host{
		"":                            {},
		"IdentityFile none":           {IdentityFiles: []string{}},
		"UserKnownHostsFile none":     {KnownHosts: []string{}},
		"IdentityAgent none":          {IdentityAgent: "none"},
		"IdentityAgent $MY_AGENT":     {IdentityAgent: "/run/agent"},
		"IdentityAgent $NOBODYS":      {},
		"IdentityAgent SSH_AUTH_SOCK": {},
		"IdentityAgent ${MY_AGENT}":   {IdentityAgent: "/run/agent"},
		"IdentityAgent ${NOBODYS}":    {},
		"IdentityFile ${HERE}/%n/id":  {IdentityFiles: []string{"/at%home/a/id"}},
		"IdentityFile ${NOBODYS}/id":  {IdentityFiles: []string{}},
		"IdentityFile ${HERE/id":      {IdentityFiles: []string{}},
		"CertificateFile ${HERE}/c":   {Certificates: []string{"/at%home/c"}},
		"UserKnownHostsFile ${HERE}":  {KnownHosts: []string{"/at%home"}},
		`IdentityAgent "~/a b"`:       {IdentityAgent: "~/a b"},
	} {
		want.HostName = "a"
		if got := hostSettings(t, file(t, "Host a\n"+text+"\n"), "a"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", text, got)
		}
	}
	compat.Row(t, "keys", "IdentityFile ${NAME}/id in ssh's configuration", compat.Taken)
}

// A path that cannot be filled in is passed over, and the log says which one and of which keyword: without its key a login fails.
func TestPathsPassedOverAreLogged(t *testing.T) {
	t.Setenv("HOME", "")
	must(t, os.Unsetenv("HOME"))
	for _, line := range []string{"IdentityFile ${HOME}/.ssh/id", "IdentityFile ~/%L/id", "CertificateFile ${NOBODYS}/c", "UserKnownHostsFile ${HOME/known", "IdentityAgent ${NOBODYS}"} {
		var log bytes.Buffer
		c, err := Read(file(t, "Host a\n\tUser me\n\t"+line+"\n"), slog.New(slog.NewTextHandler(&log, nil)))
		must(t, err)
		h, err := c.Host("a", "", 0)
		must(t, err)
		keyword, path, _ := strings.Cut(line, " ")
		want := fmt.Sprintf("level=WARN msg=\"a path of the ssh configuration is passed over\" keyword=%s path=%s\n", keyword, path)
		if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, want) || h.User != "me" {
			t.Errorf("%s: %q, want %q; %+v", line, said, want, h)
		}
	}
}

func TestSSHConfigIsBounded(t *testing.T) {
	leak.Check(t)
	dir := sshDir(t, map[string]string{"config": "Include config\nHost a\nUser u\n", "big": strings.Repeat("# nothing\n", 1<<18), "x": ""})
	if got := hostSettings(t, "", "a").User; got != "u" {
		t.Errorf("a file that includes itself: user %q", got)
	}
	for _, path := range []string{filepath.Join(dir, "big"), filepath.Join(dir, "none-such"), dir, "/dev/zero", fifo(t)} {
		_, err := Read(path, nil)
		wantFault(t, err, fault.ErrConfig, true)
	}
	// To go back over what was read for each star would take 60 million steps for each of these: hours.
	replace(t, filepath.Join(dir, "x"), strings.Repeat("Host a*a*a*a*b\nUser u\n", 1<<11))
	begin := time.Now()
	_ = hostSettings(t, filepath.Join(dir, "x"), strings.Repeat("a", 200))
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("took %v", took)
	}
	c, err := Read(file(t, "Host a\nPort x\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Host("a", "", 0)
	wantFault(t, err, fault.ErrConfig, true)
}

// No text makes the reader panic or hang, and what it says is what is in the text.
func FuzzSSHConfig(f *testing.F) {
	for _, s := range []string{"", "Host a\nUser b\n", "=\n= =\nHost = =\n", "Host a\n\"\nUser \"\n", "Match\nMatch exec x\nUser b", "Include /etc/../x ~\nHost",
		"Host [a\\ !\nUser %", "Host a\nIdentityFile %d%h%%%x\n", "\xff\x00\n\u2028Host a", "User=\nPort 99999999999999999999"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(strings.ToLower(string(text)), "include") {
			return // files of this machine
		}
		path := filepath.Join(t.TempDir(), "config")
		replace(t, path, string(text))
		c, err := Read(path, nil)
		if err != nil {
			if !errors.Is(err, fault.ErrConfig) {
				t.Errorf("class of %v", err)
			}
			return
		}
		h, err := c.Host("a", "", 0)
		if err != nil {
			return
		}
		if !strings.Contains(string(text), h.User) || strings.ContainsAny(h.User+h.HostName+h.ProxyJump, "\n\r\x00") {
			t.Errorf("%q gives %+v", text, h)
		}
	})
}
