// SPDX-License-Identifier: Apache-2.0

// Package fault holds the errors that people read: their classes, their type and, in
// messages.go and workspace.go, every sentence of them.
//
// A foreign error is classified once, by the package that it enters:
//
//	conn, err := dialer.DialContext(ctx, "tcp", addr)
//	if err != nil {
//		return nil, fault.Connect(addr, err)
//	}
//
// Nobody else reads its text. Package tunnel gives these names to the outside.
package fault

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"unicode"
)

// The classes. Each error that people read belongs to one; errors.Is(err, class) tells.
var (
	ErrConfig      = errors.New("bad configuration")
	ErrHostKey     = errors.New("host key not trusted")
	ErrAuth        = errors.New("login refused")
	ErrForward     = errors.New("forward refused")
	ErrUnreachable = errors.New("proxy unreachable")
	ErrHop         = errors.New("machine on the way unreachable")
	ErrApp         = errors.New("app unreachable")
	ErrLimit       = errors.New("a limit of this machine is reached")
	ErrWorkspace   = errors.New("workspace unusable")
	ErrClosed      = error(closed{})
	ErrInternal    = errors.New("internal error")
)

// closed is what package net calls so, too: servers tell by net.ErrClosed that their listener was closed.
type closed struct{}

func (closed) Error() string { return "tunnel closed" }

func (closed) Unwrap() error { return net.ErrClosed }

// ErrReplaced marks the end of a tunnel whose port a newer one has taken.
var ErrReplaced = errors.New("replaced by a newer tunnel")

// ErrNoScope marks that a workspace has no secret scope of a name.
var ErrNoScope = errors.New("no such secret scope")

// Error is an error that a person reads: which step failed, why, and what to do.
type Error struct {
	// Op is the step: "configuration", "connect", "banner", "host key", "login", "forward", …
	Op string
	// Err says what happened.
	Err error
	// Hint says what to do; "" where nothing can be advised.
	Hint Hint
	// Class is one of the sentinels; errors.Is(e, e.Class) is true.
	Class error
	// Permanent: trying again cannot help until somebody changes something.
	Permanent bool
}

// maxText is how much of an error is shown: what a server says may be a megabyte.
const maxText = 2000 // characters

// Error is one line without control characters, whatever a server's words in it were.
func (e *Error) Error() string {
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, e.Op+": "+e.Err.Error())
	if text := []rune(line); len(text) > maxText {
		line = string(text[:maxText]) + "…"
	}
	return line
}

// Unwrap gives errors.Is and errors.As both the class and the cause.
func (e *Error) Unwrap() []error { return []error{e.Class, e.Err} }

// IsPermanent reports whether err is an Error that trying again cannot mend.
func IsPermanent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Permanent
}

// classNames are the classes as the C interface and Python know them.
var classNames = map[error]string{
	ErrConfig: "config", ErrHostKey: "host_key", ErrAuth: "auth", ErrForward: "forward",
	ErrUnreachable: "unreachable", ErrHop: "hop", ErrApp: "app", ErrLimit: "limit", ErrWorkspace: "workspace", ErrClosed: "closed", ErrInternal: "internal",
}

// MarshalJSON gives {"class","op","message","hint"}, the hint with its marks.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Class   string `json:"class"`
		Op      string `json:"op"`
		Message string `json:"message"`
		Hint    Hint   `json:"hint"`
	}{classNames[e.Class], e.Op, e.Error(), e.Hint})
}

// From returns err as an Error, an unforeseen one as a defect of ours.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Internal(err)
}

// IsTimeout reports whether a network's error says that time ran out.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
