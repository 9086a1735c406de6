// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The faults of docs/known-faults.md, as they are. A test that fails here may show that one is mended: then its entry goes.

func TestKnownANewerThatFails(t *testing.T) {
	_, cfg := machine(t, "plain", func(http.ResponseWriter, *http.Request) {})
	older := open(t, public(cfg))
	bad := public(cfg)
	bad.URL = "http://" + who(t, "elsewhere") + "/"
	if _, err := tunnel.Expose(within(t, 5*time.Second), bad); err == nil {
		t.Fatal("it was exposed")
	}
	await(t, older, "replaced", inState(tunnel.Replaced))
}
