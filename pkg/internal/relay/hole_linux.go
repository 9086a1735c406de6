// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// emptied bounds the wait for what the kernel has sent already: an acknowledgement is up to 40 ms late (delayed ACK).
const emptied = 300 * time.Millisecond

// Hole has every connection that is open say nothing more, as Mute, and not even acknowledge what either end sends: so a
// NAT or a firewall does that has forgotten it. Mute leaves that to this machine's kernel, which takes what it has room for.
func (r *Relay) Hole() {
	r.t.Helper()
	r.Mute()
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		for _, c := range []*net.TCPConn{p.near, p.far} {
			if c != nil {
				r.must(deafen(c))
			}
		}
	}
}

// deafen drops all that comes. What was sent and is not acknowledged yet the kernel would send again, and each time
// acknowledge what came: it is waited for.
func deafen(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for deadline := time.Now().Add(emptied); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if left, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil || left == 0 {
				break
			}
		}
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	if err == nil {
		err = failed
	}
	return err
}
