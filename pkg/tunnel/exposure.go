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

// exposure is who reaches the slot.
type exposure int

const (
	untold   exposure = iota // it cannot be told
	enclosed                 // the proxy itself alone
	exposed                  // the network, too
)

// exposureWait is how long the answers are waited for: a firewall that drops what is sent gives none.
const exposureWait = time.Second

// aliases are further addresses of the proxy's loopback interface (127.0.0.2 on Linux; ::1 elsewhere, too). What was bound to
// 127.0.0.1 does not answer there, and what was bound to all addresses does; no packet leaves the machine, and no name is
// resolved, for which sshd would keep the whole link waiting.
var aliases = []string{"127.0.0.2", "::1"}

// slotPort is the port of a plain proxy's slot, 0 if there is none: a socket is nobody's but nginx's.
func (t *Tunnel) slotPort() int {
	if p := t.place.Load(); p.known && !p.prepared {
		if tcp, ok := p.slots[0].(*net.TCPAddr); ok {
			return tcp.Port
		}
	}
	return 0
}

// public reports whether everybody is admitted who reaches the slot.
func (t *Tunnel) public() bool {
	if t.door != nil {
		return t.door.access().Public
	}
	return t.cfg.Access.Public
}

// lookPast asks at other addresses of the proxy whether this tunnel answers there: from the proxy, by dial, and from this
// machine, which is heeded where the account may open no connection from the proxy.
func (t *Tunnel) lookPast(ctx context.Context, dial dialer) exposure {
	port := strconv.Itoa(t.slotPort())
	question, end := t.question()
	defer end()
	ctx, cancel := context.WithTimeout(ctx, exposureWait)
	defer cancel()
	within, direct := make(chan exposure, len(aliases)), make(chan exposure, 1)
	ask := func(told chan<- exposure, host string, dial dialer) bool {
		addr := net.JoinHostPort(host, port)
		return t.tasks.Go(func() { told <- answersAt(ctx, question, addr, dial) })
	}
	for _, host := range aliases {
		if !ask(within, host, dial) {
			return untold
		}
	}
	if t.reachedDirectly() {
		d := net.Dialer{Control: t.cfg.Control}
		ask(direct, t.cfg.server.Host, func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) })
	} else {
		direct = nil
	}
	for told, closed := 0, 0; told < len(aliases) || direct != nil; {
		select {
		case found := <-within:
			if found == exposed {
				return exposed
			}
			told++
			if found == enclosed {
				closed++
			}
			if closed == len(aliases) {
				return enclosed
			}
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

// reachedDirectly: the server is another machine, and nothing is in between that would be asked instead, as what serves
// the URL is where it has the number of the slot.
func (t *Tunnel) reachedDirectly() bool {
	if u, err := url.Parse(t.place.Load().url); err != nil || u.Port() == strconv.Itoa(t.slotPort()) {
		return false
	}
	addr, err := netip.ParseAddr(t.cfg.server.Host)
	return t.cfg.server.Direct() && t.cfg.server.Host != "localhost" && (err != nil || !addr.IsLoopback())
}

// answersAt asks one address.
func answersAt(ctx context.Context, q probe.Question, addr string, dial dialer) exposure {
	c, err := dial(ctx, addr)
	switch {
	case sshlink.Unconnected(err):
		return enclosed
	case err != nil:
		return untold
	}
	defer func() { _ = c.Close() }()
	q.URL, q.Once = "http://"+addr+gate.Path, true
	q.Dial = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	if f := probe.URL(ctx, q); f.Kind == probe.Ours && f.Server == "" { // a web server that listens there is not past itself
		return exposed
	}
	return enclosed
}

// exposure takes what was seen after a link came up.
func (s *supervisor) exposure(found exposure) {
	was := s.exposed.Swap(found == exposed)
	if found == exposed && s.failed == nil {
		told := fault.Exposed(s.hooks.addr().(*net.TCPAddr).Port)
		if s.hooks.public() {
			s.fail(told)
		} else if !was {
			s.log.Warn(told.Error(), "hint", told.Hint)
		}
	}
	if !s.looked {
		s.looked = true
		close(s.lookedPast)
	}
}

// lookPastNginx looks in the background whether the network reaches a port that a link has just taken.
func (s *supervisor) lookPastNginx(h *heldLink) {
	if s.hooks.lookPast == nil {
		return
	}
	s.tasks.Go(func() {
		found := s.hooks.lookPast(s.life, h.Dial)
		s.tell(func() { s.exposure(found) })
	})
}

// notExposed waits for the first look, where it decides whether an app may be open to everybody.
func (t *Tunnel) notExposed() error {
	if !t.public() || t.slotPort() == 0 {
		return nil
	}
	select {
	case <-t.sup.lookedPast:
	case <-t.life.Done():
	}
	if s, _ := t.board.read(); s.State == Failed {
		return s.LastError
	}
	return nil
}

// checkExposure is the doctor's look at it.
func (t *Tunnel) checkExposure(ctx context.Context) Checked {
	port := t.slotPort()
	c := Checked{Step: "exposure", OK: true}
	switch t.lookPast(ctx, t.sup.dial) {
	case enclosed:
		c.Seen = "port " + strconv.Itoa(port) + " answers the proxy itself alone"
	case exposed:
		told := fault.Exposed(port)
		c.OK, c.Warn, c.Seen, c.Hint = !t.public(), !t.public(), told.Err.Error(), told.Hint
	default:
		c.Seen = "whether the network reaches port " + strconv.Itoa(port) + " cannot be told: the account may open no connection there from the proxy"
	}
	return c
}
