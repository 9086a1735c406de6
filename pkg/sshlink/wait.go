// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

// A caller's context ends the caller's wait, and nothing else. x/crypto cannot be told to stop waiting
// for a server, so what was asked for may come when its caller has gone: a channel is closed then, and a
// listening end is given back. The link lives on: it carries visitors who have nothing to do with it.

// answerWithin is how long a forwarding request may be unanswered. Until it is answered it is not known whether
// the server listens, and sshd answers those behind it later still, so the link ends then. Behind what
// fills the buffers of a link of 1 MiB/s an answer took 5.5 s.
const answerWithin = time.Minute

// await runs f in a group, which waits for the server, and returns what f hands over, or ctx's error if ctx ends first, or that the
// link is closed if over is: hand then reports false, and what has come is f's own to undo.
func await[T any](ctx context.Context, in *guard.Group, over <-chan struct{}, f func(hand func(T, error) bool)) (T, error) {
	type outcome struct {
		got T
		err error
	}
	var none T
	ended := make(chan outcome)
	started := in.Go(func() {
		defer close(ended)
		f(func(got T, err error) bool {
			select {
			case ended <- outcome{got, err}:
				return true
			case <-ctx.Done():
				return false
			case <-over:
				return false
			}
		})
	})
	if !started {
		return none, net.ErrClosed
	}
	select {
	case o, handed := <-ended:
		if !handed { // a panic, which ends the link
			return none, net.ErrClosed
		}
		return o.got, o.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-over:
		return none, net.ErrClosed
	}
}

// channel is one that the server has confirmed.
type channel struct {
	ssh.Channel
	reqs <-chan *ssh.Request
}

// open opens a channel (RFC 4254, section 5.1).
func (l *Link) open(ctx context.Context, kind string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	c, err := await(ctx, &l.opens, l.done, func(hand func(channel, error) bool) {
		ch, reqs, err := l.ssh.OpenChannel(kind, payload)
		if !hand(channel{ch, reqs}, err) && err == nil {
			_ = ch.Close()
			ssh.DiscardRequests(reqs) // until the server has closed it too
		}
	})
	return c.Channel, c.reqs, err
}

// openFor is how long a request for a channel may take to fail when the link has ended.
const openFor = time.Second

// opened waits for those that asked for channels when the link has ended. x/crypto has one wait for ever that asks between its
// last look at who is to learn of the end (chanList.dropAll) and the first write that fails. wire leaves no such time where the
// connection ends, but while keys are exchanged; and the server may end the link by a message. Such a one is left behind, with
// the buffers of the connection.
func (l *Link) opened() {
	var waits guard.Group
	all := make(chan struct{})
	waits.Go(func() { defer close(all); l.opens.Wait() })
	select {
	case <-all:
	case <-time.After(openFor):
		l.cfg.Log.Debug("a request for a channel does not end with its link", "server", l.cfg.Addr())
	}
}

// exec has the server run a command in a session.
func (l *Link) exec(ctx context.Context, ch ssh.Channel, command string) error {
	_, err := await(ctx, &l.tasks, nil, func(hand func(struct{}, error) bool) {
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(execPayload{command}))
		if err != nil || !ok {
			err = fmt.Errorf("%w (%v)", ErrNoSession, err)
		}
		hand(struct{}{}, err)
	})
	return err
}

// settle is how long a link that the server ends may live on after what was asked over it has failed.
const settle = 300 * time.Millisecond

// Ended reports whether what was just asked in vain was so because the link has ended, or is ending.
func (l *Link) Ended() bool {
	select {
	case <-l.done:
		return true
	case <-time.After(settle):
		return false
	}
}

// request is a forwarding request: to listen, or to stop.
type request struct {
	name    string
	payload []byte
}

// onPort has the server listen on a port of its loopback address, 0: any (RFC 4254, section 7.1).
func onPort(port int) request { return onAddress(loopback, port) }

// onAddress has it listen on a port of another address.
func onAddress(host string, port int) request {
	return request{"tcpip-forward", ssh.Marshal(forward{host, uint32(port)})}
}

// onSocket has it listen on a unix socket (PROTOCOL of OpenSSH, 2.4).
func onSocket(path string) request {
	return request{"streamlocal-forward@openssh.com", ssh.Marshal(streamlocal{Path: path})}
}

// undone is the request that takes r back. answer is what the server said when it granted r: the port, where
// that was left to it.
func (r request) undone(answer []byte) *request {
	var asked forward
	var given struct{ Port uint32 }
	if ssh.Unmarshal(answer, &given) == nil && ssh.Unmarshal(r.payload, &asked) == nil {
		r.payload = ssh.Marshal(forward{asked.Addr, given.Port})
	}
	return &request{"cancel-" + r.name, r.payload}
}

// ask has the server listen, and returns the request that takes it back; nil if it refuses. What it grants
// when the caller has gone is taken back before anything else is asked for.
func (l *Link) ask(ctx context.Context, r request) (back *request, err error) {
	return await(ctx, &l.tasks, nil, func(hand func(*request, error) bool) {
		l.asking <- struct{}{}
		defer func() { <-l.asking }()
		if ctx.Err() != nil {
			return
		}
		ok, answer, err := l.send(r)
		if !ok {
			hand(nil, err)
		} else if back := r.undone(answer); !hand(back, nil) {
			_, _, _ = l.send(*back)
		}
	})
}

// cancel takes a request back, whether ctx lets its caller wait for that or not.
func (l *Link) cancel(ctx context.Context, back *request) error {
	_, err := await(ctx, &l.tasks, nil, func(hand func(struct{}, error) bool) {
		l.asking <- struct{}{}
		defer func() { <-l.asking }()
		_, _, err := l.send(*back)
		hand(struct{}{}, err)
	})
	return err
}

// send waits for the answer as long as it takes. The caller has the turn.
func (l *Link) send(r request) (ok bool, answer []byte, err error) {
	overdue := time.AfterFunc(answerWithin, func() { l.fail(fault.Unanswered(answerWithin)) })
	defer overdue.Stop()
	ok, answer, err = l.ssh.SendRequest(r.name, true, r.payload)
	return ok && err == nil, answer, err
}

// caughtUp waits until each connection that came before the server's last answer is with its slot: x/crypto delivers the two by ways of
// their own, in which the answer may be the faster one.
func (l *Link) caughtUp(ctx context.Context) {
	handed := make(chan struct{})
	select {
	case l.behind <- handed:
	case <-l.done:
		return
	case <-ctx.Done(): // it cannot refuse what it has, as the link takes nothing
		return
	}
	select {
	case <-handed:
	case <-ctx.Done():
	}
}

// emptied waits until Accept has returned what came before the server's answer.
func (s *Listener) emptied(most time.Duration) {
	for begin := time.Now(); len(s.pending) > 0 && !isDone(s.link.done) && time.Since(begin) < most; {
		time.Sleep(time.Millisecond)
	}
}
