// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// A certificate may stand before its key as well: cat id-cert.pub id.
func TestACertificateBeforeItsKey(t *testing.T) {
	text := made(t, "ssh-keygen -qt ed25519 -N '' -f ca; ssh-keygen -qt ed25519 -N '' -f k; ssh-keygen -qs ca -I x -n me k.pub; cat k-cert.pub k >key")
	for how, key := range map[string]string{"text": text, "file": file(t, text)} {
		if k, err := LoadKeys(key, ""); err != nil {
			t.Errorf("%s: %v", how, err)
		} else if k.files[0].cert == nil {
			t.Errorf("%s: no certificate", how)
		}
	}
}

// A path is a path, whatever its words are.
func TestAPathWithTheWordsPrivateKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "MY PRIVATE KEYS")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "id")
	if err := os.WriteFile(path, []byte(openSSH(t, newKey(t, "ed25519"), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(path, ""); err != nil {
		t.Error(err)
	}
}

// A server that wants two keys has taken the first: what it wants is told, not where to look why it is refused.
func TestAServerThatWantsTwoKeys(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"AuthenticationMethods publickey,publickey"}})
	_, err := with(t, s, KeySource{Key: s.KeyFile})
	if err == nil || !strings.Contains(err.Error(), "with a key alone") {
		t.Errorf("%v", err)
	}
}
