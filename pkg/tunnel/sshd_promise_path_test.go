// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Visitors are served again so long after the end of an outage, and the round trips of a login: they come to that.
const (
	backAfter  = 2500 * time.Millisecond
	loginTrips = 10
)

// outage has visitors come before, while and after something is away, and sees to it that they are served soon after its end, and that
// nothing ran twice.
func (s *silenced) outage(t *testing.T, rtt time.Duration, away func() (end time.Time)) {
	s.app.fresh()
	s.way.Delay(rtt / 2)
	bar := promised(backAfter + loginTrips*rtt)
	var end time.Time
	all := s.visitors(20, func() {
		time.Sleep(time.Second)
		end = away()
		for n, until := 0, end.Add(bar); n < 10 && time.Now().Before(until); n++ {
			begin := time.Now()
			if status, _, _ := s.visit(http.MethodGet, "", time.Minute); status != http.StatusOK || time.Since(begin) > time.Second+rtt {
				n = -1
			}
		}
		time.Sleep(2 * time.Second) // what was sent again would be begun again by then
	})
	back, longest, told := time.Duration(0), time.Duration(0), map[string]int{}
	for _, v := range all {
		told[fmt.Sprint(v.status)]++
		longest = max(longest, v.took)
		if v.status != http.StatusOK || v.took > v.works+time.Second+rtt {
			back = max(back, v.begin.Sub(end))
		}
	}
	t.Logf("%s, round trip %v: back %.2f s after the end; %s, the longest waited %.1f s", s.kind, rtt, back.Seconds(), counted(told), longest.Seconds())
	if back > bar {
		t.Errorf("%s, round trip %v: a visitor of %v after the end was not served: %s", s.kind, rtt, back, brief(s.tun))
	}
	s.once(t, s.kind, 0)
}

// again waits until there may be another outage: links that are lost young are not replaced at once.
func (s *silenced) again(t *testing.T) {
	s.way.Delay(0)
	await(t, s.tun, "its links", s.ready)
	time.Sleep(backoff.Stable)
}

// All that goes to the proxy is lost for a while, and then passes again, what was open as well as what is new.
func TestPromiseASilentPath(t *testing.T) {
	lasts, trips := []time.Duration{5 * time.Second}, []time.Duration{0}
	if faults {
		lasts, trips = append(lasts, 40*time.Second), append(trips, 100*time.Millisecond)
	}
	all := silencedOf(t, nil, "prepared", "plain")
	for _, last := range slices.Repeat(lasts, rounds(1, 2)) {
		for _, rtt := range trips {
			together(all, func(s *silenced) {
				if faults {
					s.again(t)
				}
				t.Logf("%s: silent for %v", s.kind, last)
				s.outage(t, rtt, func() time.Time {
					s.way.Hole()
					s.way.Drop()
					time.Sleep(last)
					s.way.Pass()
					s.way.Resume()
					return time.Now()
				})
			})
		}
	}
}

// The proxy moves to another address: its name leads there, and the old one has fallen silent.
func TestPromiseTheProxyMoves(t *testing.T) {
	const old, fresh = "127.0.0.1", "127.0.0.9"
	kinds := []string{"prepared"}
	if faults {
		kinds = append(kinds, "plain")
	}
	for n, kind := range slices.Repeat(kinds, rounds(1, 5)) {
		t.Run(fmt.Sprint(kind, n), func(t *testing.T) {
			leads := resolver(t, old)
			s := silencedOf(t, func(s *silenced, cfg *tunnel.Config) bool {
				_, port, _ := net.SplitHostPort(s.way.Addr())
				s.Reconfigure("ListenAddress "+s.Addr(), "ListenAddress "+s.Addr()+"\nListenAddress "+fresh+":"+port)
				cfg.Server = tunnel.Servers{s.User + "@proxy.test:" + port}
				return true
			}, kind)[0]
			await(t, s.tun, "its links", s.ready)
			s.outage(t, 0, func() time.Time {
				s.way.Hole()
				s.way.Drop()
				leads.Store(fresh)
				return time.Now()
			})
		})
	}
}

// resolver is the DNS while the test runs: every name has the one address that is stored.
func resolver(t *testing.T, first string) *atomic.Value {
	var addr atomic.Value
	addr.Store(first)
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for p := make([]byte, 1024); ; {
			_, from, err := server.ReadFrom(p)
			if err != nil {
				return
			}
			end := 12 // of the question (RFC 1035, section 4.1)
			for p[end] != 0 {
				end += 1 + int(p[end])
			}
			end += 5
			answers := byte(0)
			var answer []byte
			if p[end-3] == 1 { // an IPv4 address is asked for
				answers, answer = 1, append([]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4}, net.ParseIP(addr.Load().(string)).To4()...)
			}
			head := []byte{p[0], p[1], 0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0}
			_, _ = server.WriteTo(slices.Concat(head, p[12:end], answer), from)
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if !strings.HasPrefix(network, "udp") {
			return nil, net.UnknownNetworkError(network)
		}
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = server.Close()
		<-ended
	})
	return &addr
}
