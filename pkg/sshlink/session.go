// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// maxOutput is how much of a command's output is read; the rest is thrown away.
const maxOutput = 1 << 20

// ErrNoSession is returned by Run where the server permits no session or runs no command in it.
var ErrNoSession = errors.New("the server runs no commands for this account")

// A refusedSession is an ErrNoSession: the server opens none (further: beside an earlier one), whatever it would run.
type refusedSession struct {
	further bool
	err     error
}

func (e *refusedSession) Error() string {
	if e.further {
		return fmt.Sprintf("the server opens no second session for this account, as with MaxSessions 1: %v", e.err)
	}
	return fmt.Sprintf("the server opens no session for this account: %v", e.err)
}

func (e *refusedSession) Unwrap() []error { return []error{ErrNoSession, e.err} }

// execPayload is the payload of an exec request (RFC 4254, section 6.5).
type execPayload struct{ Command string }

// Hold opens a session and has the server run a command in it until Release or until the link ends, unless it
// refuses; with nil the session alone, unless there was one before: of ReadFile, for instance. command is called when the session is
// open, and what it returns is sent at once. A session belongs before the
// first visitor: sshd before 10.1 leaves Nagle's algorithm on until there is one (channels then wait 44 ms for each
// other's acknowledgement: a third of the requests per second). Until then, and where none is permitted,
// incoming data is acknowledged at once instead.
//
// said is called with each line that command prints, by one goroutine, as [Command].Said is; nil: they are thrown away.
func (l *Link) Hold(ctx context.Context, command func() string, said func(line string)) error {
	if command == nil && l.hadSession.Load() {
		return nil
	}
	ch, reqs, err := l.session(ctx)
	if errors.Is(err, ErrNoSession) {
		l.cfg.Log.Debug("the server permits no session", "reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	l.tasks.Go(func() { l.heldUntil(reqs) })
	l.tasks.Go(func() { _, _ = io.Copy(io.Discard, ch.Stderr()) })
	if said == nil {
		said = func(string) {}
	}
	l.tasks.Go(func() { eachLine(ch, said) })
	l.wire.quickack.Store(false)
	if command == nil {
		return nil
	}
	l.mu.Lock()
	l.held = ch
	l.mu.Unlock()
	_, err = ch.SendRequest("exec", false, ssh.Marshal(execPayload{command()}))
	return err
}

// withoutPAM is the status with which sshd ends a command for which PAM has opened no session (do_child in OpenSSH's session.c); it does so
// without PAM for /etc/nologin as well (do_nologin), and forwards ports then.
const withoutPAM = 254

// Unopened is closed when the command that Hold runs has ended so.
func (l *Link) Unopened() <-chan struct{} { return l.unopened }

// heldUntil waits until a session ends, and heeds how.
func (l *Link) heldUntil(reqs <-chan *ssh.Request) {
	exited := make(chan exit, 1)
	exits(reqs, exited)
	select {
	case e := <-exited:
		if e.status == withoutPAM {
			l.noPAM.Do(func() { close(l.unopened) })
		}
	default:
	}
}

// Release ends the session of the command that Hold runs, which reads the end of its input. It does not wait for the server.
func (l *Link) Release() {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	if held != nil {
		l.tasks.Go(func() { _ = held.Close() })
	}
}

// Run has the server run command in a session of its own, without input, and returns what it printed, at most
// 1 MiB, whatever its exit status. ErrNoSession if the server does not. What is still running when
// ctx ends (a command that the server forces may never) is left alone, and the link stays.
func (l *Link) Run(ctx context.Context, command string) ([]byte, error) {
	output, _, err := l.run(ctx, command, 0)
	return output, err
}

// run is Run where the command's input ends after a while only. waits: it had not ended before.
func (l *Link) run(ctx context.Context, command string, open time.Duration) (said []byte, waits bool, err error) {
	ch, reqs, err := l.session(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = ch.Close() }()
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	l.tasks.Go(func() { _, _ = io.Copy(io.Discard, ch.Stderr()) })
	if err := l.exec(ctx, ch, command); err != nil {
		return nil, false, err
	}
	var output []byte
	var failed error
	ended := make(chan struct{})
	l.tasks.Go(func() { defer close(ended); output, failed = io.ReadAll(io.LimitReader(ch, maxOutput)) })
	for end := time.After(open); ; {
		select {
		case <-end:
			waits = true
			_ = ch.CloseWrite()
		case <-ended:
			return output, waits, failed
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-l.done:
			return nil, false, net.ErrClosed
		}
	}
}

// sessionWaits are the waits before a session is asked for again: an earlier one counts (MaxSessions)
// until the server has seen its process end, shortly after its channel was closed; on a machine with a load of 23 that took longer than
// the first three, once in 80 checks of a proxy.
var sessionWaits = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond, 320 * time.Millisecond, 1280 * time.Millisecond}

// session opens a session channel.
func (l *Link) session(ctx context.Context) (ch ssh.Channel, reqs <-chan *ssh.Request, err error) {
	for try := 0; ; try++ {
		ch, reqs, err = l.open(ctx, "session", nil)
		refused, ok := errors.AsType[*ssh.OpenChannelError](err)
		switch {
		case err == nil:
			l.hadSession.Store(true)
			return ch, reqs, nil
		case ctx.Err() != nil && !ok:
			l.hadSession.Store(true) // it may come yet
			return nil, nil, fault.Silent("the request for a session", err)
		case !ok: // in x/crypto's words an unexpected packet, <nil>
			if why := l.Err(); why != nil {
				return nil, nil, why
			}
			return nil, nil, fault.LinkLost(io.EOF)
		case try == len(sessionWaits) || !l.hadSession.Load():
			return nil, nil, &refusedSession{l.hadSession.Load(), refused}
		}
		select {
		case <-time.After(sessionWaits[try]):
		case <-ctx.Done():
			return nil, nil, &refusedSession{l.hadSession.Load(), refused}
		}
	}
}
