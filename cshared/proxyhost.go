// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
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
