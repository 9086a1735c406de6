// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// slotted is a proxy that has several slots: sshd gives each to whoever asked last, and a link that gives
// one back loses it only if nobody else has it.
type slotted struct {
	mu     sync.Mutex
	holder []*slottedLink
	links  []*slottedLink // by keeper, the newest
	refuse error
}

type slottedLink struct {
	*fakeLink
	on *slotted
}

func (p *slotted) connect(_ context.Context, index int) (link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	p.links[index] = &slottedLink{newFakeLink(), p}
	return p.links[index], nil
}

func (l *slottedLink) Slots() (int, bool) { return len(l.on.holder), false }

func (l *slottedLink) Take(_ context.Context, slot int, _ bool) error {
	l.on.mu.Lock()
	defer l.on.mu.Unlock()
	l.on.holder[slot] = l
	return nil
}

func (l *slottedLink) Give(slot int) {
	l.on.mu.Lock()
	defer l.on.mu.Unlock()
	if l.on.holder[slot] == l {
		l.on.holder[slot] = nil
	}
}

// served says by which keeper's link each slot is, "-" for nobody who lives.
func (p *slotted) served() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := ""
	for _, l := range p.holder {
		if l == nil || l.closed.Load() || isOver(l) {
			text += "-"
		} else {
			text += fmt.Sprint(slices.Index(p.links, l))
		}
	}
	return text
}

func isOver(l *slottedLink) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// startSlotted opens a tunnel to a proxy with four slots, and waits until both links are there.
func startSlotted(t *testing.T) (*slotted, *Tunnel) {
	t.Helper()
	p := &slotted{holder: make([]*slottedLink, 4), links: make([]*slottedLink, 2)}
	cfg := Config{Server: Servers{"me@proxy"}}
	r, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	tun := newTunnel(r, p.connect)
	tun.run(false)
	wantState(t, tun, Up)
	time.Sleep(time.Minute)
	return p, tun
}

// Every slot is served as long as there is one link, and each link has its own as soon as it is there.
func TestSlotsAreServedByWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startSlotted(t)
		defer tun.Close()
		for range 20 {
			for k := range 2 {
				if got := p.served(); got != "0101" {
					t.Fatalf("served by %s, want each by its own", got)
				}
				if s := tun.Status(); s.State != Up || s.Links != 2 || s.Slots != 4 || s.LastError != nil {
					t.Fatalf("%+v", s)
				}
				p.links[k].die(errDropped)
				if got := p.served(); got != strings.Repeat(strconv.Itoa(1-k), 4) {
					t.Fatalf("served by %s when link %d was lost", got, k)
				}
				if s := tun.Status(); s.State != Degraded || s.Links != 1 || s.Slots != 4 || s.LastError == nil {
					t.Fatalf("%+v", s)
				}
				time.Sleep(backoff.Spread)
				if got := p.served(); got != "0101" {
					t.Fatalf("served by %s when it was back", got)
				}
				time.Sleep(time.Minute)
			}
		}
		if s := tun.Status(); s.Reconnects != 40 {
			t.Errorf("%d reconnects", s.Reconnects)
		}
		both := errors.New("both")
		p.links[0].die(fault.LinkLost(both))
		p.links[1].die(fault.LinkLost(both))
		wantState(t, tun, Reconnecting)
		time.Sleep(time.Minute)
		if got := p.served(); got != "0101" {
			t.Errorf("served by %s after both were lost", got)
		}
	})
}

// What trying again cannot mend stops a tunnel when its last link is gone, not before.
func TestPermanentErrorWhileAnotherLinkServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, tun := startSlotted(t)
		defer tun.Close()
		p.refuse = errChanged
		p.links[0].die(errDropped)
		time.Sleep(time.Hour)
		wantState(t, tun, Degraded)
		if got := p.served(); got != "1111" || !errors.Is(tun.Status().LastError, ErrHostKey) {
			t.Errorf("served by %s, %v", got, tun.Status().LastError)
		}
		p.links[1].die(errDropped)
		time.Sleep(time.Minute)
		wantState(t, tun, Failed)
		p.refuse = nil
		if err := tun.Reconnect(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantState(t, tun, Up)
		if got := p.served(); got != "0101" {
			t.Errorf("served by %s", got)
		}
	})
}
