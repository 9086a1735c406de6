// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control runs f on c's descriptor; connections without one (tests, later: jumps) are left alone.
func control(c net.Conn, f func(fd int)) {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}

// setUserTimeout makes the kernel give up on data that stays unacknowledged for d (tcp(7),
// TCP_USER_TIMEOUT): the belt below the progress watch.
func setUserTimeout(c net.Conn, d time.Duration) {
	control(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// setQuickACK has what was just read acknowledged at once (tcp(7), TCP_QUICKACK). The kernel
// takes it back by itself, so it is set after each read.
func setQuickACK(c net.Conn) {
	control(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}

// acked returns how many bytes the peer's kernel has acknowledged so far (tcpi_bytes_acked).
func acked(c net.Conn) (n uint64) {
	control(c, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_acked
		}
	})
	return n
}

// allAcked reports whether the peer's kernel has acknowledged all that was written (tcpi_unacked, tcpi_notsent_bytes).
func allAcked(c net.Conn) (all bool) {
	control(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		all = err == nil && info.Unacked == 0 && info.Notsent_bytes == 0
	})
	return all
}
