// SPDX-License-Identifier: Apache-2.0

//go:build linux

package destination

import (
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// documents are the texts that people read: the pages, the notebooks, what errors advise, and what the command prints.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"README.md", "SECURITY.md", "docs/*.md", "python/README.md", "examples/*/*.py", "examples/*/*.md",
		"pkg/internal/fault/*.go", "pkg/destination/*.go", "pkg/databricks/*.go", "pkg/command/*.go", "pkg/sshauth/*.go", "pkg/hostkeys/*.go", "python/taipy_tunnel/_expose.py", "python/taipy_tunnel/_databricks/scope.py", "python/taipy_tunnel/_cli/*.py"} {
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
	// keyCommands are those of ssh-keyscan and ssh-keygen, with their arguments.
	keyCommands = regexp.MustCompile(`ssh-key(?:scan|gen(?: -\w+(?: (?:'[^']*'|[\w./…][\w./…-]*))?)+)`)
	comments    = regexp.MustCompile(`(?m)(?:^|\s)//\s.*$`) // in Go, which people do not see
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

// Each command for keys that people are told does, as it is printed, what is said of it: what shows the host key can be pasted whole, as
// text and from a file, and what makes a key makes one that is taken.
func TestDocumentedKeyCommands(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	dir, key := t.TempDir(), sshdtest.NewKey(t, "ed25519")
	sshdtest.Sign(t, sshdtest.NewKey(t, "ed25519"), key)
	host := filepath.Join(dir, "host.pub")
	if err := os.WriteFile(host, append(ssh.MarshalAuthorizedKey(s.HostKey)[:80], " root@proxy\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Addr())
	tried := map[string]string{}
	for path, text := range documents(t) {
		if strings.HasSuffix(path, ".go") {
			text = comments.ReplaceAllString(text, "")
		}
		for _, command := range keyCommands.FindAllString(text, -1) {
			tried[command] = path
		}
	}
	for command, path := range tried {
		run := func(command, typed string) string {
			c := exec.Command("setsid", "-w", "sh", "-c", command) // without a terminal what is typed is asked of the standard input
			c.Dir, c.Stdin = dir, strings.NewReader(typed)
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %q: %v\n%s", path, command, err, out)
			}
			return string(out)
		}
		switch verb := strings.Fields(command + " -")[1]; verb {
		case "-":
			pasted(t, s, run("ssh-keyscan -T 10 -p "+port+" "+s.Host, ""))
		case "-lf":
			pasted(t, s, run("ssh-keygen -lf "+host, ""))
		case "-t":
			made := filepath.Join(dir, "made")
			run(regexp.MustCompile(`-f \S+`).ReplaceAllString(command, "-f "+made), map[bool]string{true: "\n\n", false: made + "\n\n\n"}[strings.Contains(command, " -f ")])
			if _, err := sshauth.LoadKeys(made, ""); err != nil {
				t.Errorf("%s: %s: %v", path, command, err)
			}
			_ = os.Remove(made)
		case "-y":
			if out := run(strings.Replace(command, "KEY", key, 1), ""); !strings.HasPrefix(out, "ssh-ed25519 ") {
				t.Errorf("%s: %s prints %q", path, command, out)
			}
		case "-L":
			if out := run(regexp.MustCompile(`-f \S+`).ReplaceAllString(command, "-f "+key+"-cert.pub"), ""); !strings.Contains(out, "Valid: ") {
				t.Errorf("%s: %s prints %q", path, command, out)
			}
		case "-p": // TestKeysOfPrograms of sshauth
		default:
			t.Errorf("%s: nothing tries %q", path, command)
		}
	}
	t.Log(slices.Sorted(maps.Keys(tried)))
	if len(tried) < 10 {
		t.Error("where are the others?")
	}
}

// pasted has what is printed of the server's host key taken, as text and from a file.
func pasted(t *testing.T, s *sshdtest.Server, printed string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "printed")
	if err := os.WriteFile(file, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{printed, file} {
		known, err := hostkeys.New(given)
		if err == nil {
			err = known.Check(s.Addr(), &net.TCPAddr{}, s.HostKey)
		}
		if err != nil {
			t.Errorf("%q: %v", printed, err)
		}
	}
}
