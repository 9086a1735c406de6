// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The proxy, or the notebook, stands still for a minute and goes on. There is one recovery: each link is made again once at most, and
// who comes after it is served. Who has waited for the notebook is, too; for the proxy, may be told that the app is away (docs/known-faults.md).
func TestPromiseFrozen(t *testing.T) {
	if !faults {
		t.Skip("./build.sh test long")
	}
	t.Run("proxy", func(t *testing.T) {
		together(silencedOf(t, nil, "prepared", "plain"), func(s *silenced) {
			await(t, s.tun, "its links", s.ready)
			s.frozen(t, func() {
				must(t, syscall.Kill(s.Listener(), syscall.SIGSTOP))
				s.StopLinks()
				s.nginx.Freeze()
			}, func() {
				s.nginx.Thaw()
				s.ContinueLinks()
				must(t, syscall.Kill(s.Listener(), syscall.SIGCONT))
			})
			await(t, s.tun, "its links", s.ready)
		})
	})
	for _, kind := range []string{"prepared", "plain"} {
		t.Run("notebook, "+kind, func(t *testing.T) {
			s, n, _ := inNotebook(t, kind)
			told := s.frozen(t, func() { must(t, syscall.Kill(n.pid, syscall.SIGSTOP)) }, func() { must(t, syscall.Kill(n.pid, syscall.SIGCONT)) })
			for what, n := range told {
				if !strings.HasSuffix(what, " 200") {
					t.Errorf("%s: %d", what, n)
				}
			}
		})
	}
}

// inNotebook has the tunnel in a process of its own. cfg is for another one in its place.
func inNotebook(t *testing.T, kind string) (s *silenced, n *notebook, cfg tunnel.Config) {
	s = silencedOf(t, func(_ *silenced, c *tunnel.Config) bool {
		n, cfg = newNotebook(t, *c), *c
		return false
	}, kind)[0]
	for deadline := time.Now().Add(settleFor); n.status().State != string(tunnel.Up) || len(s.Links()) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %d links", n.status(), len(s.Links()))
		}
	}
	return s, n, cfg
}

func (s *silenced) frozen(t *testing.T, freeze, thaw func()) (told map[string]int) {
	var begin, end time.Time
	logins := func() int { return strings.Count(s.Log(), "Accepted publickey") }
	before := 0
	all := s.visitors(5, func() {
		time.Sleep(time.Second)
		before, begin = logins(), time.Now()
		freeze()
		time.Sleep(time.Minute)
		end = time.Now()
		thaw()
		time.Sleep(10 * time.Second)
	})
	told = map[string]int{}
	back := time.Duration(0)
	for _, v := range all {
		when := "came before"
		if ended := v.begin.Add(v.took); v.begin.After(end) {
			when = "came after"
		} else if ended.After(end) {
			when = "waited"
		} else if ended.After(begin) {
			when = "answered meanwhile"
		}
		told[fmt.Sprint(when, " ", v.status)]++
		if v.status != http.StatusOK || v.took > v.works+time.Second {
			back = max(back, v.begin.Sub(end))
		}
	}
	n := logins() - before
	t.Logf("%s: %d logins; back %.2f s after the end; %s", s.kind, n, back.Seconds(), counted(told))
	if n > 2 || back > backAfter {
		t.Errorf("%s: %d logins; a visitor of %v after the end was not served", s.kind, n, back)
	}
	s.once(t, s.kind, 0)
	return told
}

// A kernel is stopped with POSTs begun, another one exposes the name, and the first goes on: while sshd still takes its links for
// alive, or when it has ended them. Neither begins what the other one has.
func TestPromiseAStoppedKernel(t *testing.T) {
	stopped := map[string]time.Duration{"3 s": 3 * time.Second}
	if faults {
		stopped["75 s"] = 75 * time.Second // sshd 9.2 ends a link that says nothing after 62 s
	}
	for name, last := range stopped {
		for _, kind := range []string{"prepared", "plain"} {
			t.Run(kind+", "+name, func(t *testing.T) {
				for round := range rounds(1, 2) {
					if !t.Run(fmt.Sprint("round ", round), func(t *testing.T) { goesOn(t, kind, last) }) {
						break
					}
				}
			})
		}
	}
}

func goesOn(t *testing.T, kind string, last time.Duration) {
	s, first, cfg := inNotebook(t, kind)
	s.app.begun.Add(20)
	var visitors sync.WaitGroup
	var mu sync.Mutex
	told := map[string]int{}
	for n := range 20 {
		visitors.Go(func() {
			id := fmt.Sprint("post.", n)
			status, said, err := s.visit(http.MethodPost, "second?"+id, 2*time.Minute)
			if err != nil || !honest(kind, http.MethodPost, status, said, id) {
				t.Errorf("%s: %d %.200q, %v", id, status, said, err)
			}
			mu.Lock()
			defer mu.Unlock()
			told[fmt.Sprint(status)]++
		})
	}
	s.app.begun.Wait()
	must(t, syscall.Kill(first.pid, syscall.SIGSTOP))
	stood := time.Now()
	second := open(t, cfg)
	close(s.app.muted)
	await(t, second, "its links", s.ready)
	for n := range 20 {
		if status, said, err := s.visit(http.MethodPost, fmt.Sprint("quick?new.", n), time.Minute); status != http.StatusOK {
			t.Errorf("asked of the second: %d %.200q, %v", status, said, err)
		}
	}
	time.Sleep(last - time.Since(stood))
	must(t, syscall.Kill(first.pid, syscall.SIGCONT))
	visitors.Wait()
	for begin := time.Now(); first.status().State != string(tunnel.Replaced); time.Sleep(100 * time.Millisecond) {
		if time.Since(begin) > settleFor {
			t.Fatalf("the first one says %+v", first.status())
		}
	}
	t.Logf("%s, after %v: the POSTs of the first: %s", kind, last, counted(told))
	s.once(t, kind, 40)
}
