// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// The loop check: a tunnel asks again and again who answers its visitors, for sshd tells nobody that a socket has
// passed to another link, that its file is gone, or that nginx leads elsewhere. What is seen goes to the table of slots,
// which acts on it.

// lookAtSlots says who answers at each slot, asked over a link or, where only that was possible, at the public URL.
func (t *Tunnel) lookAtSlots(ctx context.Context, over link, slots int) []sight {
	seen := make([]sight, slots)
	if s, _ := t.board.read(); !t.place.Load().slotwise && s.Checked == "" {
		return nil // it cannot be told
	}
	if !t.place.Load().slotwise {
		worst := unknown
		for range slots { // nginx leads by turns to each
			if one := t.lookAtURL(ctx, over, 0); one != unknown && (worst == unknown || worst == ours || one == newer) {
				worst = one
			}
		}
		for i := range seen {
			seen[i] = worst
		}
		return seen
	}
	var asked sync.WaitGroup
	for i := range seen {
		asked.Add(1)
		if !t.tasks.Go(func() { defer asked.Done(); seen[i] = t.lookAtSlot(ctx, over, i, 0) }) {
			asked.Done()
		}
	}
	asked.Wait()
	return seen
}

// lookAtSlot says who answers at one slot. wait bounds it; 0: as long as a question waits.
func (t *Tunnel) lookAtSlot(ctx context.Context, over link, slot int, wait time.Duration) sight {
	if !t.place.Load().slotwise {
		return t.lookAtURL(ctx, over, wait)
	}
	q, end := t.question()
	defer end()
	q = t.fromProxy(q, over.Dial)
	q.Once, q.Timeout = true, wait
	if u, err := url.Parse(q.URL); err == nil {
		q.URL = u.JoinPath("slots", strconv.Itoa(slot)).String()
	}
	var reached atomic.Bool
	dial := q.Dial
	q.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		reached.Store(err == nil)
		return c, err
	}
	f := probe.URL(ctx, q)
	if f.Kind == probe.Unreachable && reached.Load() && ctx.Err() == nil {
		return silent
	}
	return t.sees(f)
}

// lookAtURL says who answers at the public URL, asked in the way in which it was seen to lead here.
func (t *Tunnel) lookAtURL(ctx context.Context, over link, wait time.Duration) sight {
	q, end := t.question()
	defer end()
	q.Once, q.Timeout = true, wait
	switch s, _ := t.board.read(); s.Checked {
	case "url":
	case "link":
		q = t.fromProxy(q, over.Dial)
	default:
		return unknown
	}
	return t.sees(probe.URL(ctx, q))
}

// sees is what a finding means, which also tells the proxy's time.
func (t *Tunnel) sees(f probe.Finding) sight {
	t.check.learn(f.Time)
	switch f.Kind {
	case probe.Ours:
		return ours
	case probe.Newer:
		return newer
	case probe.Older:
		return older
	case probe.Nobody:
		return nobody
	case probe.Elsewhere:
		return foreign
	}
	return unknown // among them a tunnel that does not know its own time yet
}

// newer asks the public URL whether it leads to a newer tunnel now.
func (t *Tunnel) newer(ctx context.Context) bool {
	l := t.sup.one()
	return l != nil && t.lookAtURL(ctx, l, 0) == newer
}

// ownURL is where the gate answers questions. Without a gate any address would do.
func (t *Tunnel) ownURL() string {
	u, err := url.Parse(t.place.Load().url)
	if err != nil {
		return t.place.Load().url
	}
	u.RawQuery, u.Fragment = "", ""
	return u.JoinPath(gate.Path).String()
}
