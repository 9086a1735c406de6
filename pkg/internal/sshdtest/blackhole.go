// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// BlackHole is a listener at an address of 127/8 whose backlog is full: further SYNs are dropped
// (listen(2), tcp_abort_on_overflow off), as by a firewall. The function that it returns takes
// one of those that wait.
func BlackHole(t testing.TB, host string, port int) (accept func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	to := &syscall.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(host).As4()}
	if err := errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1), syscall.Bind(fd, to), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port)).String()
	for {
		c, err := net.DialTimeout("tcp", addr, 500*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return func() {
		n, _, err := syscall.Accept(fd)
		if err == nil {
			_ = syscall.Close(n)
		}
	}
}
