// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/retry"
)

// fail2ban shuts an address out after five refused logins in ten minutes.
const (
	loginsMost   = 4
	loginsWithin = 10 * time.Minute
)

// keyholder is a proxy that refuses the key now and then. A login takes 0.2 s.
type keyholder struct {
	mu      sync.Mutex
	until   time.Time   // the key is refused until then
	refused []time.Time // logins
	busy    int         // logins under way
	most    int         // …at once, since the key is refused
	links   map[*Tunnel][2]*fakeLink
}

func (p *keyholder) connect(tun **Tunnel) connector {
	return func(_ context.Context, index int) (link, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy++
		if len(p.refused) > 0 {
			p.most = max(p.most, p.busy)
		}
		p.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
		p.mu.Lock()
		p.busy--
		if now := time.Now(); now.Before(p.until) {
			p.refused = append(p.refused, now)
			return nil, errRefused
		}
		links := p.links[*tun]
		links[index] = newFakeLink()
		p.links[*tun] = links
		return twoSlots{links[index]}, nil
	}
}

// open returns so many tunnels with two links each, which share what they learn of refusals.
func (p *keyholder) open(t *testing.T, n int) (tunnels []*Tunnel) {
	t.Helper()
	p.links = map[*Tunnel][2]*fakeLink{}
	cfg := Config{Server: Servers{"me@proxy"}}
	r, err := cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	shared := &retry.Refusals{}
	for range n {
		var tun *Tunnel
		tun = newTunnel(r, p.connect(&tun))
		tun.sup.retry = retry.New(shared)
		tun.run(false)
		t.Cleanup(func() { _ = tun.Close() })
		tunnels = append(tunnels, tun)
	}
	time.Sleep(time.Minute)
	p.want(t, tunnels, 2)
	return tunnels
}

// logins returns when a login was refused.
func (p *keyholder) logins() []time.Time {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused)
}

// refuseFor has the key refused for so long from now on.
func (p *keyholder) refuseFor(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.most = time.Now().Add(d), 0
}

// kill has the links of a tunnel die.
func (p *keyholder) kill(tun *Tunnel, links ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range links {
		p.links[tun][i].die(errDropped)
	}
}

// refuse kills all links, and has the key refused for so long.
func (p *keyholder) refuse(d time.Duration, tunnels ...*Tunnel) {
	p.refuseFor(d)
	for _, tun := range tunnels {
		p.kill(tun, 0, 1)
	}
}

func (p *keyholder) want(t *testing.T, tunnels []*Tunnel, links int) {
	t.Helper()
	synctest.Wait()
	for i, tun := range tunnels {
		if s := tun.Status(); s.Links != links {
			t.Errorf("tunnel %d: %d links, %s (%v), want %d", i, s.Links, s.State, s.LastError, links)
		}
	}
}

// wantSeldom asserts that no five logins fall within ten minutes.
func wantSeldom(t *testing.T, logins []time.Time) {
	t.Helper()
	for row := logins; len(row) > loginsMost; row = row[1:] {
		if d := row[loginsMost].Sub(row[0]); d < loginsWithin {
			t.Errorf("five logins within %v: %v", d, logins)
		}
	}
}

// authorized_keys was empty for 1.5 s, or the home directory away for 5 or 12 s: the tries come after 5 and 15 s.
func TestRefusedForAMoment(t *testing.T) {
	for _, tunnels := range []int{1, 8} {
		for away, tries := range map[time.Duration]time.Duration{1500 * time.Millisecond: 5 * time.Second, 5 * time.Second: 5 * time.Second, 12 * time.Second: 15 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				p := &keyholder{}
				open := p.open(t, tunnels)
				p.refuse(away, open...)
				time.Sleep(backoff.Herd + time.Second)
				p.want(t, open, 0)
				for range int(tries/time.Second) - 2 {
					for _, tun := range open { // the reason, and when the next try is, all the time
						if s := tun.Status(); s.State != Reconnecting || !errorIs(s, ErrAuth) || time.Until(s.RetryAt) < -time.Second {
							t.Errorf("%s (%v), next try in %v", s.State, s.LastError, time.Until(s.RetryAt))
						}
					}
					time.Sleep(time.Second)
				}
				time.Sleep(5 * time.Second) // for a try that is under way too, and what waits for it
				p.want(t, open, 2)
				if n := len(p.logins()); n > 2 {
					t.Errorf("%d refused logins of %d tunnels", n, tunnels)
				}
			})
		}
	}
}

func errorIs(s Status, class error) bool { return s.LastError != nil && s.LastError.Class == class }

// A key that stays refused costs at most four logins in ten minutes, whatever number of tunnels has it.
func TestRefusedForHours(t *testing.T) {
	for _, tunnels := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			p := &keyholder{}
			open := p.open(t, tunnels)
			start := time.Now()
			p.refuse(3*time.Hour, open...)
			time.Sleep(5 * time.Second)
			begun := len(p.logins()) // before it was known whether the key is granted
			p.refuseFor(3 * time.Hour)
			time.Sleep(2 * time.Hour)
			refused := p.logins()
			var since []time.Duration
			for _, at := range refused {
				since = append(since, at.Sub(start).Round(time.Second))
			}
			if begun > 2 || p.most != 1 {
				t.Errorf("%d logins at first, then %d at once", begun, p.most)
			}
			if n := len(refused); n < 12 || n > 30 {
				t.Errorf("%d logins: %v", n, since)
			}
			for n, after := range []time.Duration{5 * time.Second, 15 * time.Second}[begun-1:] { // with two at first there is no room for the one after 5 s
				if again := refused[begun+n].Sub(start); again < after || again > after+3*time.Second {
					t.Errorf("after %d at first %d comes after %v", begun, begun+n+1, again)
				}
			}
			wantSeldom(t, refused)
			p.refuseFor(0)
			time.Sleep(11 * time.Minute)
			p.want(t, open, 2)
		})
	}
}

// While the other link serves, the state says why one is missing; nothing is given up.
func TestRefusedBesideALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &keyholder{}
		tun := p.open(t, 1)[0]
		tun.sup.tell(func() { tun.target.Set("127.0.0.1:9"); tun.sup.appAnswers(nil) })
		p.refuseFor(time.Hour)
		p.kill(tun, 1)
		time.Sleep(5 * time.Minute)
		if s := tun.Status(); s.Links != 1 || s.State != Degraded || !errorIs(s, ErrAuth) || !s.RetryAt.After(time.Now()) {
			t.Errorf("%d links, %s (%v)", s.Links, s.State, s.LastError)
		}
		if n := len(p.logins()); n != 3 {
			t.Errorf("%d logins, want one at once, after 15 and after 75 s", n)
		}
		p.kill(tun, 0)
		time.Sleep(30 * time.Second)
		if n := len(p.logins()); n != 3 {
			t.Errorf("%d logins, want that the other link does not try too", n)
		}
		p.refuseFor(0)
		if err := tun.Reconnect(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		p.want(t, []*Tunnel{tun}, 2)
	})
}

// However often Reconnect is called against a refused key, the server sees one login each 15 s.
func TestReconnectAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &keyholder{}
		tun := p.open(t, 1)[0]
		p.refuse(time.Hour, tun)
		time.Sleep(5 * time.Minute)
		before := len(p.logins())
		for range 40 {
			_ = tun.Reconnect()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(p.logins()) - before; n != 1 {
			t.Errorf("%d logins, want 1: %v", n, p.logins())
		}
	})
}

// Reconnect is a try at once, of one link.
func TestReconnectOfARefusedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &keyholder{}
		tun := p.open(t, 1)[0]
		p.refuse(time.Hour, tun)
		time.Sleep(5 * time.Minute)
		before := len(p.logins())
		_ = tun.Reconnect()
		time.Sleep(time.Second)
		if n := len(p.logins()) - before; n != 1 {
			t.Errorf("%d logins, want 1", n)
		}
	})
}

// Tunnels that lose their links one after the other, and a key that is taken away while the first ones log in, cost no more.
func TestRefusedOneAfterTheOther(t *testing.T) {
	for _, apart := range []time.Duration{100 * time.Millisecond, 3 * time.Second, 40 * time.Second, 4 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := &keyholder{}
			open := p.open(t, 8)
			p.refuseFor(3 * time.Hour)
			for _, tun := range open {
				p.kill(tun, 0, 1)
				time.Sleep(apart)
			}
			time.Sleep(time.Hour)
			wantSeldom(t, p.logins())
			p.refuseFor(0)
			time.Sleep(11 * time.Minute)
			p.want(t, open, 2)
		})
	}
}

// A key that is granted has all links back soon: the first login that is granted lets all others begin.
func TestManyTunnelsAreBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &keyholder{}
		open := p.open(t, 8)
		p.refuse(0, open...)
		time.Sleep(backoff.Herd + 2*(200*time.Millisecond) + 400*time.Millisecond) // two logins, and a wait for the first
		p.want(t, open, 2)
	})
}
