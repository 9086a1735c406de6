// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Sshd that has no descriptors left has visitors wait, and says nothing. The state says so: soon where there were visitors, also of an
// account that may connect to nginx alone; with the next look where there were none. It is well again when sshd is. Soon is 0.3 s, but with the next look, too, where the link that has
// the port has just taken the place of another.
func TestSshdOutOfDescriptors(t *testing.T) {
	for name, within := range map[string]time.Duration{"visitors": 15 * time.Second, "visitors, permitopen": 15 * time.Second, "none": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			c, cfg := machine(t, "plain", nothing)
			if strings.HasSuffix(name, "permitopen") {
				_ = open(t, public(cfg)).Close() // sshd says where its keys are when it has accepted one
				u, err := url.Parse(c.url)
				must(t, err)
				file := c.keysFile(t)
				line, err := os.ReadFile(file)
				must(t, err)
				must(t, os.WriteFile(file, fmt.Appendf(nil, "permitopen=%q %s", u.Host, line), 0o644))
			}
			before := len(c.log.String())
			tun := open(t, public(cfg))
			await(t, tun, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 })
			c.answersAtItsPort(t, before)
			if name != "none" {
				wantBody(t, c.url, "")
			}
			feed := c.StarveLinks(t)
			begin := time.Now()
			waits := make(chan error, 1)
			go func() { _, err := get(c.url); waits <- err }()
			await(t, tun, "that visitors wait", inState(tunnel.Reconnecting))
			took := time.Since(begin)
			t.Logf("after %v: %s", took.Round(100*time.Millisecond), brief(tun))
			if took > within {
				t.Errorf("after %v", took)
			}
			s := await(t, tun, "why", func(s tunnel.Status) bool {
				return s.LastError != nil && strings.Contains(s.LastError.Error(), "file descriptors")
			})
			if !errors.Is(s.LastError, tunnel.ErrForward) || !strings.Contains(s.LastError.Hint.String(), "LimitNOFILE") {
				t.Errorf("%+v", s.LastError)
			}
			if row := rowOf(t, tun, "link"); row.OK || !strings.Contains(row.Seen, "file descriptors") || row.Hint != s.LastError.Hint {
				t.Errorf("%+v", row)
			}
			feed()
			begin = time.Now()
			if err := <-waits; err != nil {
				t.Errorf("who waited: %v", err)
			}
			await(t, tun, "up", inState(tunnel.Up))
			t.Logf("up after %v", time.Since(begin).Round(100*time.Millisecond))
		})
	}
}
