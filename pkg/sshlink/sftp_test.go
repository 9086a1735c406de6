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

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
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
	if got, err := l.ReadFile(t.Context(), path, int64(len(want))-1); !errors.Is(err, ErrLarge) {
		t.Errorf("a file that is too large: %d bytes, %v", len(got), err)
	}
	if _, err := l.ReadFile(t.Context(), path+"-not", 10); !errors.Is(err, ErrNoFile) {
		t.Errorf("no such file: %v", err)
	}
}

// Servers without SFTP, or that force something else, say that there is no file. One that says nothing has not said so.
// The link stays.
func TestReadFileWithoutSFTP(t *testing.T) {
	leak.Check(t)
	for name, c := range map[string]struct {
		config []string
		want   error
	}{
		"no subsystem": {nil, ErrNoFile},
		"no session":   {[]string{"MaxSessions 0"}, ErrNoFile},
		"words":        {[]string{"Subsystem sftp internal-sftp", "ForceCommand echo this is not what you expected here, at all"}, ErrNoFile},
		"an end":       {[]string{"Subsystem sftp internal-sftp", "ForceCommand exit 1"}, ErrNoFile},
		"no end":       {[]string{"Subsystem sftp internal-sftp", "ForceCommand exec sleep 20"}, fault.ErrUnreachable},
	} {
		s := sshdtest.Start(t, sshdtest.Options{Config: c.config})
		l := dialLink(t, s)
		wait := 20 * time.Second
		if name == "no end" {
			wait = 500 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if _, err := l.ReadFile(ctx, "/etc/hostname", 1<<20); !errors.Is(err, c.want) || c.want != ErrNoFile && errors.Is(err, ErrNoFile) || fault.IsPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "no end" {
			if may, err := l.MayWrite(within(t, 300*time.Millisecond), "/absent"); err == nil {
				t.Errorf("%s: it may write: %v", name, may)
			}
			if may, err := l.MayRun(within(t, 300*time.Millisecond)); err == nil {
				t.Errorf("%s: it may run commands: %v", name, may)
			}
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

// That a link ends says nothing of the files.
func TestReadFileFromALinkThatEnds(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp", "ForceCommand exec sleep 20"}})
	l := dialLink(t, s)
	read := make(chan error, 1)
	go func() { _, err := l.ReadFile(t.Context(), "/etc/hostname", 1<<20); read <- err }()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.Log(), "Starting session"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session does not begin")
		}
	}
	s.KillLinks()
	if err := <-read; !errors.Is(err, fault.ErrUnreachable) || errors.Is(err, ErrNoFile) {
		t.Error(err)
	}
}
