// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// identity is equal for two configurations of the same tunnel: {"server","slot"}.
func identity(_ context.Context, text []byte) (any, error) {
	var q struct {
		Ask    string          `json:"ask"`
		Config json.RawMessage `json:"config"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	defer clear(q.Config)
	cfg, err := tunnel.ParseConfig(q.Config)
	if err != nil {
		return nil, err
	}
	server, slot, err := cfg.Identity()
	if err != nil {
		return nil, err
	}
	return map[string]string{"server": server, "slot": slot}, nil
}

// look looks along the chain of what a configuration would open: {"config","origin"} -> [{"step","ok","seen","hint"}].
func look(ctx context.Context, text []byte) (any, error) {
	var q struct {
		Ask    string            `json:"ask"`
		Config json.RawMessage   `json:"config"`
		Origin map[string]string `json:"origin"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	defer clear(q.Config)
	cfg, err := tunnel.ParseConfig(q.Config)
	if err != nil {
		return nil, err
	}
	cfg.Control = own
	return doctor.Look(ctx, cfg, q.Origin), nil
}

// changing reads a question about new settings of an open tunnel: {"handle","config"}.
func changing(text []byte) (*entry, tunnel.Config, error) {
	var q struct {
		Ask    string          `json:"ask"`
		Handle int64           `json:"handle"`
		Config json.RawMessage `json:"config"`
	}
	if err := parse(text, &q); err != nil {
		return nil, tunnel.Config{}, err
	}
	defer clear(q.Config)
	e := tunnels.find(q.Handle)
	if e == nil || e.open() == nil {
		return nil, tunnel.Config{}, notUnderstood(errors.New("the tunnel is closed, or not open yet"))
	}
	cfg, err := tunnel.ParseConfig(q.Config)
	return e, cfg, err
}

// admit has an open tunnel's gate admit whom new settings say: {"changed":[names],"reopen":bool}.
func admit(_ context.Context, text []byte) (any, error) {
	e, cfg, err := changing(text)
	if err != nil {
		return nil, err
	}
	changed, rest, err := e.open().Admit(cfg)
	if err != nil {
		return nil, err
	}
	if changed == nil {
		changed = []string{}
	}
	return map[string]any{"changed": changed, "reopen": rest}, nil
}

// reopen opens a tunnel with new settings in the place of an open one, which keeps its handle. The
// answer is null.
func reopen(ctx context.Context, text []byte) (any, error) {
	e, cfg, err := changing(text)
	if err != nil {
		return nil, err
	}
	cfg.Log, cfg.Control, cfg.Busy = slog.New(handler{handle: e.handle}), own, e.busy
	return nil, e.reopen(ctx, cfg)
}

// reopen returns when the new tunnel stands, or could not be had; then the old one goes on.
func (e *entry) reopen(ctx context.Context, cfg tunnel.Config) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	e.mu.Lock()
	before := e.tunnel
	e.stop = stop
	e.mu.Unlock()
	t, err := before.Reopen(ctx, cfg)
	if errors.Is(err, context.Canceled) {
		return &tunnel.Error{Op: "tunnel", Err: errors.New("it was closed, or the change given up, meanwhile"), Class: tunnel.ErrClosed, Permanent: true}
	}
	if err != nil {
		return err
	}
	e.adopt(t)
	start(e.handle, func() { e.follow(t) })
	return nil
}
