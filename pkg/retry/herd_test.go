// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// herdSSHD is an sshd of two cores: a login takes 120 ms of round trips and 40 ms of a core, and holds one of the
// places that MaxStartups gives until then.
type herdSSHD struct {
	mu      sync.Mutex
	back    time.Time // when it listens again
	most    int       // MaxStartups
	under   int       // logins under way
	says    func() error
	dropped int
	cores   chan struct{}
}

func (s *herdSSHD) login() error {
	s.mu.Lock()
	switch {
	case time.Now().Before(s.back):
		s.mu.Unlock()
		return errConnect
	case s.under == s.most:
		s.dropped++
		s.mu.Unlock()
		return s.says()
	}
	s.under++
	s.mu.Unlock()
	time.Sleep(120 * time.Millisecond)
	s.cores <- struct{}{}
	time.Sleep(40 * time.Millisecond)
	<-s.cores
	s.mu.Lock()
	s.under--
	s.mu.Unlock()
	return nil
}

// herd has clients lose their links in one instant and returns, in order, how long each was away.
func (s *herdSSHD) herd(clients int) (away []time.Duration) {
	s.cores = make(chan struct{}, 2)
	s.back = time.Now().Add(200 * time.Millisecond)
	start := time.Now()
	var mu sync.Mutex
	var tasks sync.WaitGroup
	for range clients {
		tasks.Go(func() {
			r := New(&Refusals{})
			r.Up()
			for wait := r.Lost(0, time.Hour, 0); ; {
				time.Sleep(wait)
				err := s.login()
				if err == nil {
					break
				}
				wait, _ = r.Failed(0, err, 0)
			}
			mu.Lock()
			defer mu.Unlock()
			away = append(away, time.Since(start))
		})
	}
	tasks.Wait()
	slices.Sort(away)
	return away
}

// A restarted sshd with MaxStartups 10 has its clients back soon, whichever way it says that it is full, and
// at the price of a few dropped connections each: an overload of 40 clients is over in seconds,
// one of 500 about when the machine has done the work.
func TestHerdAtARestartedServer(t *testing.T) {
	for name, says := range map[string]func() error{
		"a line, before 9.8": func() error { return errFull },
		"a line, since 9.8":  func() error { return errPatience },
		"nothing":            func() error { return fault.Overload(fault.DroppedAtOnce("proxy:22", errDropped)) },
	} {
		for _, c := range []struct {
			clients     int
			p95, last   time.Duration
			droppedEach int
		}{
			{40, 6 * time.Second, 15 * time.Second, 3},
			{500, 30 * time.Second, 45 * time.Second, 12},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &herdSSHD{most: 10, says: says}
					away := s.herd(c.clients)
					p50, p95, last := away[len(away)/2], away[len(away)*95/100], away[len(away)-1]
					t.Logf("%d clients: p50 %v, p95 %v, last %v, %d dropped", c.clients, p50.Round(10*time.Millisecond),
						p95.Round(10*time.Millisecond), last.Round(10*time.Millisecond), s.dropped)
					if p95 > c.p95 || last > c.last || s.dropped > c.clients*c.droppedEach {
						t.Errorf("want p95 %v, last %v, %d dropped for each", c.p95, c.last, c.droppedEach)
					}
				})
			})
		}
	}
}
