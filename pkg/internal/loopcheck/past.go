// SPDX-License-Identifier: Apache-2.0

package loopcheck

import (
	"context"
	"net"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// PastWait is how long the answers are waited for: a firewall that drops what is sent gives none.
const PastWait = 5 * time.Second

// Past asks whether the tunnel answers past the web server, at its port on addresses that were not asked for.
type Past struct {
	Question probe.Question
	Port     string
	// Within connects from the proxy to an address, Direct from this machine to Host; nil: that would tell nothing.
	Within, Direct func(context.Context, string) (net.Conn, error)
	Host           string
	// Go runs a function beside, or returns false.
	Go func(func()) bool
}

// Ask asks from the proxy, and from this machine, which is heeded where the account may open no connection from the proxy. told: the
// answer is known.
func (p Past) Ask(ctx context.Context) (here, told bool) {
	type answer struct{ here, told bool }
	ctx, cancel := context.WithTimeout(ctx, PastWait)
	defer cancel()
	within, direct := make(chan answer, 1), make(chan answer, 1)
	if !p.Go(func() {
		here, told := askAliases(ctx, p.Question, p.Port, p.Within)
		within <- answer{here, told}
	}) {
		return false, false
	}
	if p.Direct == nil || !p.Go(func() {
		here, told, _ := answersAt(ctx, p.Question, net.JoinHostPort(p.Host, p.Port), p.Direct)
		direct <- answer{here, told}
	}) {
		direct = nil
	}
	for within != nil || direct != nil {
		select {
		case a := <-within:
			if a.here || a.told {
				return a.here, true
			}
			within = nil
		case a := <-direct: // that nothing answers may be a firewall's doing
			if a.here {
				return true, true
			}
			direct = nil
		case <-ctx.Done():
			return false, false
		}
	}
	return false, false
}

// aliases are further addresses of the proxy's loopback interface: 127.0.0.2 on Linux, ::1 where there is none. What was bound to
// 127.0.0.1 does not answer there, and what was bound to all addresses does; no packet leaves the machine, and no name is
// resolved, for which sshd would keep the whole link waiting. Dropbear binds ::1 along with 127.0.0.1.
var aliases = []string{"127.0.0.2", "::1"}

// askAliases asks those addresses from the proxy, until one tells whether the tunnel answers there.
func askAliases(ctx context.Context, q probe.Question, port string, dial func(context.Context, string) (net.Conn, error)) (here, told bool) {
	told = true
	for _, host := range aliases {
		here, knows, nobody := answersAt(ctx, q, net.JoinHostPort(host, port), dial)
		if here || nobody {
			return here, true
		}
		told = told && knows
	}
	return false, told
}

// answersAt asks one address. nobody: there is such an address, and nobody listens there.
func answersAt(ctx context.Context, q probe.Question, addr string, dial func(context.Context, string) (net.Conn, error)) (here, told, nobody bool) {
	c, err := dial(ctx, addr)
	switch {
	case sshlink.Unconnected(err):
		return false, true, sshlink.NobodyListens(err)
	case err != nil:
		return false, false, false
	}
	defer func() { _ = c.Close() }()
	q.URL, q.Once = "http://"+addr+gate.Past, true
	q.Dial = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	f := probe.URL(ctx, q)
	return f.Kind == probe.Ours && f.Server == "", true, false // a web server that listens there is not past itself
}
