// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

const (
	maxConnects = 3                       // under way at once
	connectStep = 300 * time.Millisecond  // between them, while none is answered
	connectMore = 1500 * time.Millisecond // after which one gives way, if there are addresses that none was made to
)

// lookup resolves a name; tests have their own.
type lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// connect makes one TCP connection to the server, or by way of an egress proxy.
func (c *Config) connect(ctx context.Context) (net.Conn, error) {
	if c.Via != nil {
		return c.Via.connect(ctx, c)
	}
	port := c.Port
	if port == 0 {
		port = 22
	}
	return c.tcp(ctx, c.Host, port)
}

// tcp makes one TCP connection to the next machine. Connects overlap: a lost SYN is repeated only
// after one, two and four seconds, and an address may lead nowhere. Those that lose are dropped
// while they are still connecting, for sshd counts connections that end without a login
// (PerSourcePenalties), and only the winner hears a banner.
func (c *Config) tcp(ctx context.Context, host string, port int) (net.Conn, error) {
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
	case err != nil && isTimeout(err):
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

// race connects to the addresses in turn, and again to the first ones if there are fewer than
// connects. Its error is the first.
func (c *Config) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tasks guard.Group
	results := make(chan connected, len(addrs)+maxConnects)
	defer func() {
		cancel()
		tasks.Wait()
		for len(results) > 0 { // won as well, but too late
			if r := <-results; r.conn != nil {
				_ = r.conn.Close()
			}
		}
	}()
	limit := dialTimeout
	if len(addrs) > maxConnects {
		limit = connectMore
	}
	d := net.Dialer{Timeout: limit, Control: c.Control}
	made, pending := 0, 0
	start := func() bool {
		if pending == maxConnects || made >= max(len(addrs), maxConnects) {
			return false
		}
		to := netip.AddrPortFrom(addrs[made%len(addrs)], port).String()
		made, pending = made+1, pending+1
		return tasks.Go(func() {
			conn, err := d.DialContext(ctx, "tcp", to)
			results <- connected{conn, err}
		})
	}
	step := time.NewTicker(connectStep)
	defer step.Stop()
	var first error
	for start(); pending > 0; {
		select {
		case <-ctx.Done():
			if first == nil {
				first = os.ErrDeadlineExceeded
			}
			return nil, first
		case <-step.C:
			start()
		case r := <-results:
			if pending--; r.err == nil {
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
			if made < len(addrs) { // an answer, if a bad one: the next address need not wait
				start()
			}
		}
	}
	return nil, first
}
