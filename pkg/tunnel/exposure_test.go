// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/slots"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// plainAt is a tunnel to a plain proxy, that nothing serves.
func plainAt(host string, port int) *Tunnel {
	cfg := Config{Server: Servers{"me@" + host}, Remote: port}
	return newTunnel(resolved{Config: cfg, server: &destination.Destination{Host: host}, plainGiven: true}, nil)
}

// Where nothing answers the look is over after its time, and nothing goes on after it.
func TestSilenceEndsTheLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := plainAt("127.0.0.1", 8080)
		defer tun.end()
		began := time.Now()
		silent := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if found := tun.lookPast(t.Context(), silent); found != untold {
			t.Errorf("%v", found)
		}
		tun.tasks.Wait()
		if took := time.Since(began); took != loopcheck.PastWait {
			t.Errorf("it took %v", took)
		}
	})
}

// A warning stands until what it tells of is over. One of another kind takes none away, and where nothing could be told of
// the port, what was seen before stands.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := plainAt("127.0.0.1", 8080)
		defer tun.end()
		d := newVisitorGate(tun)
		tun.useGate(d)
		for i, step := range []struct {
			do   func()
			says string
		}{
			{func() { d.websocket(false) }, "websockets"},
			{func() { tun.sup.exposure(exposed) }, "port 8080"},
			{func() { tun.sup.exposure(untold) }, "port 8080"},
			{func() { tun.sup.exposure(enclosed) }, "websockets"},
			{d.anotherApp, ""},
			{func() { d.websocket(true) }, ""},
			{func() { d.websocket(false) }, ""}, // for reasons of its own
			{d.anotherApp, ""},
			{func() { d.websocket(false) }, "websockets"},
			{func() { d.websocket(true) }, ""},
		} {
			step.do()
			switch w := tun.Status().Warning; {
			case w == nil && step.says != "", w != nil && (step.says == "" || !strings.Contains(w.Error(), step.says)):
				t.Errorf("step %d: %v, want %q", i, w, step.says)
			}
		}
		if tun.sup.exposed.Load() {
			t.Error("it is exposed")
		}
		other := plainAt("127.0.0.1", 8080)
		defer other.end()
		other.sup.exposure(untold)
		<-other.sup.lookedPast // who waits for the first look does not wait for ever
	})
}

// The gate's question for a look starts one, where there are looks.
func TestAGateThatAsksForALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := startFake(t, &proxy{})
		defer tun.Close()
		var looks atomic.Int64
		tun.sup.tell(func() {
			tun.sup.hooks.look = func(context.Context, link, int) []slots.Sight { looks.Add(1); return []slots.Sight{slots.Ours} }
		})
		look := newVisitorGate(tun).config.Look
		time.Sleep(time.Minute)
		before := looks.Load()
		for range 20 {
			if !look() {
				t.Error("there will be none")
			}
		}
		time.Sleep(time.Second / 5)
		if got := looks.Load() - before; got != 1 {
			t.Errorf("20 questions started %d looks", got)
		}
		tun.sup.tell(func() { tun.sup.fail(fault.Replaced(&net.TCPAddr{}, time.Time{})) })
		if look() {
			t.Error("there will be one of a tunnel that is replaced")
		}
	})
}

// What an app did with websockets says nothing of the one that listens there next.
func TestAnotherAppThatRefusesWebsockets(t *testing.T) {
	tun := plainAt("127.0.0.1", 8080)
	defer tun.Close()
	at := *tun.endpoint.Load()
	at.url = "http://app.example.com/"
	tun.endpoint.Store(&at)
	d := newVisitorGate(tun)
	tun.useGate(d)
	first, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	tun.target.Set(first.Addr().String())
	must(t, d.open(t.Context(), &sshauth.Keys{}))
	d.gate.Load().Moved() // it looks who listens
	d.websocket(true)
	_ = first.Close()
	next, err := net.Listen("tcp", first.Addr().String())
	must(t, err)
	defer func() { _ = next.Close() }()
	d.gate.Load().Moved()
	if d.websocket(false); tun.Status().Warning == nil {
		t.Error("no warning of the next one")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
