// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestWhatATenantMay: the attacks fail for what they are, since the same scene admits what is good.
func TestWhatATenantMay(t *testing.T) {
	a := newScene(t, func(_, text string) string { return text })
	slot := func(c *ssh.Client) error {
		if !bind(c, "/s/mine.0.sock") {
			return errRefused
		}
		return nil
	}
	good := a.pki.certificate(a.pki.authority, a.pki.notebook, "team")
	for what, do := range map[string]func() string{
		"a slot, with a key":           a.raw(slot),
		"a slot, with a certificate":   a.raw(slot, good),
		"its description, by ssh":      a.stock("sftp", "get /proxy.json "+os.DevNull+"\n", "-q", "-b", "-", "proxy"),
		"its description, by hand":     a.raw(func(c *ssh.Client) error { return readDescription(c) }, good),
		"the app of another's visitor": a.send(a.HTTP, "GET /x HTTP/1.1", "Host: BOARD.invalid.:80"),
	} {
		if got := do(); !strings.Contains(got, "granted") && !strings.Contains(got, "200 OK") {
			t.Errorf("%s: %s", what, got)
		}
	}
	for where, want := range map[string]string{ // of the tenant's own names; nobody is at two of them
		"board.invalid/.well-known/taipy-tunnel":                     "200",
		"mine--" + a.User + ".apps.invalid/.well-known/taipy-tunnel": "503",
		"127.0.0.1/sales/.well-known/taipy-tunnel":                   "503",
		"board.invalid/.well-known/taipy-tunnel/slots/3":             "200",
		"127.0.0.1/sales/.well-known/taipy-tunnel/slots/3":           "502",
		"board.invalid/.well-known/taipy-tunnel/time":                "204",
	} {
		host, path, _ := strings.Cut(where, "/")
		if got := a.atCheckPort(host, "/"+path)(); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%s by the check port: %s", where, got)
		}
	}
}

func readDescription(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return s.RequestSubsystem("sftp")
}

// unharmed is for after the attacks: whatever was answered, nothing of it is there.
func (a *scene) unharmed() {
	a.t.Helper()
	for _, path := range []string{filepath.Join(os.TempDir(), filepath.Base(a.Layout.Run)+".sock"), filepath.Join(a.Layout.Run, a.User, "x.sock"),
		filepath.Join(a.Layout.Run, a.User, "s/x"), filepath.Join(a.Layout.Run, a.User, "s/etc")} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			a.t.Errorf("there is %s: %v", path, err)
		}
	}
	want := a.Proxy.Files.Text(a.Layout.Etc + "/proxy/" + a.User + ".json")
	if text, err := os.ReadFile(filepath.Join(a.Layout.Run, a.User, "proxy.json")); err != nil || string(text) != want {
		a.t.Errorf("the description: %q, %v", text, err)
	}
	for _, dir := range []string{a.Layout.Run, filepath.Join(a.Layout.Run, a.User), filepath.Join(a.Layout.Run, a.User, "s")} {
		mode, want := fmt.Sprintf("%o", statOf(a.t, dir).Mode&0o7777), "755"
		if strings.HasSuffix(dir, "/s") {
			want = "2750"
		}
		if mode != want {
			a.t.Errorf("%s has the mode %s, want %s", dir, mode, want)
		}
	}
}
