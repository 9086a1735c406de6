// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The tests named TestPromise hold the engine to what it promises, through sshd, nginx and a long or narrow way, and by the
// public interface alone. They have few rounds, unless faults is set (./build.sh test long).

// settleFor is how long it may take until all visitors are where they belong: 10 s are promised, and a busy machine is
// slow.
const settleFor = 15 * time.Second

// rounds is how often a test does what it does.
func rounds(few, many int) int {
	if faults {
		return many
	}
	return few
}

func public(cfg tunnel.Config) tunnel.Config {
	cfg.Access = tunnel.Access{Public: true}
	return cfg
}

// by has the tunnel take another way to its proxy.
func (c *chain) by(way *relay.Relay, cfg tunnel.Config) tunnel.Config {
	cfg.Server = tunnel.Servers{c.User + "@" + way.Addr()}
	return cfg
}

// who is an app that says its name, to websockets as well.
func who(t testing.TB, name string) string {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, name)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: who\r\nWho: "+name+"\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn) // until the visitor has gone: its slot is the busier one as long
		_ = conn.Close()
	})
}

// exposure is an app of a rendered proxy, as visitors find it.
type exposure struct {
	*rendered
	name, host, path string
	many             int // slots
}

// apps are a declared app and one with a free name.
func (r *rendered) apps() []exposure {
	return []exposure{{r, "sales", "127.0.0.1", "/sales/", 4}, r.free("mine")}
}

func (r *rendered) free(name string) exposure {
	return exposure{r, name, name + "--" + r.User + ".apps.invalid", "/", 2}
}

// expose has an app that says its name, and returns when both links and all slots are there.
func (e exposure) expose(t testing.TB, says string, change ...func(*tunnel.Config)) *tunnel.Tunnel {
	t.Helper()
	cfg := public(e.described(e.name, who(t, says)))
	for _, c := range change {
		c(&cfg)
	}
	tun := open(t, cfg)
	await(t, tun, "its links", func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 && s.Slots == e.many })
	return tun
}

// visitors are new ones, all at once, counted by who answers them. Each has a websocket, for which nginx takes a new connection to a slot.
func (e exposure) visitors(n int) map[string]int {
	var mu sync.Mutex
	var asking, leaving sync.WaitGroup
	got, leave := map[string]int{}, make(chan struct{})
	for range n {
		asking.Add(1)
		leaving.Go(func() {
			conn, said := e.upgrade()
			mu.Lock()
			got[said]++
			mu.Unlock()
			asking.Done()
			<-leave // all are there at the same time, so nginx spreads them
			if conn != nil {
				_ = conn.Close()
			}
		})
	}
	asking.Wait()
	close(leave)
	leaving.Wait()
	return got
}

func (e exposure) upgrade() (conn net.Conn, said string) {
	conn, err := net.Dial("tcp", at(e.http))
	if err != nil {
		return nil, err.Error()
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: who\r\n\r\n", e.path, e.host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return conn, "no answer"
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return conn, resp.Status
	}
	return conn, resp.Header.Get("Who")
}

// settles waits until every visitor is at the right one, and says how long that took.
func (e exposure) settles(t testing.TB, want string) {
	t.Helper()
	const crowd = 16
	begin := time.Now()
	for {
		got := e.visitors(crowd)
		took := time.Since(begin).Round(100 * time.Millisecond)
		if got[want] == crowd {
			t.Logf("%s: all at %q after %v", e.name, want, took)
			return
		}
		if took > settleFor {
			t.Errorf("%s: after %v visitors are at %s, not at %q", e.name, took, counted(got), want)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// counted is got in the order of its names.
func counted(got map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(got)) {
		all = append(all, fmt.Sprintf("%q: %d", name, got[name]))
	}
	return strings.Join(all, ", ")
}

// together does something with each, at the same time: what these tests take is waits.
func together[T any](all []T, do func(T)) {
	var tasks sync.WaitGroup
	for _, one := range all {
		tasks.Go(func() { do(one) })
	}
	tasks.Wait()
}

// brief is what a person would want to know of a tunnel.
func brief(tun *tunnel.Tunnel) string {
	s := tun.Status()
	text := fmt.Sprintf("%s, links %d, slots %d, reconnects %d", s.State, s.Links, s.Slots, s.Reconnects)
	if s.LastError != nil {
		text += ": " + s.LastError.Error()
	}
	return text
}
