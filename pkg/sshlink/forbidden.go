// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// forbiddenFor bounds the search for the reason of a refusal.
const forbiddenFor = 10 * time.Second

// passwordExpired is what a session of an account says that has to choose another password first: sshd's two lines where there is no
// terminal (session.c, do_pwchange), and PAM's, which some versions print before them (pam_unix_acct.c; in brackets also "root
// enforced" or "password aged", until 1.4). Only whole lines: a menu in place of a shell, or nologin(8), may have advice about passwords.
var passwordExpired = regexp.MustCompile(`(?m)^(WARNING: Your password has expired\.|Password change required but no TTY available\.|` +
	`You are required to change your password immediately \([a-z ]+\)\.?)\s*$`)

// forbidden tells why the server refuses the port, and any free one of 127.0.0.1 as well. The refusals look the same, so other
// things are asked for that one cause grants and the others do not. What is granted is given back at once.
func (l *Link) forbidden(ctx context.Context, port int) *fault.Error {
	ctx, cancel := context.WithTimeout(ctx, forbiddenFor)
	defer cancel()
	grants := func(host string, port int) bool {
		back, err := l.ask(ctx, onAddress(host, port))
		return back != nil && err == nil && l.cancel(ctx, back) == nil
	}
	switch {
	case grants("::1", 0): // AddressFamily inet6
		return fault.IPv6Alone(port)
	case grants("localhost", port): // permitlisten of another word, or of the port alone while somebody has it on 127.0.0.1
		c, err := l.Dial(ctx, net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err == nil {
			_ = c.Close()
			return fault.Taken(port, true)
		}
		if Unconnected(err) {
			return fault.OtherWords(port)
		}
	}
	sockets, err := l.Script(ctx, "cat /proc/net/tcp /proc/net/tcp6")
	if e, ok := errors.AsType[*NoShellError](err); ok {
		if said := passwordExpired.FindString(e.Said); said != "" {
			return fault.PasswordExpired(l.cfg.User, l.cfg.Addr(), said)
		}
	}
	select {
	case <-l.unopened:
		return fault.NoPAMSession(l.cfg.User)
	default:
	}
	if l.isTaken(ctx, port, sockets) { // a key that may have this port alone is refused any other one
		return fault.Taken(port, false)
	}
	return fault.Forbidden(port)
}

// isTaken reports whether somebody was seen to listen on a port of 127.0.0.1: in the kernel's table, or, where the account reads
// nothing there, by a connection.
func (l *Link) isTaken(ctx context.Context, port int, sockets []byte) bool {
	if len(sockets) > 0 {
		return regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: (?:0100007F|0{8}|0{32}|0{16}FFFF00000100007F):%04X \S+ 0A `, port)).Match(sockets)
	}
	c, err := l.Dial(ctx, net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
