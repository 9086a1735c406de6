// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// When nginx is away no visitor gets here, and the state says so.
func TestNginxAway(t *testing.T) {
	r := newRendered(t)
	tun := open(t, public(r.described("sales", app(t, "hello"))))
	await(t, tun, "its links", whole)
	r.proxy.Nginx.Stop()
	s := await(t, tun, "that visitors are elsewhere", inState(tunnel.Reconnecting))
	if s.Links != 2 || s.LastError == nil {
		t.Errorf("%s", brief(tun))
	}
}
