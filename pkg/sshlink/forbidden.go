// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// forbiddenFor bounds the search for the reason of a refusal.
const forbiddenFor = 10 * time.Second

// passwordExpired is what sshd or PAM has a session of an account say that has to choose another password first. A menu in
// place of a shell may offer to change it.
var passwordExpired = regexp.MustCompile(`(?i)password (has )?expired|password change required|(must|required to) change your password|expired password`)

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
			return fault.Busy(port)
		}
		if Unconnected(err) {
			return fault.OtherWords(port)
		}
	}
	_, err := l.Script(ctx, "")
	if e, ok := errors.AsType[*NoShellError](err); ok && passwordExpired.MatchString(e.Said) {
		return fault.PasswordExpired(l.cfg.User, l.cfg.Addr(), e.Said)
	}
	return fault.Forbidden(port)
}
