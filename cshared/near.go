// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// neighbours remembers whom it has asked.
var neighbours tunnel.Neighbours

// near finds the web apps near this process: {"never":[ports]} -> [{"addr","pid","program","here","below"}].
func near(ctx context.Context, text []byte) (any, error) {
	var q struct {
		Ask   string `json:"ask"`
		Never []int  `json:"never"`
	}
	if err := parse(text, &q); err != nil {
		return nil, err
	}
	return neighbours.Look(ctx, q.Never, func(f func()) bool { start(0, f); return true }), nil
}
