// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

var (
	errRefused  = fault.LoginRefused("me", "proxy:22", "", nil, errors.New("no"))
	errChanged  = fault.HostKeyChanged("proxy:22", "ssh-ed25519", "SHA256:b", []string{"SHA256:a"})
	errConnect  = fault.Connect("proxy:22", errors.New("connection refused"))
	errFull     = fault.Full("proxy:22", "Exceeded MaxStartups")
	errPatience = fault.Patience("proxy:22", "Not allowed at this time")
	errDropped  = fault.LinkLost(errors.New("reset by peer"))
)

// What an error means follows from its class and from the tunnel's history.
func TestRetryByClassAndHistory(t *testing.T) {
	const s, never = time.Second, -time.Second // never: it is permanent
	type waits struct{ low, high time.Duration }
	ever, parked := waits{never, never}, waits{Never, Never}
	soon, short, long := waits{s / 2, s}, waits{300 * time.Millisecond, 1500 * time.Millisecond}, waits{15 * s, 30 * s}
	for name, c := range map[string]struct {
		err                 error
		first, later, third waits // before any link was up, after one was, while another is
	}{
		"host key":             {errChanged, ever, ever, parked},
		"login":                {errRefused, ever, waits{5 * s, 6 * s}, waits{15 * s, 16 * s}},
		"wants a password too": {fault.KeysNotEnough("me", "proxy:22", "", []string{"password"}), ever, waits{5 * s, 6 * s}, waits{15 * s, 16 * s}},
		"bastion's login":      {fault.Hop("bastion:22", errRefused), ever, waits{5 * s, 6 * s}, waits{15 * s, 16 * s}},
		"forward":              {fault.Forbidden(8080), ever, soon, soon},
		"bastion's forward":    {fault.HopForbidden("bastion:22", "proxy:22", errors.New("prohibited")), ever, soon, soon},
		"egress password":      {fault.ViaPassword("http://via:3128", true, ""), ever, ever, parked},
		"replaced":             {fault.Replaced(slotAddr{}, time.Time{}), ever, ever, ever},
		"configuration":        {fault.DescriptionChanged("proxy:22"), ever, ever, long},
		"certificate for now":  {transient(fault.Certificate("key", errors.New("expired"))), soon, soon, soon},
		"connect":              {errConnect, waits{s, 2 * s}, waits{s, 2 * s}, waits{s, 2 * s}},
		"no answer":            {fault.NoAnswer("proxy:22", s), waits{s, 2 * s}, waits{s, 2 * s}, waits{s, 2 * s}},
		"name":                 {fault.Resolve("proxy", errors.New("no such host")), waits{s, 2 * s}, waits{s, 2 * s}, waits{s, 2 * s}},
		"bastion's connect":    {fault.Hop("bastion:22", errConnect), waits{s, 2 * s}, waits{s, 2 * s}, waits{s, 2 * s}},
		"from the bastion":     {fault.HopConnect("bastion:22", "proxy:22", errors.New("refused")), soon, soon, soon},
		"egress connect":       {fault.Via("http://via:3128", errConnect), soon, soon, soon},
		"egress says no":       {fault.ViaConnect("http://via:3128", "proxy:22", "502"), soon, soon, soon},
		"MaxStartups":          {errFull, short, short, short},
		"dropped at once":      {fault.Overload(fault.DroppedAtOnce("proxy:22", errors.New("EOF"))), short, short, short},
		"MaxStartups, 9.8":     {errPatience, short, short, short},
		"handshake":            {fault.Dropped("proxy:22", errors.New("EOF")), soon, soon, soon},
		"login in silence":     {fault.LoginSilent("me", "proxy:22", s, ""), soon, soon, soon},
		"other algorithms":     {fault.NoCommon("proxy:22", "key exchange", []string{"x"}, errors.New("none")), ever, soon, soon},
		"no banner":            {fault.NoBanner("proxy:22", s), soon, soon, soon},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for when, want := range []waits{c.first, c.later, c.third} {
					r := New(&Refusals{})
					if when > 0 {
						r.Up()
					}
					got, permanent := r.Failed(0, c.err, max(0, when-1))
					if permanent {
						got = never
					}
					if got < want.low || got > want.high {
						t.Errorf("%s: waits %v, want %v to %v", []string{"first login", "after a link", "beside a link"}[when], got, want.low, want.high)
					}
				}
			})
		})
	}
}

type slotAddr struct{}

func (slotAddr) Network() string { return "unix" }
func (slotAddr) String() string  { return "/s" }

func transient(e *fault.Error) *fault.Error { e.Permanent = false; return e }

// A penalty is told from an overload by how long it lasts, and by a key that was refused.
func TestRetryOfAPenalty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(&Refusals{})
		r.Up()
		for begin := time.Now(); time.Since(begin) < backoff.Cap; {
			wait, _ := r.Failed(0, errPatience, 0)
			if wait > 5*time.Second {
				t.Errorf("waits %v at first", wait)
			}
			time.Sleep(wait)
		}
		if wait, _ := r.Failed(0, errPatience, 0); wait < backoff.Cap {
			t.Errorf("waits %v in a penalty", wait)
		}
		r = New(&Refusals{})
		r.Up()
		r.Failed(1, errRefused, 0)
		if wait, _ := r.Failed(0, errPatience, 0); wait < backoff.Cap {
			t.Errorf("waits %v after a refused login", wait)
		}
	})
}

// What went wrong in an outage is not charged to the next one; links that die young are.
func TestRetryForgets(t *testing.T) {
	r := New(&Refusals{})
	for range 20 {
		r.Failed(0, fault.Dropped("proxy:22", errors.New("EOF")), 0)
		r.Failed(0, errFull, 0)
	}
	r.Up()
	if wait := r.Lost(0, 3*time.Second, 1); wait > backoff.Spread {
		t.Errorf("waits %v for an outage that is over", wait)
	}
	for _, most := range []time.Duration{1, 2, 4, 8, 15, 15} {
		if wait := r.Lost(0, 3*time.Second, 1); wait < most*time.Second/2 || wait > most*time.Second {
			t.Errorf("waits %v after another young link, want about %v s", wait, int(most))
		}
	}
	if wait, _ := r.Failed(0, fault.Dropped("proxy:22", errors.New("EOF")), 0); wait > time.Second {
		t.Errorf("waits %v after the first failure", wait)
	}
}

// When all links end, the first attempts are spread: those of the first link too, which did not know yet.
func TestRetrySpreadsTheHerd(t *testing.T) {
	var first, second, alone time.Duration
	for range 300 {
		r := New(&Refusals{})
		r.Up()
		one := r.Lost(0, time.Hour, 1)
		two := r.Lost(1, time.Hour, 0)
		more, _ := r.Ready(0)
		again, _ := r.Ready(0)
		if one > backoff.Spread || two > backoff.Herd || more > backoff.Herd || again != 0 {
			t.Fatalf("waits %v and %v more, then %v; %v", one, more, again, two)
		}
		first, second = max(first, more), max(second, two)
		alone = max(alone, r.Lost(0, time.Hour, 1))
		if more, _ := r.Ready(0); more != 0 {
			t.Fatalf("%v more when one link of two was lost", more)
		}
	}
	if first < backoff.Herd/2 || second < backoff.Herd/2 || alone > backoff.Spread {
		t.Errorf("the herd is spread over %v and %v, one link over %v", first, second, alone)
	}
}
