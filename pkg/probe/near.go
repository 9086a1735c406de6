// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Near is a web app that was seen on this machine.
type Near struct {
	// Addr is where it listens, as the target of a tunnel: "localhost:5000" on a loopback address or on all.
	Addr string `json:"addr"`
	// PID and Program tell the process; Here: it is this one, Below: this one has started it.
	PID     int    `json:"pid"`
	Program string `json:"program"`
	Here    bool   `json:"here"`
	Below   bool   `json:"below"`
}

// Neighbours finds the web apps near this process, of this user: its own, those of processes that it has started, and
// those of other interpreters (Python, Node, R, …). Each socket is asked "GET /" once, however often one looks, and
// thrice if its questions end before it says anything. What never speaks HTTP is not asked: ports of Jupyter's kernels, of debugpy, and of
// Spark's and Py4J's JVM. The zero value is ready for use, by several goroutines. It sees Linux's processes only.
type Neighbours struct {
	// Of is a process: it and those that it has started are looked at alone, whatever they are. Whatever answers in HTTP is an app then, and what
	// did not answer is asked again, after 0.5 to 8 s. 0: there is none.
	Of int

	mu    sync.Mutex
	asked map[string]*verdict // by the socket's inode
}

// verdict is what is known of a socket, once told is closed.
type verdict struct {
	told   chan struct{}
	app    bool
	silent bool      // nothing was said in time
	times  int       // it was asked; nearAgain: it is not asked any more
	next   time.Time // when it may be asked again, with Of
}

const (
	nearTimeout  = time.Second      // one look
	nearPatience = 30 * time.Second // one question: it may be about to start, or compute its first page
	nearMost     = 16               // sockets that are asked in one look
	nearAgain    = 3                // questions to one that says nothing
)

// Look returns what has answered within a second, the nearest first. Ports in never are not asked; spawn runs a function beside its
// caller. A question that is not answered goes on for 30 s, or until ctx ends, and the next look has what came of it.
func (n *Neighbours) Look(ctx context.Context, never []int, spawn func(func()) bool) []Near {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := listeners(never, n.Of)
	now := make(map[string]*verdict, len(found))
	questions := 0
	for _, l := range found {
		v := n.asked[l.inode]
		if questions < nearMost && (v == nil || v.over() && v.again(n.Of != 0)) {
			next := &verdict{told: make(chan struct{}), times: 1}
			if v != nil {
				next.times += v.times
			}
			if spawn(func() {
				defer close(next.told)
				var told bool
				next.app, told = isApp(ctx, l.dial, n.Of != 0)
				next.silent, next.next = !told, time.Now().Add(500*time.Millisecond<<min(next.times-1, 4))
			}) {
				questions++
				v = next
			}
		}
		if v != nil {
			now[l.inode] = v
		}
	}
	n.asked = now
	soon, cancel := context.WithTimeout(ctx, nearTimeout)
	defer cancel()
	near := []Near{}
	for _, l := range found {
		v := now[l.inode]
		if v == nil {
			continue
		}
		select {
		case <-v.told:
		case <-soon.Done():
		}
		one := Near{Addr: l.target, PID: l.pid, Program: l.program, Here: l.kin == itself, Below: l.kin == below}
		if v.over() && v.app && !slices.Contains(near, one) { // a server may have a socket of each family
			near = append(near, one)
		}
	}
	return near
}

// again reports whether a socket is asked again whose question is over. ours: it is the app's own process's.
func (v *verdict) again(ours bool) bool {
	if ours {
		return !v.app && time.Now().After(v.next)
	}
	return v.silent && v.times < nearAgain
}

func (v *verdict) over() bool {
	select {
	case <-v.told:
		return true
	default:
		return false
	}
}

// isApp asks for the first page, which an app may fail to give if it is failing. told is false if nothing was said in time: it may be about to start.
func isApp(ctx context.Context, addr string, failing bool) (is, told bool) {
	ctx, cancel := context.WithTimeout(ctx, nearPatience)
	defer cancel()
	c := client(nil).HTTPClient
	c.Timeout = 0 // ctx ends it
	c.Transport.(*http.Transport).Proxy = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return false, true
	}
	req.Header.Set("User-Agent", "taipy-tunnel")
	resp, err := c.Do(req)
	if err != nil {
		return false, ctx.Err() == nil
	}
	_ = resp.Body.Close()
	return failing || resp.StatusCode < http.StatusInternalServerError, true // Taipy's proxy in a notebook answers 501 once its app was stopped
}
