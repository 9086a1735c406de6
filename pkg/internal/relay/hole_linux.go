// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// emptied bounds the wait for what the kernel has sent already: an acknowledgement is up to 40 ms late (delayed ACK).
const emptied = 300 * time.Millisecond

// Hole has every connection that is open carry nothing more, either way, until Resume, and not even acknowledge what either end
// sends: so a NAT or a firewall does that has forgotten it. Mute leaves that to this machine's kernel, which takes what it has room
// for. Neither end is told.
func (r *Relay) Hole() { r.hole(func(*pair) bool { return true }) }

// HoleOne is Hole for one connection of those that are up.
func (r *Relay) HoleOne() {
	one := false
	r.hole(func(p *pair) bool {
		first := !one && p.far != nil && p.held == nil
		one = one || first
		return first
	})
}

func (r *Relay) hole(which func(*pair) bool) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		if !which(p) {
			continue
		}
		if p.held == nil {
			p.held = make(chan struct{})
		}
		p.hear(deafen)
	}
}

// Resume has what Hole silenced go on, as a way does that was silent for a while: both ends' kernels send again what was
// lost, and ends and resets pass that came in between, if they are sent again.
func (r *Relay) Resume() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		if p.held != nil {
			p.hear(undeafen)
			close(p.held)
			p.held = nil
		}
	}
}

func (p *pair) hear(how func(*net.TCPConn) error) {
	for _, c := range []*net.TCPConn{p.near, p.far} {
		if c != nil {
			p.must(how(c))
		}
	}
}

// deafen drops all that comes. What was sent and is not acknowledged yet the kernel would send again, and each time
// acknowledge what came: it is waited for.
func deafen(c *net.TCPConn) error {
	return control(c, func(fd int) error {
		for deadline := time.Now().Add(emptied); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if left, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil || left == 0 {
				break
			}
		}
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
}

func undeafen(c *net.TCPConn) error {
	return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
}

func control(c *net.TCPConn, do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errors.Join(err, failed)
}
