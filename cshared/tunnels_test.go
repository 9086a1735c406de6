// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// await waits until the tunnel of handle is in a state that ends something.
func await(t *testing.T, handle int64, want tunnel.State) tunnel.Status {
	t.Helper()
	fd, err := events.descriptor()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if s := tunnels.find(handle).read(); s.State == want {
			return s
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
		_, _ = unix.Read(fd, make([]byte, 8))
		events.take(1 << 20)
	}
	t.Fatalf("state %s, want %s", tunnels.find(handle).read().State, want)
	return tunnel.Status{}
}

func TestBadConfigurationShowsInTheStatus(t *testing.T) {
	for _, config := range []string{``, `{`, `[]`, `{}`, `{"server":"me@h","no_such":1}`, `{"server":"h"}`, `{"server":"me@h","key":"/nowhere"}`,
		`{"server":"me@h"} x`, `{"server":["a@b","c@d"]}`, `{"server":"me@h","remote":70000}`, `{"server":"me@h","url":"ftp://h"}`} {
		h := tunnels.expose([]byte(config), 5*time.Second)
		if s := await(t, h, tunnel.Failed); !errors.Is(s.LastError, tunnel.ErrConfig) {
			t.Errorf("%s: %v", config, s.LastError)
		}
		tunnels.release(h)
	}
	if n := tunnels.count(); n != 0 {
		t.Errorf("%d handles left", n)
	}
}

// What is known of the slot before there is a tunnel is shown as it was given.
func TestStatusOfASetUpShowsTheSlot(t *testing.T) {
	for remote, want := range map[string]string{`9000`: `"remote":9000,`, `"/run/x.sock"`: `"remote":"/run/x.sock",`} {
		h := tunnels.expose([]byte(`{"server":"me@h","key":"/nowhere","remote":`+remote+`}`), 5*time.Second)
		shown, err := json.Marshal(await(t, h, tunnel.Failed))
		if err != nil || !strings.Contains(string(shown), want) {
			t.Errorf("%s, %v: want %s", shown, err, want)
		}
		tunnels.release(h)
	}
}

func TestCloseEndsASetUp(t *testing.T) {
	config := `{"server":"me@127.0.0.1:1","host_key":"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","key":` + newKey(t) + `}`
	h := tunnels.expose([]byte(config), time.Hour)
	e := tunnels.find(h)
	if s := e.read(); s.State != tunnel.Connecting {
		t.Fatalf("state %s", s.State)
	}
	e.close(0)
	await(t, h, tunnel.StateClosed)
	tunnels.release(h)
	if tunnels.find(h) != nil {
		t.Error("the handle is still there")
	}
}

// newKey returns the text of a new private key, as a JSON string.
func newKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(string(pem.EncodeToMemory(block)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReconnectTellsThatTheSetUpHasFailed(t *testing.T) {
	h := tunnels.expose([]byte(`{}`), 5*time.Second)
	defer tunnels.release(h)
	await(t, h, tunnel.Failed)
	if !tunnels.find(h).reconnect() {
		t.Error("a set-up that has failed says that it reconnects")
	}
}
