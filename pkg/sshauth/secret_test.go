// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// The same key gives the same secret wherever it lies; another key or label another one.
func TestSecretFollowsTheKey(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	secret := func(src KeySource, label string) ([]byte, error) {
		keys, err := NewKeys(context.Background(), src)
		if err != nil {
			t.Fatal(err)
		}
		return keys.Secret(context.Background(), label)
	}
	seen := map[string]string{}
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		key := sshdtest.NewKey(t, kind)
		inFile, err := secret(KeySource{Key: key}, "a")
		if err != nil || len(inFile) != 32 {
			t.Fatalf("%s: %d bytes, %v", kind, len(inFile), err)
		}
		if again, err := secret(KeySource{Key: key}, "a"); !bytes.Equal(again, inFile) {
			t.Errorf("%s: another secret the second time (%v)", kind, err)
		}
		other, err := secret(KeySource{Key: key}, "b")
		if err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string][]byte{kind + " a": inFile, kind + " b": other} {
			if before := seen[string(s)]; before != "" {
				t.Errorf("%s and %s have the same secret", before, what)
			}
			seen[string(s)] = what
		}
		inAgent, err := secret(KeySource{Agent: sshdtest.StartAgent(t, key).Socket}, "a")
		if kind == "ecdsa" {
			if !errors.Is(err, ErrNoSecret) {
				t.Errorf("%s in an agent: %v, want ErrNoSecret", kind, err)
			}
		} else if err != nil || !bytes.Equal(inAgent, inFile) {
			t.Errorf("%s in an agent: another secret than of the file (%v)", kind, err)
		}
	}
}
