// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyadmin"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// machine is a question about a proxy machine: {"host":{…}}, as package proxyhost describes it.
type machine struct {
	Ask  string          `json:"ask"`
	Host json.RawMessage `json:"host"`
}

func proxyRender(_ context.Context, text []byte) (any, error) {
	return rendered(text, proxyhost.Render)
}

func proxyScript(_ context.Context, text []byte) (any, error) {
	return rendered(text, proxyhost.Script)
}

func proxyCloudInit(_ context.Context, text []byte) (any, error) {
	return rendered(text, proxyhost.CloudInit)
}

func rendered[T any](text []byte, render func(proxyhost.Host) (T, error)) (any, error) {
	var q machine
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	h, err := proxyhost.ParseHost(q.Host)
	if err != nil {
		return nil, err
	}
	return render(*h)
}

// made is what a machine's tenants have to be told.
type made struct {
	HostKey string       `json:"host_key"`
	Tenants []madeTenant `json:"tenants"`
}

type madeTenant struct {
	Server string   `json:"server"`
	Names  []string `json:"names"`
	Free   bool     `json:"free"`
}

func proxySetUp(ctx context.Context, text []byte, say func(string)) (any, error) {
	var q struct {
		machine
		Config json.RawMessage `json:"config"`
		Remove bool            `json:"remove"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	h, err := proxyhost.ParseHost(q.Host)
	if err != nil {
		return nil, err
	}
	script, err := proxyhost.Script(*h)
	if err != nil {
		return nil, err
	}
	to, _, err := login(q.Config)
	if err != nil {
		return nil, err
	}
	m, err := proxyadmin.SetUp(ctx, to, script, q.Remove, say)
	if err != nil {
		return nil, err
	}
	told := made{HostKey: m.HostKey, Tenants: []madeTenant{}}
	for _, t := range h.Tenants {
		if !q.Remove {
			told.Tenants = append(told.Tenants, madeTenant{m.Server(t.Name), t.Names(), t.SelfService != ""})
		}
	}
	return told, nil
}

// proxyCheck looks at a machine as one of its tenants: {"config"} -> [{"step","ok","warn","seen","hint"}].
func proxyCheck(ctx context.Context, text []byte) (any, error) {
	var q struct {
		Ask    string          `json:"ask"`
		Config json.RawMessage `json:"config"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	to, name, err := login(q.Config)
	if err != nil {
		return nil, err
	}
	return proxyadmin.Check(ctx, to, name)
}

// login is what the configuration of a tunnel says of the way to its proxy, and the name of its app.
func login(config []byte) (to destination.Config, name string, err error) {
	cfg, err := tunnel.ParseConfig(config)
	if err != nil {
		return destination.Config{}, "", err
	}
	cfg.Control = own
	to, err = cfg.Destination()
	return to, cfg.Name, err
}
