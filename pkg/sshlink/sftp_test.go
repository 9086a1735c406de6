// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// A file is read whole or not at all, and the one session that an account may have is free afterwards.
func TestReadFile(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp", "MaxSessions 1"}})
	path := filepath.Join(t.TempDir(), "file")
	want := strings.Repeat("0123456789", 20000) // several packets
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	l := dialLink(t, s)
	for range 5 {
		got, err := l.ReadFile(t.Context(), path, 1<<20)
		if err != nil || string(got) != want {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if _, err := l.Run(t.Context(), "true"); err != nil {
		t.Errorf("the session is not free: %v", err)
	}
	if got, err := l.ReadFile(t.Context(), path, int64(len(want))-1); err == nil || errors.Is(err, ErrNoFile) {
		t.Errorf("a file that is too large: %d bytes, %v", len(got), err)
	}
	if _, err := l.ReadFile(t.Context(), path+"-not", 10); !errors.Is(err, ErrNoFile) {
		t.Errorf("no such file: %v", err)
	}
}

// Servers without SFTP, or that force something else, have no file; the link stays.
func TestReadFileWithoutSFTP(t *testing.T) {
	leak.Check(t)
	for name, config := range map[string][]string{
		"no subsystem": {},
		"no session":   {"MaxSessions 0"},
		"words":        {"Subsystem sftp internal-sftp", "ForceCommand echo this is not what you expected here, at all"},
		"no end":       {"Subsystem sftp internal-sftp", "ForceCommand exec sleep 20"},
	} {
		s := sshdtest.Start(t, sshdtest.Options{Config: config})
		l := dialLink(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if _, err := l.ReadFile(ctx, "/etc/hostname", 1<<20); !errors.Is(err, ErrNoFile) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		slot, err := l.Listen(t.Context(), s.FreePort())
		if err != nil {
			t.Errorf("%s: the link is gone: %v", name, err)
			continue
		}
		_ = slot.Close()
	}
}
