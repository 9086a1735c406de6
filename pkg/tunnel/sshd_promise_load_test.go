// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const perSecond = 100 // quick requests

// load is an app that is asked 100 times a second, and has some slow requests under way all the time.
type load struct {
	url          string
	slow         int
	asked        atomic.Int64
	begun        sync.WaitGroup // slow requests that the app has
	finish       chan struct{}  // closed: they end
	runs, broken atomic.Int64   // of slow requests: begun, and left by their connection
	mu           sync.Mutex
	failed       map[string]int
}

func (l *load) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/slow") {
		if l.runs.Add(1) <= int64(l.slow) {
			l.begun.Done()
		}
		select {
		case <-l.finish:
		case <-r.Context().Done():
			l.broken.Add(1)
		}
	}
	_, _ = io.WriteString(w, "x")
}

// ask returns when the answer is whole, and what is wrong with it.
func (l *load) ask(client *http.Client, method, path string) string {
	status, _, err := askAs(client, method, l.url+path, "", 0)
	if err != nil {
		return "cut"
	}
	if status != http.StatusOK {
		return fmt.Sprint(status)
	}
	return ""
}

// during loads while something is done, and then sees to it that at most so many quick requests have failed, and no slow one.
func (l *load) during(t testing.TB, most int, do func()) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	l.failed, l.finish = map[string]int{}, make(chan struct{})
	var tasks, ticks sync.WaitGroup
	for range l.slow {
		l.begun.Add(1)
		tasks.Go(func() {
			if wrong := l.ask(client, http.MethodPost, "slow"); wrong != "" {
				t.Errorf("a slow request: %s", wrong)
			}
		})
	}
	l.begun.Wait()
	stop := make(chan struct{})
	ticks.Go(func() {
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			l.asked.Add(1)
			tasks.Go(func() {
				if wrong := l.ask(client, http.MethodGet, ""); wrong != "" {
					l.mu.Lock()
					l.failed[wrong]++
					l.mu.Unlock()
				}
			})
		}
	})
	do()
	time.Sleep(500 * time.Millisecond) // what is answered last
	close(stop)
	ticks.Wait()
	close(l.finish)
	tasks.Wait()
	if l.broken.Load() > 0 || l.runs.Load() != int64(l.slow) {
		t.Errorf("%d slow requests ran %d times, and lost their visitor %d times", l.slow, l.runs.Load(), l.broken.Load())
	}
	n, say := 0, t.Logf
	for _, one := range l.failed {
		n += one
	}
	if n > most {
		say = t.Errorf
	}
	say("%d of %d requests failed (%s), at most %d may", n, l.asked.Load(), counted(l.failed), most)
}

// change is what an owner does to a tunnel that serves. It returns when the tunnel that then serves has its new links.
type change func(t testing.TB, c *chain, tun *tunnel.Tunnel, cfg tunnel.Config) *tunnel.Tunnel

var changes = map[string]change{
	"reconnect": reconnect,
	"renewed key": func(t testing.TB, c *chain, tun *tunnel.Tunnel, cfg tunnel.Config) *tunnel.Tunnel {
		c.renewKey(t, cfg.Key)
		return reconnect(t, c, tun, cfg)
	},
	"reopen": func(t testing.TB, _ *chain, tun *tunnel.Tunnel, cfg tunnel.Config) *tunnel.Tunnel {
		cfg.Agent = "none" // differs, and means the same
		next, err := tun.Reopen(within(t, 20*time.Second), cfg)
		must(t, err)
		t.Cleanup(func() { _ = next.Close() })
		return next
	},
	"second kernel": func(t testing.TB, _ *chain, tun *tunnel.Tunnel, cfg tunnel.Config) *tunnel.Tunnel {
		next := open(t, cfg)
		await(t, tun, "replaced", inState(tunnel.Replaced)) // what is under way there goes on
		return next
	},
}

func reconnect(t testing.TB, _ *chain, tun *tunnel.Tunnel, _ tunnel.Config) *tunnel.Tunnel {
	before := tun.Status()
	must(t, tun.Reconnect())
	await(t, tun, "new links", func(s tunnel.Status) bool { return s.Reconnects >= before.Reconnects+before.Links })
	return tun
}

// renewKey puts another key, which may log in as well, in the place of that in a file.
func (c *chain) renewKey(t testing.TB, file string) {
	t.Helper()
	fresh := c.NewKeyFile("ed25519")
	line, err := os.ReadFile(fresh + ".pub")
	must(t, err)
	list, err := os.OpenFile(c.keysFile(t), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = list.Write(line)
	must(t, errors.Join(err, list.Close()))
	must(t, os.Rename(fresh, file))
}

// keysFile is the list of the keys that may log in.
func (c *chain) keysFile(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(`found at (\S+):\d+`).FindStringSubmatch(c.Log())
	if found == nil {
		t.Fatal("sshd has accepted no key yet")
	}
	return found[1]
}

// Whatever an owner does to a tunnel, visitors of a prepared proxy notice nothing, and what is under way ends as it would have. On a plain proxy
// those fail who come while its port passes on, which takes a round trip.
func TestPromiseUnderLoad(t *testing.T) {
	for _, kind := range []string{"prepared", "plain"} {
		for _, name := range slices.Sorted(maps.Keys(changes)) {
			t.Run(kind+"/"+name, func(t *testing.T) {
				if name == "renewed key" && !faults {
					t.Skip("./build.sh test long; it is as reconnect")
				}
				ways := []time.Duration{100 * time.Millisecond}
				if faults {
					ways = append(ways, 0)
				}
				for range rounds(1, 3) {
					for _, rtt := range ways {
						t.Run(rtt.String(), func(t *testing.T) { underLoad(t, kind, rtt, changes[name]) }) // each leaves nothing behind
					}
				}
			})
		}
	}
}

func underLoad(t *testing.T, kind string, rtt time.Duration, do change) {
	l := &load{slow: 4}
	c, cfg := machine(t, kind, l.ServeHTTP)
	l.url = c.url
	way := relay.Start(t, c.Addr())
	cfg = c.by(way, public(cfg))
	ready, most := whole, 0
	if kind == "plain" {
		// Those of one round trip, 10; on a machine with a load of 20 up to 49 were seen. A login is more than ten.
		ready = func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 }
		most = 6 + int(time.Duration(rounds(6, 3))*perSecond*rtt/time.Second)
	}
	tun := open(t, cfg)
	await(t, tun, "its links", ready)
	time.Sleep(500 * time.Millisecond) // no slot is about to change hands
	way.Delay(rtt / 2)
	l.during(t, most, func() { await(t, do(t, c, tun, cfg), "the new links", ready) })
}
