// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// The JSON of docs/proxy.md is what is read: the machine's, with keys in the place of the dots, and the description that a
// tenant reads.
func TestTheDocumentsJSONIsTaken(t *testing.T) {
	page, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(found) != 2 {
		t.Fatalf("docs/proxy.md has %d blocks of JSON", len(found))
	}
	text := regexp.MustCompile(`ssh-ed25519 AAAA…`).ReplaceAllString(found[0][1], key(t, 1))
	host, err := proxyhost.ParseHost([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	script, err := proxyhost.Script(*host)
	if err != nil || !strings.Contains(string(script), "hr-notebooks") {
		t.Errorf("the script: %v", err)
	}
	takesTheDocumentsWords(t, string(page), script)
	d, err := proxyhost.ParseDescription([]byte(found[1][1]))
	if err != nil {
		t.Fatal(err)
	}
	if app, err := d.Find("staff"); err != nil || app.URL != "https://hr.example.com/staff/" {
		t.Errorf("%+v, %v", app, err)
	}
}

// takesTheDocumentsWords runs the script with what docs/proxy.md has after its name, without root: it changes nothing of this machine.
func takesTheDocumentsWords(t *testing.T, page, script string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "proxy-script-") // nobody enters t.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "proxy.sh"), []byte(script), 0o644)); err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^    (sh proxy\.sh(?: \S+)*)  `).FindAllStringSubmatch(page, -1)
	if len(lines) != 3 {
		t.Fatalf("docs/proxy.md has %q", lines)
	}
	for _, line := range lines {
		c := exec.Command("sh", "-c", "mkdir -p DIR; "+line[1])
		c.Dir = dir
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := c.CombinedOutput()
		_, made := os.Stat(filepath.Join(dir, "DIR/etc/ssh"))
		if strings.Contains(line[1], "DIR") && (err != nil || made != nil) || !strings.Contains(line[1], "DIR") && !strings.HasSuffix(string(out), "run me as root\n") {
			t.Errorf("%s: %v, %v\n%s", line[1], err, made, out)
		}
	}
}
