// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A list of keys that is empty for a moment while the link is made again does not end the tunnel. It says why it waits and
// until when, logs in once then, and is back.
func TestKeyRefusedForAMoment(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	list := filepath.Join(filepath.Dir(c.KeyFile), "authorized_keys")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.config(app(t, "hello"))
	cfg.Connections = 1
	tun := open(t, cfg)
	write(t, list, "")
	c.KillLinks()
	s := await(t, tun, "the refusal", func(s tunnel.Status) bool { return s.LastError != nil && errors.Is(s.LastError, tunnel.ErrAuth) })
	if wait := time.Until(s.RetryAt); s.State != tunnel.Reconnecting || wait < 3*time.Second || wait > 6*time.Second {
		t.Errorf("%s, next try in %v: %v", s.State, wait, s.LastError)
	}
	write(t, list, string(text))
	before := strings.Count(c.Log(), "Connection from")
	s = await(t, tun, "a new link", func(s tunnel.Status) bool { return s.State == tunnel.Up })
	if n := strings.Count(c.Log(), "Connection from") - before; n != 1 || s.Reconnects != 1 {
		t.Errorf("%d connections, %d reconnects, want 1", n, s.Reconnects)
	}
	wantBody(t, c.url, "hello")
	compat.Row(t, "accounts", "authorized_keys that is empty for a moment, in which a lost link is made again", compat.Taken)
}

// So it is with a directory that is away, as a home on NFS, and both links. The penalties for refused logins, which sshd has by itself from 9.8 on, do not
// shut the address out, although it is refused once more before the directory is back.
func TestDirectoryOfKeysAwayForAMoment(t *testing.T) {
	for _, row := range []struct {
		name    string
		options sshdtest.Options
		refused int // moments
	}{
		{"OpenSSH of this machine", sshdtest.Options{}, 1},
		{"OpenSSH 10 (Debian 13), with its penalties", sshdtest.Options{Root: sshdtest.Trixie(), Config: []string{"PerSourcePenalties yes"}}, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			if strings.Contains(row.name, "OpenSSH 10") && row.options.Root == "" {
				t.Skip("./build.sh roots has the Debian 13")
			}
			c := newChain(t, row.options)
			dir := filepath.Dir(c.KeyFile)
			list, keys, away := filepath.Join(dir, "authorized_keys"), filepath.Join(dir, "keys"), filepath.Join(dir, "away")
			must(t, os.Mkdir(keys, 0o755))
			must(t, os.Rename(list, filepath.Join(keys, "list")))
			must(t, os.Symlink("keys/list", list))
			tun := c.expose(t, app(t, "hello"))
			await(t, tun, "both links", func(s tunnel.Status) bool { return s.Links == 2 })
			before := strings.Count(c.Log(), "Connection from")
			must(t, os.Rename(keys, away))
			c.KillLinks()
			var s tunnel.Status
			for range row.refused {
				last := s.RetryAt
				s = awaitFor(t, time.Minute, tun, "the refusal", func(s tunnel.Status) bool {
					return s.LastError != nil && errors.Is(s.LastError, tunnel.ErrAuth) && time.Until(s.RetryAt) > 3*time.Second && s.RetryAt.Sub(last) > 3*time.Second
				})
				if s.State != tunnel.Reconnecting || s.Links != 0 {
					t.Errorf("%s, %d links: %v", s.State, s.Links, s.LastError)
				}
			}
			must(t, os.Rename(away, keys))
			awaitFor(t, 2*time.Minute, tun, "both links again", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
			wantBody(t, c.url, "hello")
			n := strings.Count(c.Log(), "Connection from") - before
			if n > 2*row.refused+2 || strings.Contains(c.Log(), "drop connection") || strings.Contains(c.log.String(), "Not allowed at this time") {
				t.Errorf("%d connections, or the address was shut out", n)
			}
			compat.Row(t, "accounts", "a directory of authorized_keys that is away for a moment, in which both links are made again: "+row.name, compat.Taken)
		})
	}
}

// A host key that is not the known one ends the tunnel, though it served before; when known_hosts has the new one,
// Reconnect is enough.
func TestHostKeyRenewed(t *testing.T) {
	c := newChain(t, sshdtest.Options{HostKeys: []string{"ed25519", "ecdsa"}})
	known := filepath.Join(t.TempDir(), "known_hosts")
	write(t, known, c.KnownHostsLine())
	cfg := c.config(app(t, "hello"))
	cfg.HostKey = known
	tun := open(t, cfg)
	other := authorized(t, sshdtest.NewKey(t, "ed25519"))
	write(t, known, strings.SplitN(c.KnownHostsLine(), " ", 2)[0]+" "+other)
	c.KillLinks()
	s := await(t, tun, "the end", func(s tunnel.Status) bool { return s.State == tunnel.Failed })
	if !errors.Is(s.LastError, tunnel.ErrHostKey) || !s.RetryAt.IsZero() {
		t.Errorf("%v, next try at %v", s.LastError, s.RetryAt)
	}
	write(t, known, c.KnownHostsLine())
	if err := tun.Reconnect(); err != nil {
		t.Fatal(err)
	}
	await(t, tun, "a new link", func(s tunnel.Status) bool { return s.State == tunnel.Up })
	wantBody(t, c.url, "hello")
}
