// SPDX-License-Identifier: Apache-2.0

//go:build linux

package destination

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// documents are the texts that people read: the pages, the notebooks, what errors advise, and what the command prints.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"README.md", "SECURITY.md", "docs/*.md", "python/README.md", "examples/*/*.py", "examples/*/*.md",
		"pkg/internal/fault/*.go", "pkg/destination/*.go", "pkg/databricks/*.go", "python/taipy_tunnel/_expose.py", "python/taipy_tunnel/_databricks/scope.py", "python/taipy_tunnel/_cli/*.py"} {
		paths, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(path, "_test.go") && filepath.Base(path) != "compatibility.md" { // which has what is refused, too
				texts[path] = string(text)
			}
		}
	}
	return texts
}

var (
	// arguments are server="me@host" of a call, and --server me@host of a command.
	arguments = regexp.MustCompile(`(?:\{|\b)(server|host_key|jump|via)=("(?:[^"\\{}]|\\.)+")|--(server|host-key|jump|via)[ =]([^\s"'` + "`" + `,;)]*[@:][^\s"'` + "`" + `,;)]*)`)
	// machines are those that the command for the proxy logs in to.
	machines = regexp.MustCompile(`taipy-tunnel proxy (?:setup|check) ([^\s` + "`" + `]+@[^\s` + "`" + `]+)`)
	// printed are commands whose output is the host key.
	printed = regexp.MustCompile(`ssh-key(?:gen -l[a-z]*f|scan)(?: /etc/ssh/[^\s` + "`" + `;,"]*)?`)
)

// Whatever a document tells people to write for the way to the proxy is taken as it is printed there: values of arguments
// in calls and commands, with the dots of "SHA256:…" filled in.
func TestDocumentsWriteWhatIsTaken(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	key, _, public := newKey(t)
	fill := strings.NewReplacer("SHA256:…", ssh.FingerprintSHA256(public), "user:password@", "me:pw@", "USER@HOST", "me@proxy", ":port", ":2222")
	tried := map[string]int{}
	for path, text := range documents(t) {
		var given [][2]string
		for _, m := range arguments.FindAllStringSubmatch(text, -1) {
			name, value := m[1]+strings.ReplaceAll(m[3], "-", "_"), m[4]
			if m[2] != "" && json.Unmarshal([]byte(m[2]), &value) != nil {
				t.Errorf("%s: %s", path, m[0])
			}
			given = append(given, [2]string{name, value})
		}
		for _, m := range machines.FindAllStringSubmatch(text, -1) {
			given = append(given, [2]string{"server", m[1]})
		}
		for _, g := range given {
			if g[1] == "…" || g[1] == "PATH" || strings.ContainsAny(g[1], "%{") { // to be filled in by a program, or by the reader
				continue
			}
			cfg := Config{Server: "me@proxy", Key: key, HostKey: ssh.FingerprintSHA256(public), SSHConfig: "none", Agent: "none", Environment: map[string]string{}}
			value := fill.Replace(g[1])
			switch g[0] {
			case "server":
				cfg.Server = value
			case "host_key":
				cfg.HostKey = value
			case "jump":
				cfg.Jump = value
			case "via":
				cfg.Via = value
			}
			tried[g[0]]++
			d, err := Resolve(cfg)
			if err == nil {
				_, err = d.SSH()
			}
			if err != nil {
				t.Errorf("%s: %s=%q: %v", path, g[0], g[1], err)
			}
		}
	}
	t.Logf("%v", tried)
	for name, least := range map[string]int{"server": 20, "host_key": 10, "jump": 1, "via": 3} {
		if tried[name] < least {
			t.Errorf("%s was found %d times; where are the others?", name, tried[name])
		}
	}
}

// What a documented command prints of the host key can be pasted whole, as text and from a file.
func TestDocumentedCommandsPrintWhatIsTaken(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	pub := filepath.Join(t.TempDir(), "host.pub")
	if err := os.WriteFile(pub, append(ssh.MarshalAuthorizedKey(s.HostKey)[:80], " root@proxy\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for path, text := range documents(t) {
		for _, command := range printed.FindAllString(text, -1) {
			words := strings.Fields(command)
			switch {
			case words[0] == "ssh-keyscan":
				words = []string{"ssh-keyscan", "-T", "10", "-p", s.Addr()[strings.LastIndex(s.Addr(), ":")+1:], s.Host}
			case len(words) == 3:
				words[2] = pub
			default:
				continue
			}
			if tried[words[0]] {
				continue
			}
			tried[words[0]] = true
			out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %q: %v\n%s", path, words, err, out)
			}
			file := filepath.Join(t.TempDir(), "printed")
			if err := os.WriteFile(file, out, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, given := range []string{string(out), file} {
				known, err := hostkeys.New(given)
				if err == nil {
					err = known.Check(s.Addr(), &net.TCPAddr{}, s.HostKey)
				}
				if err != nil {
					t.Errorf("%s: %s prints %q: %v", path, command, out, err)
				}
			}
		}
	}
	if !tried["ssh-keygen"] || !tried["ssh-keyscan"] {
		t.Errorf("found %v", tried)
	}
}
