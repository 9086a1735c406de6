// SPDX-License-Identifier: Apache-2.0

package relay

import "syscall"

// narrow is what the kernel may hold of a connection at each end of a narrow way, in bytes: what waits is to wait with
// those who send it. It has to be set before there is a connection: a window that was promised is not taken back, and what
// does not fit then is dropped.
const narrow = 16 << 10

// small has a socket hold little, and those at its other end send segments of Ethernet's size: loopback's are 64 KiB, which
// do not fit into a small window. The kernel then counts as if nothing moved (TCP_USER_TIMEOUT), and ends a connection that does.
func small(_, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) {
		if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, narrow); err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1448)
		}
	})
	if err == nil {
		err = failed
	}
	return err
}
