// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
)

// outcomes is a proxy where each keeper's attempts end as it is told; without a word they wait.
type outcomes struct {
	mu    sync.Mutex
	waits map[int]chan error // by keeper: of the attempt under way
	tries [2]int             // by keeper: attempts
	slots []*fakeLink        // by keeper: its link
	plain bool               // there is one port, not two sockets
}

func (p *outcomes) connect(ctx context.Context, index int) (link, error) {
	end := make(chan error)
	p.mu.Lock()
	p.waits[index] = end
	p.tries[index]++
	p.mu.Unlock()
	select {
	case err := <-end:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots[index] = newFakeLink()
	if p.plain {
		return onePort{p.slots[index]}, nil
	}
	return twoSlots{p.slots[index]}, nil
}

// tell ends the attempt under way; nil: there is a link.
func (p *outcomes) tell(keeper int, err error) {
	synctest.Wait()
	p.mu.Lock()
	for p.waits[keeper] == nil { // the second of two logins gives the first a head start
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		p.mu.Lock()
	}
	end := p.waits[keeper]
	p.waits[keeper] = nil
	p.mu.Unlock()
	end <- err
	synctest.Wait()
}

type twoSlots struct{ *fakeLink }

func (twoSlots) Slots() (int, bool) { return 2, false }

type onePort struct{ *fakeLink }

func (onePort) Slots() (int, bool) { return 1, true }

// startTwo opens a tunnel of two links, of which the first is up.
func startTwo(t *testing.T) (*outcomes, *Tunnel) {
	t.Helper()
	return startAt(t, &outcomes{})
}

func startAt(t *testing.T, p *outcomes) (*outcomes, *Tunnel) {
	t.Helper()
	cfg := Config{Server: Servers{"me@proxy"}}
	r, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	p.waits, p.slots = map[int]chan error{}, make([]*fakeLink, 2)
	tun := newTunnel(r, p.connect)
	tun.sup.retry = retry.New(&retry.Refusals{}) // not those of tests before it
	tun.run(false)
	p.tell(0, nil)
	return p, tun
}

func wantCause(t *testing.T, tun *Tunnel, state State, cause error) {
	t.Helper()
	synctest.Wait()
	s := tun.Status()
	told := s.LastError == nil && cause == nil || s.LastError != nil && errors.Is(s.LastError, cause)
	if s.State != state || !told {
		t.Errorf("state %s (%v), want %s (%v)", s.State, s.LastError, state, cause)
	}
}

// A second link that is made for the first time is no loss, and Reconnect gives none up before there is another.
func TestALinkIsMissingWhereThereWasOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startTwo(t)
		defer tun.Close()
		wantCause(t, tun, Up, nil)
		p.tell(1, nil)
		wantCause(t, tun, Up, nil)
		_ = tun.Reconnect()
		for _, keeper := range []int{1, 0} {
			wantCause(t, tun, Up, nil)
			if s := tun.Status(); s.Links != 2 || s.Slots != 2 {
				t.Errorf("%+v", s)
			}
			p.tell(keeper, nil)
		}
		wantCause(t, tun, Up, nil)
	})
}

// Of several links that are missing the newest cause is told.
func TestTheNewestOfTwoCausesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startTwo(t)
		defer tun.Close()
		p.tell(1, nil)
		for _, keeper := range []int{0, 1, 0} {
			p.slots[keeper].die(errDropped)
			time.Sleep(time.Minute)
			p.tell(keeper, fault.Patience("proxy:22", "not now"))
			wantCause(t, tun, map[bool]State{true: Degraded, false: Reconnecting}[tun.Status().Links > 0], fault.ErrPatience)
			if tun.Status().Links == 0 {
				break
			}
		}
		time.Sleep(time.Minute)
		p.tell(0, fault.Resolve("proxy", errors.New("no such host")))
		if s := tun.Status(); s.LastError.Op != "resolve" {
			t.Errorf("newest: %v", s.LastError)
		}
		p.tell(1, fault.Connect("proxy:22", errors.New("refused")))
		if s := tun.Status(); s.LastError.Op != "connect" {
			t.Errorf("newest: %v", s.LastError)
		}
	})
}

// What stopped a tunnel is its last cause: neither an older one comes back when it tries again, nor that of an
// attempt that was cut short takes its place.
func TestTheCauseOfAFailureStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startTwo(t)
		defer tun.Close()
		p.slots[0].die(errDropped)
		time.Sleep(time.Minute)
		p.tell(0, fault.Connect("proxy:22", errors.New("refused")))
		wantCause(t, tun, Reconnecting, ErrUnreachable)
		p.tell(1, fault.HostKeyChanged("proxy:22", "ssh-ed25519", "SHA256:b", []string{"SHA256:a"}))
		wantCause(t, tun, Failed, ErrHostKey)
		_ = tun.Reconnect()
		wantCause(t, tun, Reconnecting, ErrHostKey)
		p.tell(0, fault.Replaced(tun.Addr(), time.Time{}))
		wantCause(t, tun, Replaced, fault.ErrReplaced)
		tun.sup.tell(func() { tun.sup.reconnectors[1].tried(nil, fault.Forbidden(8080), false) })
		wantCause(t, tun, Replaced, fault.ErrReplaced)
	})
}

// A host key that is not the known one is not asked for again while the other link serves, unless by Reconnect. When no link
// serves any more one attempt is made, whose answer ends the tunnel, or leads to both links.
func TestAnotherHostKeyBesideALink(t *testing.T) {
	changed := fault.HostKeyChanged("proxy:22", "ssh-ed25519", "SHA256:b", []string{"SHA256:a"})
	for name, c := range map[string]struct {
		plain   bool
		refused *Error
	}{"prepared": {false, changed}, "plain": {true, changed}, "egress password": {false, fault.ViaPassword("http://via:3128", true, "")}} {
		refused := c.refused
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, tun := startAt(t, &outcomes{plain: c.plain})
				defer tun.Close()
				p.tell(1, nil)
				p.slots[1].die(errDropped)
				time.Sleep(time.Second)
				p.tell(1, refused)
				stays := func(tries [2]int) {
					t.Helper()
					time.Sleep(24 * time.Hour)
					wantCause(t, tun, Degraded, refused.Class)
					if s := tun.Status(); p.tries != tries || !s.RetryAt.IsZero() || s.Links != 1 {
						t.Errorf("%v attempts, want %v; %d links, next one at %v", p.tries, tries, s.Links, s.RetryAt)
					}
				}
				stays([2]int{1, 2})
				_ = tun.Reconnect()
				p.tell(1, refused)
				p.tell(0, nil)
				stays([2]int{2, 3})
				p.slots[0].die(errDropped)
				time.Sleep(time.Second)
				synctest.Wait()
				if p.tries != [2]int{3, 3} {
					t.Errorf("%v attempts when no link is left, want one", p.tries)
				}
				p.tell(0, nil)
				p.tell(1, nil)
				wantCause(t, tun, Up, nil)
				p.slots[1].die(errDropped)
				time.Sleep(time.Second)
				p.tell(1, refused)
				stays([2]int{3, 5})
				p.slots[0].die(errDropped)
				time.Sleep(time.Second)
				p.tell(0, refused)
				wantCause(t, tun, Failed, refused.Class)
			})
		})
	}
}

// A tunnel whose app is silent says why it has no link once it has none.
func TestTheAppIsNotWhyALinkIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startTwo(t)
		defer tun.Close()
		tun.sup.tell(func() { tun.target.Set("127.0.0.1:9"); tun.sup.appAnswers(errors.New("refused")) })
		wantCause(t, tun, Waiting, ErrApp)
		p.slots[0].die(errDropped)
		wantCause(t, tun, Reconnecting, ErrUnreachable)
	})
}
