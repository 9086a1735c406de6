// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// programs stand in the way of those that a hint's command runs: sshd reads a configuration of the test's, chage changes another machine's
// accounts, and ssh says where it would log in to, or runs there, on this machine, what it was told.
var programs = map[string]string{
	"sshd":         `exec /usr/sbin/sshd -f "$DIR/sshd_config" "$@"`,
	"chage":        `/usr/bin/chage -R "$DIR" "$@" && cat "$DIR/etc/shadow"`,
	"taipy-tunnel": `echo "echo made of $*"`,
	"sudo":         `exec "$@"`,
	"ssh": `while getopts tp: option; do options="$options -$option $OPTARG"; done; shift $((OPTIND - 1)); to=$1; shift
		[ $# -gt 0 ] || exec /usr/bin/ssh -F none -G $options "$to"
		cd "$DIR" && exec sh -c "$*"`,
}

// The commands of hints, and the one of docs/proxy.md that is like them, do what is said of them, as they are printed.
func TestCommandsOfHints(t *testing.T) {
	no := errors.New("no")
	page, err := os.ReadFile("../../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		err     *Error
		command string // a pattern, of what is to be run of the hint
		shows   []string
	}{
		"docs/proxy.md": {&Error{Hint: Hint(page)}, `taipy-tunnel proxy script FILE \| .*`, []string{"made of proxy script FILE"}},
		"AddressFamily": {IPv6Alone(8080), `sshd -T [^)]*`, []string{"addressfamily any", "permitlisten any"}},
		"key exchange":  {NoCommon("a:22", "key exchange", nil, no), `sshd -T [^)]*`, []string{"curve25519-sha256"}},
		"cipher":        {NoCommon("a:22", "client to server cipher", nil, no), `sshd -T [^)]*`, []string{"aes256-gcm@openssh.com"}},
		"MAC":           {NoCommon("a:22", "client to server MAC", nil, no), `sshd -T [^)]*`, []string{"hmac-sha2-256-etm@openssh.com"}},
		"login": {LoginRefused("jdoe", "a:22", "", []string{"ssh-rsa AAAA"}, no), `sshd -T -C [^']*'[^']*'`, []string{"authorizedkeysfile", "pubkeyacceptedalgorithms",
			"requiredrsasize", "strictmodes yes", "allowusers jdoe", "denyusers", "permitrootlogin"}},
		"an expired password, to its owner": {PasswordExpired("jdoe", "proxy:2222", "x"), `ssh -t [^;]*`, []string{"user jdoe", "hostname proxy", "port 2222", "requesttty true"}},
		"an expired password, to the admin": {PasswordExpired("jdoe", "a:22", "x"), `chage .*`, []string{"jdoe:*:2", ":0::7:"}},
		"a script by hand":                  {NotRoot("me", "proxy", 2222), `taipy-tunnel proxy .*`, []string{"made of proxy script FILE"}},
		"a script by an admin's hand":       {NoCommands("me", "proxy", 22, no), `taipy-tunnel proxy .*`, []string{"made of proxy script FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			command := regexp.MustCompile(row.command).FindString(row.err.Hint.String())
			program, _, _ := strings.Cut(command, " ")
			if path := map[string]string{"sshd": "/usr/sbin/sshd", "ssh": "/usr/bin/ssh", "chage": "/usr/bin/chage"}[program]; path != "" {
				if _, err := os.Stat(path); err != nil || program != "ssh" && os.Getuid() != 0 {
					missing.Skip(t, "%s, and root, are needed", path)
				}
			}
			_ = os.MkdirAll("/run/sshd", 0o755)
			dir := t.TempDir()
			write := func(name, text string) {
				path := filepath.Join(dir, name)
				_ = os.MkdirAll(filepath.Dir(path), 0o755)
				if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for program, script := range programs {
				write("bin/"+program, "#!/bin/sh\n"+script+"\n")
			}
			write("etc/passwd", "jdoe:x:4242:4242::/:/bin/sh\n")
			write("etc/shadow", "jdoe:*:0:0:90:7:::\n")
			write("sshd_config", "HostKey "+filepath.Join(dir, "host")+"\nAllowUsers jdoe\nDenyUsers root\nCiphers aes256-gcm@openssh.com\n")
			if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "host")).CombinedOutput(); err != nil {
				missing.Skip(t, "ssh-keygen: %v\n%s", err, out)
			}
			c := exec.Command("sh", "-c", command)
			c.Dir, c.Env = dir, append(os.Environ(), "DIR="+dir, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			out, err := c.CombinedOutput()
			if err != nil || command == "" {
				t.Fatalf("%q: %v\n%s", command, err, out)
			}
			for _, want := range row.shows {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q shows no %q:\n%s", command, want, out)
				}
			}
		})
	}
}
