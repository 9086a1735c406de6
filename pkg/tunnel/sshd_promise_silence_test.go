// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const (
	toldWithin   = 8 * time.Second // who waits when all links go silent has an answer then, or is told that there is none
	servedWithin = 3 * time.Second // who comes then is served
)

// promised is a time that is promised. The ordinary suite runs beside others, on any machine, and has ten times as long, yet no more
// than half of what it takes where nothing is done: sshd notices after 67 s.
func promised(d time.Duration) time.Duration {
	if faults {
		return d
	}
	return min(10*d, 30*time.Second)
}

// silenced is a proxy of either kind, with an app, a tunnel, and a way there that goes silent.
type silenced struct {
	*chain
	kind  string
	app   *counting
	way   *relay.Relay
	tun   *tunnel.Tunnel
	ready func(tunnel.Status) bool
}

// silencedOf are proxies of these kinds, all of them started before anything else: each looks at its end whether something was left.
// change may change the configuration of a tunnel, and say that it opens one by itself.
func silencedOf(t testing.TB, change func(*silenced, *tunnel.Config) bool, kinds ...string) (all []*silenced) {
	var cfgs []tunnel.Config
	for _, kind := range kinds {
		s, cfg := &silenced{kind: kind, app: &counting{}, ready: whole}, tunnel.Config{}
		s.app.fresh()
		if kind == "prepared" {
			r := newRendered(t)
			r.proxy.EndStale()
			s.chain, cfg = &r.chain, r.described("sales", serve(t, s.app.ServeHTTP))
		} else {
			s.chain, cfg = machine(t, kind, s.app.ServeHTTP)
			s.ready = func(s tunnel.Status) bool { return s.State == tunnel.Up && s.Links == 2 }
		}
		all, cfgs = append(all, s), append(cfgs, public(cfg))
	}
	for i, s := range all {
		s.way = relay.Start(t, s.Addr())
		cfg := s.by(s.way, cfgs[i])
		if change != nil && !change(s, &cfg) {
			continue
		}
		s.tun = open(t, cfg)
	}
	return all
}

// All links go silent with requests under way, for a while or for ever: each runs once, those who wait are told in time, and new visitors are served.
func TestPromiseSilence(t *testing.T) {
	lasts := map[string]time.Duration{"8 s": 8 * time.Second}
	if faults {
		lasts["30 s"], lasts["for ever"] = 30*time.Second, 0
	}
	for name, last := range lasts {
		t.Run(name, func(t *testing.T) {
			all := silencedOf(t, nil, "prepared", "plain")
			for round := range rounds(1, 10) {
				together(all, func(s *silenced) { s.round(t, fmt.Sprintf("%s.%d", s.kind, round), last, round == 0) })
			}
		})
	}
}

func (s *silenced) round(t *testing.T, round string, last time.Duration, first bool) {
	await(t, s.tun, "its links", s.ready)
	if !first {
		time.Sleep(backoff.Stable) // links that are lost younger are not replaced at once
	}
	s.app.fresh()
	var visitors sync.WaitGroup
	var mu sync.Mutex
	got, longest, silent := map[string]int{}, time.Duration(0), time.Time{}
	s.app.begun.Add(40)
	for n := range 40 {
		method := []string{http.MethodGet, http.MethodPost}[n%2]
		visitors.Go(func() {
			id := fmt.Sprintf("%s.%s.%d", round, method, n)
			status, said, err := s.visit(method, "second?"+id, time.Minute)
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(method, " ", status)]++
			longest = max(longest, time.Since(silent))
			if err != nil || !honest(s.kind, method, status, said, id) {
				t.Errorf("%s: %d %.200q, %v", id, status, said, err)
			}
		})
	}
	s.app.begun.Wait()
	s.way.Hole()
	mu.Lock()
	silent = time.Now()
	mu.Unlock()
	close(s.app.muted)
	for n := range 30 {
		visitors.Go(func() {
			time.Sleep(servedWithin + time.Duration(n)*100*time.Millisecond)
			begin := time.Now()
			status, _, err := s.visit(http.MethodGet, "", time.Minute)
			for status != http.StatusOK && time.Since(silent) < promised(servedWithin) {
				begin = time.Now()
				status, _, err = s.visit(http.MethodGet, "", time.Minute)
			}
			if status != http.StatusOK || time.Since(begin) > promised(time.Second) {
				t.Errorf("%s: a visitor of %v after the silence: %d, %v, after %v", round, begin.Sub(silent), status, err, time.Since(begin))
			}
		})
	}
	visitors.Wait()
	if last > 0 {
		time.Sleep(last - time.Since(silent))
		s.way.Resume()
		time.Sleep(2 * time.Second) // what was sent again would be begun again by then
	}
	if longest > promised(toldWithin) {
		t.Errorf("%s: the last one waited %v", round, longest)
	}
	t.Logf("%s: %s; the longest waited %.1f s", round, counted(got), longest.Seconds())
	s.once(t, round, 40)
}

// once sees to it that the app ran so many requests (0: any number), and each once.
func (s *silenced) once(t *testing.T, round string, want int) {
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	if len(s.app.ran) != want && want > 0 {
		t.Errorf("%s: %d ran, not %d", round, len(s.app.ran), want)
	}
	for id, n := range s.app.ran {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
}

func (s *silenced) visit(method, path string, patience time.Duration) (status int, said string, err error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	return askAs(client, method, s.url+path, "", map[string]int{http.MethodPost: 10}[method])
}

// honest is an answer of the app's, or one that says what is true: of what may have run, that it may have.
func honest(kind, method string, status int, said, id string) bool {
	switch {
	case status == http.StatusOK:
		return said == "done "+id
	case kind == "plain":
		return status == http.StatusBadGateway
	case method == http.MethodPost:
		return status == http.StatusBadGateway && strings.Contains(said, "may have been done")
	default:
		return status == http.StatusServiceUnavailable
	}
}

// seen is what a visitor saw, and when it came.
type seen struct {
	id     string
	begin  time.Time
	took   time.Duration
	works  time.Duration // of it, how long the app takes
	status int
}

// visitors come while something is done, so many a second, each over a new connection and every other one with a POST. One in
// twenty takes the app a second, so that some are under way at any time.
func (s *silenced) visitors(rate int, do func()) (all []seen) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}
	var tasks, coming sync.WaitGroup
	var mu sync.Mutex
	stop, first := make(chan struct{}), time.Now()
	coming.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(first.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
			}
			tasks.Go(func() {
				method := []string{http.MethodGet, http.MethodPost}[n%2]
				v, path := seen{id: fmt.Sprintf("%s.%d", method, n), begin: time.Now()}, "quick?"
				if n/2%20 == 0 {
					v.works, path = time.Second, "later?"
				}
				v.status, _, _ = askAs(client, method, s.url+path+v.id, "", n%2*10)
				v.took = time.Since(v.begin)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, v)
			})
		}
	})
	do()
	close(stop)
	coming.Wait()
	tasks.Wait()
	return all
}

// One of two links goes silent under load: nobody is told anything else, those who were on it wait for 4 s at most, and those who come
// when the other one has taken over do not wait.
func TestPromiseOneSilent(t *testing.T) {
	const takenOver = 2500 * time.Millisecond
	patience, usual := promised(4*time.Second), promised(300*time.Millisecond)
	s := silencedOf(t, nil, "prepared")[0]
	time.Sleep(begun.Alone + 3*time.Second) // until it knows that no other tunnel begins what nginx sends again
	for round := range rounds(1, 10) {
		await(t, s.tun, "its links", s.ready)
		s.app.fresh()
		var silent time.Time
		stale, gone := s.Links(), time.Duration(0)
		all := s.visitors(rounds(50, 200), func() {
			time.Sleep(time.Second)
			s.way.HoleOne()
			silent = time.Now()
			for gone == 0 && time.Since(silent) < 8*time.Second {
				if now := s.Links(); slices.ContainsFunc(stale, func(pid int) bool { return !slices.Contains(now, pid) }) {
					gone = time.Since(silent)
				}
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Duration(rounds(8, 30))*time.Second - time.Since(silent))
			s.way.Resume()
			time.Sleep(500 * time.Millisecond)
		})
		longest, waited := seen{}, 0
		var later []time.Duration
		for _, v := range all {
			if v.status != http.StatusOK {
				t.Errorf("%s, %v after the silence: %d after %v", v.id, v.begin.Sub(silent), v.status, v.took)
			}
			if v.took > longest.took {
				longest = v
			}
			if v.took-v.works > usual {
				waited++
			}
			if v.begin.Sub(silent) >= takenOver {
				later = append(later, v.took-v.works)
			}
		}
		slices.Sort(later)
		p99 := later[len(later)*99/100]
		t.Logf("%d of %d waited, the longest %.2f s, begun %.2f s after the silence; sshd's end was gone after %.2f s; p99 of those who came later: %v",
			waited, len(all), longest.took.Seconds(), longest.begin.Sub(silent).Seconds(), gone.Seconds(), p99.Round(time.Millisecond))
		if longest.took > patience || p99 > usual {
			t.Errorf("round %d: the longest waited %v, p99 of those who came later is %v", round, longest.took, p99)
		}
		s.once(t, fmt.Sprint("round ", round), len(all))
	}
}
