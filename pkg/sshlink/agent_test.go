// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// The connection to the agent ends with the login, of which the link knows the key.
func TestLoginLeavesTheAgent(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	s := sshdtest.Start(t, sshdtest.Options{})
	cfg := config(t, s)
	want := cfg.Keys.ID()
	agent, ended := between(t, sshdtest.StartAgent(t, sshdtest.NewKey(t, "ecdsa"), s.KeyFile).Socket, 2)
	keys, err := sshauth.NewKeys(within(t, 20*time.Second), sshauth.KeySource{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Keys = keys
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if l.Key() != want || keys.ID() != want {
		t.Errorf("logged in with %s, ID %s; want %s", l.Key(), keys.ID(), want)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the connection to the agent is open while the link is up")
	}
}

// between is a socket in front of another, that takes so many connections, one after another, and tells when the last has ended.
func between(t testing.TB, socket string, most int) (string, <-chan struct{}) {
	t.Helper()
	path, ended := filepath.Join(t.TempDir(), "s"), make(chan struct{})
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(); <-ended })
	pass := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		to, err := net.Dial("unix", socket)
		if err != nil {
			return
		}
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(c, to) })
		_, _ = io.Copy(to, c)
		_ = to.Close()
		back.Wait()
	}
	go func() {
		defer close(ended)
		for range most {
			c, err := l.Accept()
			if err != nil {
				return
			}
			pass(c)
		}
	}()
	return path, ended
}
