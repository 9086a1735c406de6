// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// Files with host keys are read again for each connection: what is put right on disk holds at once, and so does what is
// taken away. A file that cannot be used counts as it was.
func TestHostKeyFilesAreReadAgain(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	host := fmt.Sprintf("[%s]:%d", s.Host, s.Port)
	good, other := line(host, s.HostKey)+"\n", line(host, newSigner(t).PublicKey())+"\n"
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(t.TempDir(), "hosts")
	for form, c := range map[string]struct{ text, path string }{
		"named":       {named, named},
		"known_hosts": {"", filepath.Join(home, ".ssh", "known_hosts")},
	} {
		t.Run(form, func(t *testing.T) {
			leak.Check(t)
			put := func(text string) {
				t.Helper()
				if err := os.WriteFile(c.path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(good)
			known, err := hostkeys.New(c.text)
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			cfg := config(t, s)
			cfg.HostKeys, cfg.Log = known, slog.New(slog.NewTextHandler(&log, nil))
			dial := func(when string, trusted bool) {
				t.Helper()
				l, err := Dial(within(t, 20*time.Second), cfg)
				if err == nil {
					_ = l.Close()
				}
				if trusted && err != nil {
					t.Errorf("%s: %v", when, err)
				} else if !trusted {
					wantFault(t, err, fault.ErrHostKey, true)
				}
			}
			dial("at first", true)
			put(other)
			dial("the machine has another key", false)
			put(other + good)
			dial("both keys are known", true)
			put(good + "@revoked " + good)
			dial("the key was revoked", false)
			put(good)
			dial("it is known again", true)
			if err := os.Remove(c.path); err != nil {
				t.Fatal(err)
			}
			dial("the file is gone", true)
			dial("and still is", true)
			if c.text != "" {
				put("half a li")
				dial("the file is half written", true)
			}
			put(other)
			dial("it is back, with another key", false)
			if n := strings.Count(log.String(), "cannot be read again"); c.text != "" && n != 2 {
				t.Errorf("%d warnings, want one for each trouble:\n%s", n, log.String())
			}
		})
	}
}

// A line of a named file that is not understood is passed over, and the log says so once: which line it is, and nothing of what it holds.
func TestALineOfHostKeysThatIsPassedOverIsLogged(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	const odd = "bastion.corp.example ssh-ed25519 AAAAC3Nz!unreadable\n"
	path := filepath.Join(t.TempDir(), "hosts")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(odd + s.KnownHostsLine())
	known, err := hostkeys.New(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := config(t, s)
	cfg.HostKeys, cfg.Log = known, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, c := range []struct {
		when, text, says string // "": the file stays, no warning
	}{
		{"at first", odd + s.KnownHostsLine(), fmt.Sprintf("line 1 of %s is not understood and was passed over", path)},
		{"again", "", ""},
		{"with a second one", odd + s.KnownHostsLine() + odd, fmt.Sprintf("line 1 of %s and 1 more are not understood and were passed over", path)},
		{"again with both", "", ""},
		{"without any", s.KnownHostsLine(), ""},
	} {
		if c.text != "" {
			put(c.text)
		}
		log.Reset()
		l, err := Dial(within(t, 20*time.Second), cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.when, err)
		}
		_ = l.Close()
		said := strings.ReplaceAll(log.String(), `\"`, "")
		if lines := strings.Count(said, "\n"); c.says == "" && lines != 0 || c.says != "" && (lines != 1 || !strings.Contains(said, "level=WARN") || !strings.Contains(said, c.says)) {
			t.Errorf("%s: %d lines, want %q:\n%s", c.when, lines, c.says, said)
		}
		if strings.Contains(said, "AAAAC3Nz") || strings.Contains(said, "bastion") {
			t.Errorf("%s: shows the line: %s", c.when, said)
		}
	}
}
