// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// client keeps one link to a server, as a tunnel does.
type client struct {
	cfg   sshlink.Config
	retry *retry.Policy
	link  *sshlink.Link
	tries *atomic.Int32   // that failed, of all clients
	full  []time.Duration // waits for want of room
}

// dial makes the link, and returns when it is there.
func (c *client) dial(ctx context.Context, wait time.Duration) (err error) {
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		if c.link, err = sshlink.Dial(ctx, c.cfg); err == nil {
			c.retry.Up()
			return nil
		}
		c.tries.Add(1)
		permanent := false
		if wait, permanent = c.retry.Failed(0, err, 0); permanent {
			return err
		}
		if errors.Is(err, fault.ErrOverload) || errors.Is(err, fault.ErrPatience) {
			c.full = append(c.full, wait)
		}
	}
}

// Forty clients lose their links in one instant, and sshd comes back with MaxStartups 5, four of which are taken by connections that say
// nothing: a login is over in 20 ms, so that otherwise five are hardly ever under way.
func TestHerdAtARealServer(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxStartups 10"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	known, err := hostkeys.New(s.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int32
	clients := make([]*client, 40)
	each := func(f func(c *client) error) {
		t.Helper()
		var tasks sync.WaitGroup
		for _, c := range clients {
			tasks.Go(func() {
				if err := f(c); err != nil {
					t.Error(err)
				}
			})
		}
		tasks.Wait()
	}
	for i := range clients {
		keys, err := sshauth.LoadKeys(s.KeyFile, "")
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = &client{cfg: sshlink.Config{Host: s.Host, Port: s.Port, User: s.User, Keys: keys, HostKeys: known},
			retry: retry.New(&retry.Refusals{}), tries: &tries}
	}
	defer each(func(c *client) error {
		if c.link == nil {
			return nil
		}
		return c.link.Close()
	})
	each(func(c *client) error { return c.dial(ctx, 0) })
	if t.Failed() {
		return
	}
	tries.Store(0)
	for _, c := range clients {
		c.full = nil
	}
	var mu sync.Mutex
	var away []time.Duration
	start := time.Now()
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		s.Reconfigure("MaxStartups 10", "MaxStartups 5")
		for range 4 {
			idle, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = idle.Close() })
		}
	}()
	each(func(c *client) error {
		<-c.link.Done()
		_ = c.link.Close()
		err := c.dial(ctx, c.retry.Lost(0, time.Hour, 0))
		mu.Lock()
		defer mu.Unlock()
		away = append(away, time.Since(start))
		return err
	})
	<-restarted
	slices.Sort(away)
	p50, p95 := away[len(away)/2], away[len(away)*95/100]
	var full []time.Duration
	for _, c := range clients {
		full = append(full, c.full...)
	}
	t.Logf("p50 %v, p95 %v, last %v, %d attempts failed, %d of them for want of room", p50, p95, away[len(away)-1], tries.Load(), len(full))
	if len(full) == 0 || slices.Max(full) > 5*time.Second {
		t.Errorf("waits for want of room: %v", full)
	}
	if p95 > 24*time.Second { // ten times what it takes
		t.Errorf("p95 %v", p95)
	}
}
