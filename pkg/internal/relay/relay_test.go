// SPDX-License-Identifier: Apache-2.0

package relay_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
)

func pass(t *testing.T, from, to net.Conn) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := io.WriteString(from, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

// What is open when it goes silent stays open on both sides, and carries nothing. What comes afterwards passes.
func TestMute(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	r := relay.Start(t, l.Addr().String())
	both := func() (near, far net.Conn) {
		near, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		far, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		pass(t, near, far)
		pass(t, far, near)
		return near, far
	}
	near, far := both()
	r.Mute()
	for _, c := range []net.Conn{near, far} {
		if _, err := io.WriteString(c, "lost"); err != nil {
			t.Error(err)
		}
	}
	_ = near.Close() // of which the other side learns nothing
	_ = far.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := far.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
	near, far = both()
	_ = near.Close()
	if _, err := far.Read(make([]byte, 9)); err == nil {
		t.Error("an end does not pass")
	}
}
