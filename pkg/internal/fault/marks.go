// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
)

// The marks of transient errors, for the decision when to try again. They follow from what the attempt cost the server.
var (
	// ErrUnconnected marks that there was no TCP connection: the server has not heard of the attempt.
	ErrUnconnected = errors.New("not connected")
	// ErrOverload marks that the server had no room for another login in that instant.
	ErrOverload = errors.New("the server is overloaded")
	// ErrPatience marks that the server refuses connections for now: it is overloaded, or punishes this network.
	ErrPatience = errors.New("the server asks for patience")
)

// marked is an error with a mark that its text does not show.
type marked struct {
	error
	mark error
}

func (m marked) Unwrap() []error { return []error{m.error, m.mark} }

// unconnected is unreachable, and the server has not heard of it.
func unconnected(op string, err error, hint Hint) *Error {
	return unreachable(op, marked{err, ErrUnconnected}, hint)
}

// Overload: the server closed the connection because it has as many logins under way as it takes. That it does not
// always say: its line is lost when our own first words reach it after that.
func Overload(e *Error) *Error {
	e.Err = marked{e.Err, ErrOverload}
	return e
}

// Full: the server has as many logins under way as it takes (MaxStartups of sshd), and says so.
func Full(addr, line string) *Error {
	return Overload(unreachable("banner", fmt.Errorf("%s takes no more logins at once: %q", addr, Clip(line)),
		"many connections log in there at the same time; it passes by itself (sshd_config: MaxStartups)"))
}

// Patience: the server refuses connections for now (PerSourcePenalties of sshd; from 9.8 on MaxStartups, too).
func Patience(addr, line string) *Error {
	return unreachable("banner", fmt.Errorf("%s refuses connections for now: %q: %w", addr, Clip(line), ErrPatience),
		"too many connections or failed logins from this network; it passes by itself (sshd_config: MaxStartups, PerSourcePenalties)")
}
