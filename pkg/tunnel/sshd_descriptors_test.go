// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const childConfig = "TAIPY_TUNNEL_TEST_DESCRIPTORS"

// A process that has no descriptors left says that, of whatever it could not reach, and never that the app is to be
// started; and is well again once it has some. It is a process of its own, that of TestChildWithoutDescriptors.
func TestWithoutDescriptors(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	cfg := c.config(app(t, "hello"))
	cfg.Raw = false
	text, err := json.Marshal(cfg)
	must(t, err)
	child := exec.CommandContext(within(t, time.Minute), os.Args[0], "-test.v", "-test.run=^TestChildWithoutDescriptors$")
	child.Env = append(os.Environ(), childConfig+"="+string(text))
	in, err := child.StdinPipe()
	must(t, err)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	defer func() { _ = in.Close(); _ = child.Wait() }()
	said := bufio.NewScanner(out)
	var all []string
	for said.Scan() {
		line := said.Text()
		all = append(all, line)
		switch {
		case line == "visit":
			_, _ = get(c.url)
			_, _ = fmt.Fprintln(in, "visited")
		case line == "PASS":
			return
		case strings.HasPrefix(line, "wrong: "), strings.HasPrefix(line, "panic: "):
			t.Error(line)
		}
	}
	t.Errorf("the child ended early:\n%s", strings.Join(all, "\n"))
}

// TestChildWithoutDescriptors is run by TestWithoutDescriptors.
func TestChildWithoutDescriptors(t *testing.T) {
	text := os.Getenv(childConfig)
	if text == "" {
		t.Skip("it is for another test")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	wrong := func(format string, args ...any) { fmt.Printf("wrong: "+format+"\n", args...) }
	cfg, err := tunnel.ParseConfig([]byte(text))
	must(t, err)
	tun, err := tunnel.Expose(ctx, cfg)
	must(t, err)
	defer func() { _ = tun.Close() }()
	seen := func(what string, pleases func(tunnel.Status) bool) {
		for s := range tun.Watch(ctx) {
			if pleases(s) {
				return
			}
		}
		wrong("not seen: %s; %+v", what, tun.Status())
	}
	limited := func(state tunnel.State, op string) func(tunnel.Status) bool {
		return func(s tunnel.Status) bool {
			if s.LastError == nil {
				return false
			}
			if errors.Is(s.LastError, tunnel.ErrApp) || s.State == tunnel.Waiting {
				wrong("%+v", s)
			}
			return s.State == state && errors.Is(s.LastError, tunnel.ErrLimit) && s.LastError.Op == op &&
				strings.Contains(s.LastError.Error(), "no file descriptors left (limit 3)") && strings.Contains(s.LastError.Hint.String(), "setrlimit")
		}
	}

	key, err := os.ReadFile(cfg.Key)
	must(t, err)

	seen("both links", func(s tunnel.Status) bool { return s.Links == 2 })
	feed := starve(t)
	fmt.Println("visit")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	seen("a visitor's connection to the app", limited(tunnel.Degraded, "app"))
	if row := tun.Doctor(ctx)[0]; row.OK || !strings.Contains(row.Seen, "no file descriptors left") {
		wrong("%+v", row)
	}
	must(t, tun.Reconnect()) // which gives no link up before it has another
	other := cfg
	other.Remote++
	other.Key = string(key)
	soon, cancelSoon := context.WithTimeout(ctx, time.Second)
	defer cancelSoon()
	if _, err := tunnel.Expose(soon, other); !errors.Is(err, tunnel.ErrLimit) || tunnel.AsError(err).Op != "connect" {
		wrong("a connection to the proxy: %v", err)
	}
	if s := tun.Status(); s.Links != 2 || s.State != tunnel.Degraded {
		wrong("%+v", s)
	}
	other.Server, other.Key, other.SSHConfig = tunnel.Servers{"me@localhost"}, string(key), "none"
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := tunnel.Expose(brief, other); !errors.Is(err, tunnel.ErrLimit) || tunnel.AsError(err).Op != "resolve" {
		wrong("the server's name: %v", err)
	}
	other.Key = cfg.Key
	if _, err := tunnel.Expose(ctx, other); !errors.Is(err, tunnel.ErrLimit) {
		wrong("its key's file: %v", err)
	}
	other.Key, other.Agent = "", "/nonexistent"
	if _, err := tunnel.Expose(ctx, other); !errors.Is(err, tunnel.ErrLimit) {
		wrong("the keys' files: %v", err)
	}
	feed()
	seen("all well", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.LastError == nil })
}

// starve lets this process open nothing any more, whatever it closes, until feed is called.
func starve(t *testing.T) (feed func()) {
	t.Helper()
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}))
	return func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) }
}
