// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

func TestConnectIsCancelled(t *testing.T) {
	leak.Check(t)
	port := sshdtest.Start(t, sshdtest.Options{}).FreePort()
	sshdtest.BlackHole(t, "127.0.0.2", port)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{Host: "127.0.0.2", Port: port, Keys: newKeys(t), HostKeys: knows(t, "SHA256:"+strings.Repeat("A", 43)),
		Control: func(string, string, syscall.RawConn) error { cancel(); return nil }}
	if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
