// SPDX-License-Identifier: Apache-2.0

// Package egress makes TCP connections out of this network: directly, or through an egress proxy (HTTP CONNECT, SOCKS5),
// with TLS over them where that is asked for.
//
//	via, err := egress.ViaFromEnvironment(os.Getenv, "proxy.example.com:22", &egress.TLS{}) // nil: no proxy
//	conn, err := (&egress.Dialer{Via: via}).Dial(ctx, "proxy.example.com", 22)
//
// Promises. Of what an egress proxy says no byte beyond its answer is read; its password is in no error and no log.
// A definite refusal is permanent, unless the same way was open before.
package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

const (
	dialTimeout = 5 * time.Second         // for all addresses together
	maxConnects = 3                       // under way at once
	connectStep = 300 * time.Millisecond  // between them, while none is answered
	connectMore = 1500 * time.Millisecond // after which one gives way to the next
)

// lookup resolves a name; tests have their own.
type lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// Dialer makes connections. Its zero value makes them directly.
type Dialer struct {
	// Via is an egress proxy. Nil: there is none.
	Via *Via
	// Control is called with each socket before it connects, as net.Dialer's. Nil: it is not called.
	Control func(network, address string, c syscall.RawConn) error

	resolve lookup // nil: the system's
}

// Dial makes one TCP connection to a server, or has the egress proxy make it. Host is a name or an address; of a
// name all addresses are tried. Errors are a *fault.Error.
func (c *Dialer) Dial(ctx context.Context, host string, port int) (net.Conn, error) {
	if c.Via != nil {
		return c.Via.connect(ctx, c, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return c.tcp(ctx, host, port)
}

// tcp makes one TCP connection to the next machine. Connects overlap: a lost SYN is repeated only
// after one, two and four seconds, and an address may lead nowhere. While none is answered, a SYN leaves
// every half second, so that a network that comes back is used at once, and the wait between two
// attempts is the longest pause. Those that lose are dropped
// while they are still connecting, for sshd counts connections that end without a login
// (PerSourcePenalties), and only the winner hears a banner.
func (c *Dialer) tcp(ctx context.Context, host string, port int) (net.Conn, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	find := c.resolve
	if find == nil {
		find = resolve
	}
	addrs, err := find(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, fault.Resolve(host, err)
	}
	conn, err := c.race(ctx, interleave(addrs), uint16(port))
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	switch {
	case err != nil && fault.IsTimeout(err):
		return nil, fault.NoAnswer(addr, time.Since(begin))
	case err != nil:
		return nil, fault.Connect(addr, err)
	}
	return conn, nil
}

// interleave alternates the families of addresses and leaves the order alone otherwise (RFC 8305,
// section 4): where one of them leads nowhere, the second connect is of the other.
func interleave(addrs []netip.Addr) (out []netip.Addr) {
	var lists [2][]netip.Addr
	for _, a := range addrs {
		at := 0
		if a.Unmap().Is4() != addrs[0].Unmap().Is4() {
			at = 1
		}
		lists[at] = append(lists[at], a.Unmap())
	}
	for i := range max(len(lists[0]), len(lists[1])) {
		for _, l := range lists {
			if i < len(l) {
				out = append(out, l[i])
			}
		}
	}
	return out
}

type connected struct {
	conn net.Conn
	err  error
}

// race connects to the addresses in turn, and to them again while none answers. Its error is the first answer, else a
// timeout.
func (c *Dialer) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tasks guard.Group
	results := make(chan connected, maxConnects)
	made, pending := 0, 0
	defer func() {
		cancel()
		tasks.Wait()
		for range len(results) { // won as well, but too late
			if r := <-results; r.conn != nil {
				_ = r.conn.Close()
			}
		}
	}()
	start := func() {
		if ctx.Err() != nil {
			return
		}
		d := net.Dialer{Timeout: connectMore, Control: c.Control}
		if made < len(addrs) && len(addrs) < maxConnects { // the round trip may be longer, and one more is left for SYNs
			d.Timeout = dialTimeout
		}
		to := netip.AddrPortFrom(addrs[made%len(addrs)], port).String()
		if tasks.Go(func() {
			conn, err := d.DialContext(ctx, "tcp", to)
			results <- connected{conn, err}
		}) {
			made, pending = made+1, pending+1
		}
	}
	step := time.NewTicker(connectStep)
	defer step.Stop()
	first := error(os.ErrDeadlineExceeded)
	silent := true // no address has answered, not even with a refusal
	for start(); pending > 0; {
		select {
		case <-ctx.Done():
			return nil, first
		case <-step.C:
			if pending < maxConnects && (silent || made < max(len(addrs), maxConnects)) {
				start()
			}
		case r := <-results:
			if pending--; r.err == nil {
				return r.conn, nil
			}
			if silent && !fault.IsTimeout(r.err) {
				first, silent = r.err, false
			}
			if made < len(addrs) || silent { // an answer, if a bad one: the next address need not wait
				start()
			}
		}
	}
	return nil, first
}
