// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
)

var (
	errRefused = fault.LoginRefused("me", "proxy:22", "", nil, errors.New("no"))
	errChanged = fault.HostKeyChanged("proxy:22", "ssh-ed25519", "SHA256:b", []string{"SHA256:a"})
	errDropped = fault.LinkLost(errors.New("reset by peer"))
)

// fakeLink is a link that lives until it is told to die.
type fakeLink struct {
	once   sync.Once
	done   chan struct{}
	err    error
	closed atomic.Bool
	mute   atomic.Bool // the other end has ended, which is not known yet
}

func newFakeLink() *fakeLink { return &fakeLink{done: make(chan struct{})} }

func (l *fakeLink) die(err error) { l.once.Do(func() { l.err = err; close(l.done) }) }

func (l *fakeLink) Dial(context.Context, string) (net.Conn, error) { return nil, errors.New("fake") }
func (l *fakeLink) Stats() (int, int64)                            { return 0, 100 }
func (l *fakeLink) Slots() (int, bool)                             { return 1, false }
func (l *fakeLink) Take(context.Context, int, bool) error          { return nil }
func (l *fakeLink) Give(int)                                       {}
func (l *fakeLink) Leave()                                         {}
func (l *fakeLink) Release()                                       {}
func (l *fakeLink) Show(context.Context)                           {}
func (l *fakeLink) Ask(ctx context.Context, question func(context.Context) probe.Finding) probe.Finding {
	return question(ctx)
}
func (l *fakeLink) Answers(context.Context) error {
	if l.mute.Load() {
		<-l.done
		return net.ErrClosed
	}
	return nil
}
func (l *fakeLink) Done() <-chan struct{} { return l.done }
func (l *fakeLink) Err() error            { return l.err }
func (l *fakeLink) Close() error          { l.die(nil); l.closed.Store(true); return nil }

// proxy stands for the server: each attempt is counted and gets the next outcome.
type proxy struct {
	mu       sync.Mutex
	attempts []time.Time
	next     func(n int) (*fakeLink, error) // nil: a link
	live     *fakeLink
}

func (p *proxy) connect(_ context.Context, _ int) (link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts = append(p.attempts, time.Now())
	if p.next != nil {
		if l, err := p.next(len(p.attempts)); err != nil {
			return nil, err
		} else if l != nil {
			p.live = l
			return l, nil
		}
	}
	p.live = newFakeLink()
	return p.live, nil
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.attempts)
}

// link returns the link that is or was up last.
func (p *proxy) link() *fakeLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

func startFake(t *testing.T, p *proxy) *Tunnel {
	t.Helper()
	cfg := Config{Server: Servers{"me@proxy"}, Connections: 1}
	r, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	tun := newTunnel(r, p.connect)
	tun.sup.retry = retry.New(&retry.Refusals{}) // not those of tests before it
	tun.run(false)
	synctest.Wait()
	return tun
}

func wantState(t *testing.T, tun *Tunnel, want State) {
	t.Helper()
	synctest.Wait()
	if s := tun.Status(); s.State != want {
		t.Fatalf("state %s (%v), want %s", s.State, s.LastError, want)
	}
}

func TestLostLinkIsReplacedWithinTheSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun := startFake(t, p)
		defer tun.Close()
		wantState(t, tun, Up)
		time.Sleep(time.Minute)
		p.link().die(errDropped)
		wantState(t, tun, Reconnecting)
		if s := tun.Status(); s.Links != 0 || s.Slots != 0 || s.LastError == nil || s.RetryAt.IsZero() {
			t.Errorf("while reconnecting: %+v", s)
		}
		time.Sleep(backoff.Herd)
		wantState(t, tun, Up)
		s := tun.Status()
		if s.Links != 1 || s.Slots != 1 || s.Reconnects != 1 || s.LastError != nil || !s.RetryAt.IsZero() || s.Bytes != 200 {
			t.Errorf("after: %+v", s)
		}
	})
}

func TestTransientErrorsAreRetriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{next: func(n int) (*fakeLink, error) {
			if n > 1 && n < 500 {
				return nil, fault.Connect("proxy:22", errors.New("connection refused"))
			}
			return nil, nil
		}}
		tun := startFake(t, p)
		defer tun.Close()
		time.Sleep(time.Minute)
		start := time.Now()
		p.link().die(errDropped)
		for p.count() < 200 {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < 200*time.Second || took > backoff.Eager+200*time.Second {
			t.Errorf("200 attempts took %v, want one every second or two", took)
		}
		for p.count() < 500 {
			time.Sleep(time.Minute)
		}
		wantState(t, tun, Up)
		if took := time.Since(start); took < 200*backoff.Cap/2 || took > 500*backoff.Cap {
			t.Errorf("500 attempts took %v", took)
		}
	})
}

func TestPermanentErrorsStopAndReconnectRevives(t *testing.T) {
	for name, err := range map[string]*Error{
		"host key": fault.HostKeyChanged("proxy:22", "ssh-ed25519", "SHA256:b", []string{"SHA256:a"}),
		"settings": fault.DescriptionChanged("proxy:22"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &proxy{next: func(n int) (*fakeLink, error) {
					if n == 2 {
						return nil, err
					}
					return nil, nil
				}}
				tun := startFake(t, p)
				defer tun.Close()
				time.Sleep(time.Minute)
				p.link().die(errDropped)
				time.Sleep(24 * time.Hour)
				wantState(t, tun, Failed)
				if n := p.count(); n != 2 {
					t.Errorf("%d attempts, want 2", n)
				}
				if s := tun.Status(); !errors.Is(s.LastError, err.Class) {
					t.Errorf("last error %v", s.LastError)
				}
				if err := tun.Reconnect(); err != nil {
					t.Fatal(err)
				}
				wantState(t, tun, Up)
			})
		})
	}
}

// A stale link may hold the port of an account that may forward no other: that passes.
func TestForbiddenAfterItWasGrantedIsTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{next: func(n int) (*fakeLink, error) {
			if n == 2 || n == 3 {
				return nil, fault.Forbidden(8080)
			}
			return nil, nil
		}}
		tun := startFake(t, p)
		defer tun.Close()
		time.Sleep(time.Minute)
		p.link().die(errDropped)
		time.Sleep(10 * time.Second)
		wantState(t, tun, Up)
	})
}

func TestReconnectIsImmediateAndLeavesNoOldLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun := startFake(t, p)
		defer tun.Close()
		for range 100 {
			old := p.link()
			if err := tun.Reconnect(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			wantState(t, tun, Up)
			if !old.closed.Load() || p.link() == old {
				t.Fatal("the old link is still there")
			}
		}
		if s := tun.Status(); s.Reconnects != 100 {
			t.Errorf("%d reconnects, want 100", s.Reconnects)
		}
	})
}

func TestWatchFoldsChangesAndEndsWithTheTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun := startFake(t, p)
		var seen []State
		var tasks sync.WaitGroup
		tasks.Go(func() {
			for s := range tun.Watch(context.Background()) {
				seen = append(seen, s.State)
				time.Sleep(time.Second) // slower than what happens
			}
		})
		for range 5 {
			_ = tun.Reconnect()
			synctest.Wait()
		}
		_ = tun.Close()
		tasks.Wait()
		if len(seen) > 4 || seen[len(seen)-1] != StateClosed {
			t.Errorf("saw %v, want few, the last closed", seen)
		}
	})
}

func TestAfterCloseEverythingSaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun := startFake(t, p)
		_ = tun.Close()
		_ = tun.Close()
		if _, err := tun.Accept(); !errors.Is(err, ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if err := tun.SetTarget("127.0.0.1:1"); !errors.Is(err, ErrClosed) {
			t.Errorf("SetTarget: %v", err)
		}
		if err := tun.Reconnect(); !errors.Is(err, ErrClosed) {
			t.Errorf("Reconnect: %v", err)
		}
		if s := tun.Status(); s.State != StateClosed || s.Links != 0 {
			t.Errorf("status %+v", s)
		}
		if !p.link().closed.Load() {
			t.Error("the link was left open")
		}
	})
}

// A day with a loss every ten minutes, some at once after the last, costs no more than that.
func TestADayOfLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun := startFake(t, p)
		defer tun.Close()
		for range 144 {
			time.Sleep(10 * time.Minute)
			p.link().die(errDropped)
			time.Sleep(backoff.Herd)
			synctest.Wait()
			p.link().die(errDropped)
		}
		time.Sleep(time.Minute)
		wantState(t, tun, Up)
		if s := tun.Status(); s.Reconnects != 288 {
			t.Errorf("%d reconnects, want 288", s.Reconnects)
		}
	})
}
