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

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
)

// busyLink is a link with two slots, or a port, and a visitor who stays.
type busyLink struct {
	*fakeLink
	port bool
	take func(slot int) error // nil: is granted

	mu  sync.Mutex
	has [2]bool
}

func (l *busyLink) Stats() (int, int64) { return 1, 0 }

func (l *busyLink) Slots() (int, bool) {
	if l.port {
		return 1, true
	}
	return 2, false
}

func (l *busyLink) Take(_ context.Context, slot int, _ bool) error {
	if l.take != nil {
		if err := l.take(slot); err != nil {
			return err
		}
	}
	l.set(slot, true)
	return nil
}

func (l *busyLink) Give(slot int) { l.set(slot, false) }

func (l *busyLink) set(slot int, has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.has[slot] = has
}

func (l *busyLink) listens() [2]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.has
}

// startBusy starts a tunnel of so many links, the n-th of which is made by connect.
func startBusy(t *testing.T, links int, connect func(ctx context.Context, n int) (link, error)) *Tunnel {
	t.Helper()
	cfg := Config{Server: Servers{"me@proxy"}, Connections: links}
	srv, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	made := 0
	tun := newTunnel(srv, func(ctx context.Context, _ int) (link, error) {
		mu.Lock()
		n := made
		made++
		mu.Unlock()
		return connect(ctx, n)
	})
	tun.sup.retry = retry.New(&retry.Refusals{})
	tun.run(false)
	synctest.Wait()
	return tun
}

// A take that ends after the tunnel was replaced is given back.
func TestATakeThatEndsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := &busyLink{fakeLink: newFakeLink(), take: func(slot int) error {
			if slot == 1 {
				<-release
			}
			return nil
		}}
		tun := startBusy(t, 1, func(context.Context, int) (link, error) { return l, nil })
		defer tun.Close()
		tun.sup.tell(func() {
			tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { return []slots.Sight{slots.Newer, slots.Newer} }
		})
		time.Sleep(5 * time.Second)
		wantState(t, tun, Replaced)
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		if has := l.listens(); has != [2]bool{} {
			t.Errorf("the link of a tunnel that was replaced listens: %v", has)
		}
	})
}

// A port whose marks say that a newer tunnel has it is not asked for again, although a visitor keeps the link up.
func TestAPortThatANewerTunnelHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		l := &busyLink{fakeLink: newFakeLink(), port: true, take: func(int) error {
			if asked++; asked == 1 {
				return fault.Replaced(&net.TCPAddr{}, time.Time{})
			}
			return nil // the newer one has been closed
		}}
		tun := startBusy(t, 1, func(context.Context, int) (link, error) { return l, nil })
		defer tun.Close()
		time.Sleep(10 * time.Second)
		wantState(t, tun, Replaced)
		if has := l.listens(); has != [2]bool{} || asked != 1 {
			t.Errorf("it was asked for %d times, and the link listens: %v", asked, has)
		}
	})
}

// What there is to do for one slot is done although another one was refused.
func TestARefusalKeepsNothingElseBack(t *testing.T) {
	for range 10 { // the run loop hears of both at once, in any order
		synctest.Test(t, func(t *testing.T) {
			links := []*busyLink{{fakeLink: newFakeLink()}, {fakeLink: newFakeLink()}, {fakeLink: newFakeLink()}, {fakeLink: newFakeLink()}}
			links[2].take = func(int) error {
				time.Sleep(slots.HandOver / 2)
				return errors.New("no")
			}
			tun := startBusy(t, 2, func(ctx context.Context, n int) (link, error) {
				if n < len(links) {
					return links[n], nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			defer tun.Close()
			if err := tun.Reconnect(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			tun.sup.tell(func() { time.Sleep(2 * slots.HandOver) }) // until the link before is due to give its slot back
			time.Sleep(3 * time.Second)
			synctest.Wait()
			for i, want := range [][2]bool{3: {true, true}} {
				if has := links[i].listens(); has != want {
					t.Errorf("link %d listens: %v, want %v", i, has, want)
				}
			}
		})
	}
}

// A tunnel of which sshd refuses a slot is degraded also while all its links are up.
func TestASlotThatIsRefusedIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := startBusy(t, 1, func(context.Context, int) (link, error) {
			return &busyLink{fakeLink: newFakeLink(), take: func(slot int) error {
				if slot == 0 {
					return nil
				}
				time.Sleep(time.Second)
				return errors.New("no")
			}}, nil
		})
		defer tun.Close()
		for seen := 0; seen < 5; seen++ {
			time.Sleep(500 * time.Millisecond)
			for tun.Status().Links == 0 || tun.Status().Slots == 0 || seen == 0 && tun.Status().State == Up { // none was refused yet, or the link is being made again
				time.Sleep(50 * time.Millisecond)
			}
			if st := tun.Status(); st.State != Degraded || st.LastError == nil {
				t.Fatalf("%d links and %d slots are up: %s, %v", st.Links, st.Slots, st.State, st.LastError)
			}
			time.Sleep(time.Second)
		}
	})
}

// A link that has slots stays when sshd refuses it another one: what it serves goes on, and no login is made for that.
func TestARefusalLeavesWhatIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuses atomic.Bool
		var made atomic.Int32
		first := make(chan *busyLink, 2)
		tun := startBusy(t, 2, func(_ context.Context, n int) (link, error) {
			l := &busyLink{fakeLink: newFakeLink(), take: func(slot int) error {
				if slot == 1 && refuses.Load() {
					return fault.SocketRefused("/slots/1")
				}
				return nil
			}}
			made.Add(1)
			if n < cap(first) {
				first <- l
			}
			return l, nil
		})
		defer tun.Close()
		refuses.Store(true)
		serves, other := <-first, <-first
		if !serves.listens()[0] {
			serves, other = other, serves
		}
		other.die(errors.New("lost"))
		time.Sleep(time.Minute)
		if st := tun.Status(); st.State != Degraded || st.Slots != 1 || !errors.Is(st.LastError, fault.ErrForward) {
			t.Errorf("%s, %d slots: %v", st.State, st.Slots, st.LastError)
		}
		if serves.closed.Load() || made.Load() > 15 {
			t.Errorf("the link that serves was closed: %v; %d links were made", serves.closed.Load(), made.Load())
		}
		refuses.Store(false)
		time.Sleep(20 * time.Second)
		if st := tun.Status(); st.State != Up || st.Slots != 2 || st.Links != 2 {
			t.Errorf("%s, %d links, %d slots: %v", st.State, st.Links, st.Slots, st.LastError)
		}
	})
}

// A port that was refused is not why there is no link, when that was lost since.
func TestARefusalIsAnOlderCauseThanALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &busyLink{fakeLink: newFakeLink(), port: true, take: func(int) error { return fault.Busy(8080) }}
		tun := startBusy(t, 1, func(_ context.Context, n int) (link, error) {
			if n == 0 {
				return l, nil
			}
			return nil, fault.Connect("proxy:22", errors.New("refused"))
		})
		defer tun.Close()
		if st := tun.Status(); !errors.Is(st.LastError, fault.ErrForward) {
			t.Errorf("%v", st.LastError)
		}
		l.die(errors.New("lost"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := tun.Status(); !errors.Is(st.LastError, fault.ErrUnreachable) || !st.RetryAt.After(time.Now()) {
			t.Errorf("%v, next try at %v", st.LastError, st.RetryAt)
		}
	})
}

// Reconnect that is called while a link is being made for an earlier call makes one all the same.
func TestReconnectCalledTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := startBusy(t, 1, func(ctx context.Context, n int) (link, error) {
			if n == 1 {
				<-ctx.Done() // of the first call
				return nil, ctx.Err()
			}
			return newFakeLink(), nil
		})
		defer tun.Close()
		for range 2 {
			if err := tun.Reconnect(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if s := tun.Status(); s.Reconnects != 1 || s.State != Up {
			t.Errorf("%d links were made by two calls; %s", s.Reconnects, s.State)
		}
	})
}

// A link that is to be renewed is, also where the first attempt fails; the one that is there serves until then.
func TestReconnectIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links := []*fakeLink{newFakeLink(), newFakeLink()}
		tun := startBusy(t, 1, func(_ context.Context, n int) (link, error) {
			if n == 1 {
				return nil, fault.LinkLost(errors.New("reset"))
			}
			return links[min(n, 1)], nil
		})
		defer tun.Close()
		if err := tun.Reconnect(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := tun.Status(); st.State != Up || st.Reconnects != 0 {
			t.Errorf("after the first attempt: %s, %d reconnects", st.State, st.Reconnects)
		}
		time.Sleep(time.Hour)
		if st := tun.Status(); st.State != Up || st.Reconnects != 1 || !links[0].closed.Load() || links[1].closed.Load() {
			t.Errorf("%s, %d reconnects", st.State, st.Reconnects)
		}
	})
}

// A look that is due in the instant in which the link has ended, and the table has yet to hear of it, asks nobody.
func TestALookWithoutALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := startFake(t, &proxy{})
		defer tun.Close()
		time.Sleep(time.Minute)
		var asked atomic.Bool
		var live []link
		tun.sup.tell(func() {
			tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { asked.Store(true); return nil }
			live, tun.sup.live = tun.sup.live, nil
		})
		time.Sleep(time.Minute)
		tun.sup.tell(func() { tun.sup.live = live; tun.sup.apply(nil) })
		wantState(t, tun, Up)
		if asked.Load() {
			t.Error("something was asked")
		}
		time.Sleep(time.Minute)
		if synctest.Wait(); !asked.Load() {
			t.Error("no look comes any more")
		}
	})
}

// Nobody at the slot of a link that is about to be known as lost is none of another tunnel's doing; at that of a living one it is.
func TestNobodyAtTheSlotOfALinkThatEnds(t *testing.T) {
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := &proxy{}
			tun := startFake(t, p)
			defer tun.Close()
			first := p.link()
			first.mute.Store(ends)
			tun.sup.tell(func() {
				tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { return []slots.Sight{slots.Nobody} }
			})
			time.Sleep(time.Minute)
			wantState(t, tun, map[bool]State{true: Up, false: Reconnecting}[ends])
			tun.sup.tell(func() {
				tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { return []slots.Sight{slots.Ours} }
			})
			first.die(errDropped)
			time.Sleep(time.Minute)
			wantState(t, tun, Up)
		})
	}
}

// A look that is under way while the tunnel is replaced is not the last one: it is looked again after Reconnect.
func TestALookThatATunnelIsReplacedUnder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := startFake(t, &proxy{})
		defer tun.Close()
		var asked atomic.Int64
		end := make(chan struct{})
		tun.sup.tell(func() {
			tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { asked.Add(1); <-end; return []slots.Sight{slots.Ours} }
		})
		time.Sleep(time.Minute)
		tun.sup.tell(func() { tun.sup.fail(fault.Replaced(&net.TCPAddr{}, time.Time{})) })
		close(end)
		wantState(t, tun, Replaced)
		before := asked.Load()
		if err := tun.Reconnect(); before != 1 || err != nil {
			t.Fatalf("%d looks were under way; %v", before, err)
		}
		time.Sleep(time.Minute)
		wantState(t, tun, Up)
		if asked.Load() == before {
			t.Error("it is not looked any more")
		}
	})
}
