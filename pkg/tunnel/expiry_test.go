// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
)

// startEnding is a tunnel whose token ends after d.
func startEnding(t *testing.T, p *proxy, d time.Duration) (*Tunnel, *gate.Gate) {
	t.Helper()
	tun := newTunnel(resolved{Config: Config{Connections: 1}, server: &destination.Destination{}}, p.connect)
	tun.useGate(newVisitorGate(tun))
	g, err := gate.New(gate.Config{Target: tun.target, URL: "http://proxy/", Identity: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	g.SetToken(gate.RandomToken(time.Now().Add(d)))
	tun.gate.gate.Store(g)
	tun.run(false)
	return tun, g
}

// The end of the token comes by itself, at the moment from which the gate refuses it, and goes away with a
// later one.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 3*time.Hour + 700*time.Millisecond // the gate counts whole seconds
		tun, g := startEnding(t, &proxy{}, life)
		defer tun.Close()
		wantState(t, tun, Up)
		time.Sleep(life.Truncate(time.Second) - time.Millisecond)
		wantState(t, tun, Up)
		time.Sleep(time.Millisecond)
		wantState(t, tun, Expired)
		s := tun.Status()
		if !errors.Is(s.LastError, ErrConfig) || s.LastError.Hint == "" || !s.Expires.Equal(g.Token().Expires()) || s.Links != 1 {
			t.Errorf("%+v", s)
		}
		if before := g.Token(); tun.NewToken() == nil || g.Token() != before {
			t.Error("NewToken gives a link that has ended already")
		}
		g.SetToken(gate.RandomToken(time.Now().Add(time.Hour)))
		tun.sup.tell(tun.sup.expiryChanged)
		wantState(t, tun, Up)
		if s := tun.Status(); s.LastError != nil || !s.Expires.Equal(g.Token().Expires()) {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		wantState(t, tun, Expired)
		g.SetToken(gate.RandomToken(time.Time{}))
		tun.sup.tell(tun.sup.expiryChanged)
		wantState(t, tun, Up)
		time.Sleep(2 * 24 * time.Hour)
		wantState(t, tun, Up)
	})
}

// Visitors meet a missing link before the gate, and the gate before the app: so do the states.
func TestExpiredAmongTheStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proxy{}
		tun, _ := startEnding(t, p, time.Minute)
		defer tun.Close()
		time.Sleep(time.Minute)
		wantState(t, tun, Expired)
		tun.sup.tell(func() { tun.sup.appAnswers(errors.New("refused")) })
		wantState(t, tun, Expired)
		p.link().die(errDropped)
		wantState(t, tun, Reconnecting)
		time.Sleep(time.Second)
		wantState(t, tun, Expired)
		tun.sup.tell(func() { tun.sup.fail(AsError(errors.New("no"))) })
		wantState(t, tun, Failed)
	})
}

// Timers stand still in a suspend, and a clock may be set: the moment is looked for each minute as well.
func TestExpiredAfterTheClockWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun, g := startEnding(t, &proxy{}, 3*time.Hour)
		defer tun.Close()
		wantState(t, tun, Up)
		g.SetToken(gate.RandomToken(time.Now().Add(-time.Second))) // as after a jump: nobody tells
		time.Sleep(expiryLook)
		wantState(t, tun, Expired)
		g.SetToken(gate.RandomToken(time.Now().Add(time.Hour)))
		time.Sleep(expiryLook)
		wantState(t, tun, Up)
	})
}
