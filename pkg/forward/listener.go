// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net"
	"net/netip"
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// Flows are connections that a listener is looked up for, told apart by their source port. Sockets
// that share a port (SO_REUSEPORT) are dealt connections by a hash of it: of 16 flows all go to one of
// two such sockets 1 time in 32768.
const (
	oneFlow   = 1
	manyFlows = 16
)

// Listener identifies the socket that takes connections to Addr now: the id is that of no other
// socket, so a server that was stopped and another one on its port differ, also within one process.
// It is 0 if no such socket is on this machine, and while there is no app. It is false if that cannot
// be told: several sockets share the port, or the kernel does not say (only Linux's does, to those who
// may open a netlink socket). 5 µs, whatever number of sockets the machine has.
func (t *Target) Listener() (id uint64, known bool) {
	t.mu.Lock()
	places, alone := t.places, t.alone
	t.mu.Unlock()
	if id, known = listening(places, oneFlow); !known || id == 0 || id == alone {
		return id, known
	}
	return t.lookAround()
}

// lookAround finds out whether one socket takes all connections, and remembers that. It is done for
// each connection, lest one be kept that was made to a second socket, which came later.
func (t *Target) lookAround() (id uint64, known bool) {
	t.mu.Lock()
	places := t.places
	t.mu.Unlock()
	id, known = listening(places, manyFlows)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alone = id; !known {
		t.alone = 0
	}
	return id, known
}

// listening is the inode of the socket that listens at the first of the places where one does, as they are dialled.
func listening(places []netip.AddrPort, flows int) (id uint64, known bool) {
	for _, p := range places {
		if inode, known := listener(p, flows); !known || inode != 0 {
			return uint64(inode), known
		}
	}
	return 0, true
}

// places are the sockets' addresses that a connection to addr may reach on this machine. Another
// machine has none, nor has a name besides localhost: where it leads is known to who dials it.
func places(addr string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil
	}
	at := func(ips ...netip.Addr) (found []netip.AddrPort) {
		for _, ip := range ips {
			found = append(found, netip.AddrPortFrom(ip, uint16(number)))
		}
		return found
	}
	if host == "localhost" {
		return at(loopback4, loopback6)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified(): // net dials this machine then, by IPv4
		return at(loopback4)
	case err == nil && (ip.Unmap().IsLoopback() || own(ip)):
		return at(ip.Unmap())
	}
	return nil
}

// own reports whether ip is an address of this machine.
func own(ip netip.Addr) bool {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if mine, ok := netip.AddrFromSlice(n.IP); ok && mine.Unmap() == ip.Unmap() {
				return true
			}
		}
	}
	return false
}
