// SPDX-License-Identifier: Apache-2.0

//go:build linux

package forward

import (
	"io"
	"net"
	"testing"
)

// What the other end had closed before is told from what it read before it closed.
func TestUnreadIsTold(t *testing.T) {
	for name, read := range map[string]bool{"read and closed": true, "closed before": false} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			var target Target
			target.Set(l.Addr().String())
			c, err := target.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			app, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if !read {
				_ = app.Close()
			}
			if _, err := io.WriteString(c, "GET /"); err != nil {
				t.Fatal(err)
			}
			if read {
				_, _ = io.ReadFull(app, make([]byte, len("GET /")))
				_ = app.Close()
			}
			_, _ = io.ReadAll(c)
			_ = c.Close()
			if told := c.(interface{ Unread() bool }).Unread(); told == read {
				t.Errorf("unread: %v", told)
			}
		})
	}
}
