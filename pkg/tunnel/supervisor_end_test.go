// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// A command may be taken in the instant in which the tunnel ends: what it gave up is closed all
// the same, or Close would wait for it for ever.
func TestReconnectDuringCloseLeavesNoLink(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			p := &proxy{}
			tun := startFake(t, p)
			wantState(t, tun, Up)
			first := p.link()
			var tasks sync.WaitGroup
			for range 4 {
				tasks.Go(func() { _ = tun.Reconnect() })
			}
			tasks.Go(func() { _ = tun.Close() })
			tasks.Wait()
			if !first.closed.Load() || !p.link().closed.Load() {
				t.Fatal("a link outlived Close")
			}
		})
	}
}

// …and so is a link that dies in that instant.
func TestLossDuringCloseLeavesNoLink(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			p := &proxy{}
			tun := startFake(t, p)
			wantState(t, tun, Up)
			var tasks sync.WaitGroup
			tasks.Go(func() { p.link().die(errDropped) })
			tasks.Go(func() { _ = tun.Close() })
			tasks.Wait()
			if !p.link().closed.Load() {
				t.Fatal("the link outlived Close")
			}
		})
	}
}

// A link that is lost in the last moment of the set-up is replaced once that was a success.
func TestLossAtTheEndOfTheSetUpIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		cfg := Config{Server: Servers{"me@proxy"}, Connections: 1}
		r, err := cfg.resolve()
		if err != nil {
			t.Fatal(err)
		}
		tun := newTunnel(r, p.connect)
		tun.sup.setupBy = time.Now().Add(time.Second)
		tun.run(false)
		defer tun.Close()
		wantState(t, tun, Up)
		time.Sleep(2 * time.Second) // the check of the URL takes all the time there is
		p.link().die(errDropped)
		wantState(t, tun, Reconnecting)
		time.Sleep(time.Second)
		tun.sup.tell(func() { tun.sup.setupBy = time.Time{} })
		time.Sleep(10 * time.Second)
		wantState(t, tun, Up)
	})
}

// What an attempt says that the end of the set-up cuts off is no news: the one before it knew why.
func TestTheErrorOfASetUpIsOfAnAttemptThatHadItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		connect := func(ctx context.Context, _ int) (link, error) {
			if attempts++; attempts == 1 {
				return nil, fault.Busy(8080)
			}
			<-ctx.Done()
			return nil, fault.Connect("proxy:22", ctx.Err())
		}
		cfg := Config{Server: Servers{"me@proxy"}, Connections: 1}
		r, err := cfg.resolve()
		if err != nil {
			t.Fatal(err)
		}
		tun := newTunnel(r, connect)
		defer tun.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		tun.sup.setupBy, _ = ctx.Deadline()
		tun.run(false)
		if err := tun.ready(ctx); !errors.Is(err, ErrForward) || attempts != 2 {
			t.Errorf("%d attempts, %v", attempts, err)
		}
	})
}

// The end of the set-up does not cut off the login of a further link, which may take longer than what was left.
func TestTheSecondLoginOutlastsTheSetUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, attempts := &proxy{}, 0
		connect := func(ctx context.Context, index int) (link, error) {
			if attempts++; attempts > 1 {
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return nil, fault.Connect("proxy:22", ctx.Err())
				}
			}
			return p.connect(ctx, index)
		}
		cfg := Config{Server: Servers{"me@proxy"}, Connections: 2}
		r, err := cfg.resolve()
		if err != nil {
			t.Fatal(err)
		}
		tun := newTunnel(r, connect)
		defer tun.Close()
		tun.sup.setupBy = time.Now().Add(20 * time.Second)
		tun.run(false)
		time.Sleep(2 * time.Minute)
		if s := tun.Status(); s.Links != 2 || attempts != 2 {
			t.Errorf("%d attempts for %d links", attempts, s.Links)
		}
	})
}

// A tunnel that fails while its URL is asked about does not wait for that answer.
func TestFailureEndsTheCheckOfTheURL(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg := Config{Server: Servers{"me@proxy"}, Connections: 1, URL: "http://" + silent.Addr().String() + "/"}
	r, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	tun := newTunnel(r, p.connect)
	defer tun.Close()
	go func() {
		if c, err := silent.Accept(); err == nil { // it is being asked
			defer c.Close()
			tun.sup.tell(func() { tun.sup.fail(fault.Forbidden(8080)) })
		}
	}()
	tun.run(false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := tun.ready(ctx); !errors.Is(err, ErrForward) || ctx.Err() != nil {
		t.Fatalf("got %v, %v", err, ctx.Err())
	}
}
