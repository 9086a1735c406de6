// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// FuzzStrings: whatever text comes over the C interface, each call answers, and in JSON. What would
// be a configuration is left to package tunnel's own fuzzing: it would open connections.
func FuzzStrings(f *testing.F) {
	f.Add([]byte(`{"server":"h"}`), "127.0.0.1:5000", 100)
	f.Add([]byte("\xff\x00{"), "\x00", 0)
	f.Fuzz(func(t *testing.T, config []byte, target string, size int) {
		if cfg, err := tunnel.ParseConfig(config); err == nil && len(cfg.Server) == 1 {
			return
		}
		h := tunnels.expose(config, time.Second)
		defer tunnels.release(h)
		e := tunnels.find(h)
		_ = e.setTarget(target)
		e.reconnect()
		if s := await(t, h, tunnel.Failed); s.LastError == nil {
			t.Fatal("failed without an error")
		}
		text, err := json.Marshal(e.read())
		if err != nil || !utf8.Valid(text) {
			t.Fatalf("status %q: %v", text, err)
		}
		events.add(record{Handle: h, Type: "log", Message: target})
		var records []record
		if err := json.Unmarshal(events.take(max(size, 1<<16)), &records); err != nil {
			t.Fatal(err)
		}
		e.close(time.Duration(size))
	})
}
