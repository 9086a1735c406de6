// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// LinkLost: a link that was up has ended.
func LinkLost(err error) *Error {
	return unreachable("link", fmt.Errorf("connection lost: %w", err), "")
}

// ErrStalled marks that this end gave the link up, for nothing came from the server.
var ErrStalled = errors.New("no answer")

// NoProgress: the link is up for the kernel but nothing passes.
func NoProgress(waited time.Duration) *Error {
	return unreachable("link", fmt.Errorf("connection lost: %w and no progress for %v", ErrStalled, waited), "")
}

// Mute: the server has let the account in, and has said nothing since, although its kernel takes what it is sent.
func Mute(addr string, waited time.Duration) *Error {
	return unreachable("link", fmt.Errorf("%s let the account in, and then gave %w for %v", addr, ErrStalled, waited),
		"what it does at each login takes too long (PAM's session modules, such as pam_systemd; a home directory on a network), or its machine is overloaded: "+
			"the admin looks there, into "+sshLog)
}

// Unanswered: the server lives, and does not say whether it listens.
func Unanswered(waited time.Duration) *Error {
	return unreachable("link", fmt.Errorf("connection given up: a request to listen was not answered for %v", waited), "")
}

// Silent: there was no time to wait any longer for the answer to what was asked over a link.
func Silent(what string, err error) *Error {
	return unreachable("link", fmt.Errorf("no answer to %s: %w", what, err), "")
}

// ErrWaits marks that visitors wait, for the server takes no connection of theirs, or hardly any.
var ErrWaits = errors.New("visitors wait")

// Waits is that for a reason that is not known. server is "user@host:port".
func Waits(server string) *Error {
	return waits("sshd at %s takes no connection of theirs, although it answers; it may have no file descriptors left", server)
}

// Starved: the server does not even open a socket.
func Starved(server string) *Error {
	return waits("sshd at %s opens no socket any more: it has no file descriptors left", server)
}

func waits(why, server string) *Error {
	return &Error{Op: "link", Class: ErrForward, Err: fmt.Errorf("%w: "+why, ErrWaits, server),
		Hint: "reconnect: a new link has descriptors of its own. The admin raises how many each has (systemctl edit ssh: [Service] LimitNOFILE=65536, and then restarts it; elsewhere than on Debian and Ubuntu it is called sshd), " +
			"or finds what holds all that the machine has"}
}

// NoMarks: the account cannot see, on the proxy, which link holds the slot.
func NoMarks(slot net.Addr, why error) *Error {
	return &Error{Op: "forward", Class: ErrForward,
		Err: fmt.Errorf("a connection that dies without a word will keep %s on the proxy until sshd itself finds it dead: this account cannot end it (%w)",
			named(slot), Reason(why)),
		Hint: "the admin has sshd find out soon, with ClientAliveInterval 5 and ClientAliveCountMax 2 in sshd_config (Dropbear: -K 5); or lets the account " +
			"run commands: a shell that its start-up files leave alone, a ps that shows its processes, and MaxSessions 2 or more"}
}

// Ended is why a listener accepts nothing any more: a *Error, and a net.ErrClosed.
func Ended(why *Error) error { return ended{why} }

type ended struct{ why *Error }

func (e ended) Error() string { return e.why.Error() }

// Unwrap returns both.
func (e ended) Unwrap() []error { return []error{e.why, net.ErrClosed} }

// Astray: visitors were led to this tunnel, and are led elsewhere now.
func Astray(url, to string, slot net.Addr, raw bool) *Error {
	e := NotOurs(url, "", slot, raw)
	e.Err = fmt.Errorf("%s leads to %s now", url, to)
	e.Hint = "the tunnel takes its place again by itself; if that does not help: " + e.Hint
	return e
}
