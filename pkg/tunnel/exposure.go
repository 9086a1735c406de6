// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// A plain proxy's slot is for its nginx. With GatewayPorts yes sshd binds it to all addresses, though 127.0.0.1 was asked
// for, and says nothing: who reaches the port comes past nginx, its TLS, passwords and rules.

// exposureWait is how long the answers are waited for: a firewall that drops what is sent gives none.
const exposureWait = 5 * time.Second

// aliases are further addresses of the proxy's loopback interface: 127.0.0.2 on Linux, ::1 where there is none. What was bound to
// 127.0.0.1 does not answer there, and what was bound to all addresses does; no packet leaves the machine, and no name is
// resolved, for which sshd would keep the whole link waiting. Dropbear binds ::1 along with 127.0.0.1.
var aliases = []string{"127.0.0.2", "::1"}

// slotPort is the port of a plain proxy's slot, 0 if there is none: a socket is nobody's but nginx's.
func (t *Tunnel) slotPort() int {
	if p := t.endpoint.Load(); p.known && !p.prepared {
		if tcp, ok := p.slots[0].(*net.TCPAddr); ok {
			return tcp.Port
		}
	}
	return 0
}

// lookPast asks at other addresses of the proxy whether this tunnel answers there: from the proxy, by dial, and from this
// machine, which is heeded where the account may open no connection from the proxy.
func (t *Tunnel) lookPast(ctx context.Context, dial dialer) exposure {
	port := strconv.Itoa(t.slotPort())
	question, end := t.question()
	defer end()
	ctx, cancel := context.WithTimeout(ctx, exposureWait)
	defer cancel()
	within, direct := make(chan exposure, 1), make(chan exposure, 1)
	if !t.tasks.Go(func() { within <- askAliases(ctx, question, port, dial) }) {
		return untold
	}
	if t.reachedDirectly() {
		d := net.Dialer{Control: t.cfg.Control}
		t.tasks.Go(func() {
			found, _ := answersAt(ctx, question, net.JoinHostPort(t.cfg.server.Host, port), func(ctx context.Context, addr string) (net.Conn, error) {
				return d.DialContext(ctx, "tcp", addr)
			})
			direct <- found
		})
	} else {
		direct = nil
	}
	for within != nil || direct != nil {
		select {
		case found := <-within:
			if found != untold {
				return found
			}
			within = nil
		case found := <-direct: // that nothing answers may be a firewall's doing
			if found == exposed {
				return exposed
			}
			direct = nil
		case <-ctx.Done():
			return untold
		}
	}
	return untold
}

// askAliases asks those addresses from the proxy, until one tells.
func askAliases(ctx context.Context, q probe.Question, port string, dial dialer) exposure {
	all := enclosed
	for _, host := range aliases {
		found, surely := answersAt(ctx, q, net.JoinHostPort(host, port), dial)
		if found == exposed || surely {
			return found
		}
		all = min(all, found)
	}
	return all
}

// reachedDirectly: the server is another machine, and nothing is in between that would be asked instead, as what serves
// the URL is where it has the number of the slot.
func (t *Tunnel) reachedDirectly() bool {
	if u, err := url.Parse(t.endpoint.Load().url); err != nil || u.Port() == strconv.Itoa(t.slotPort()) {
		return false
	}
	addr, err := netip.ParseAddr(t.cfg.server.Host)
	return t.cfg.server.Direct() && t.cfg.server.Host != "localhost" && (err != nil || !addr.IsLoopback())
}

// answersAt asks one address. surely: there is such an address, and nobody listens there.
func answersAt(ctx context.Context, q probe.Question, addr string, dial dialer) (found exposure, surely bool) {
	c, err := dial(ctx, addr)
	switch {
	case sshlink.Unconnected(err):
		return enclosed, sshlink.NobodyListens(err)
	case err != nil:
		return untold, false
	}
	defer func() { _ = c.Close() }()
	q.URL, q.Once = "http://"+addr+gate.Past, true
	q.Dial = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	if f := probe.URL(ctx, q); f.Kind == probe.Ours && f.Server == "" { // a web server that listens there is not past itself
		return exposed, false
	}
	return enclosed, false
}

// exposure takes what was seen after a link came up.
func (s *supervisor) exposure(found exposure) {
	was := s.exposed.Load()
	if found != untold { // a slow line may be why: what was seen before stands
		s.exposed.Store(found == exposed)
	}
	if was && found == enclosed {
		s.board.warn(portOpen, nil)
	}
	if found == exposed && s.failed == nil {
		told := fault.Exposed(s.hooks.addr().(*net.TCPAddr).Port)
		s.board.warn(portOpen, told)
		if s.hooks.public() {
			s.fail(told)
		} else if !was {
			s.log.Warn(told.Error(), "hint", told.Hint)
		}
	}
	s.firstLook.Do(func() { close(s.lookedPast) })
}
