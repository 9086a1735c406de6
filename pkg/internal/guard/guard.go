// SPDX-License-Identifier: Apache-2.0

// Package guard starts goroutines in a process that is not ours.
//
// The engine runs inside somebody's notebook kernel, where an unrecovered panic takes their
// work with it. So no other package uses a go statement; they hold a Group:
//
//	g := guard.Group{Panicked: func(err error) { … }}
//	g.Go(func() { … })
//	g.Wait() // nothing of g runs any more, and nothing will
//
// What recover cannot stop (concurrent map writes, stack overflow) is left to the race
// detector: one goroutine owns each piece of state.
package guard

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// A Group is a set of goroutines that end together. The zero value is ready for use.
type Group struct {
	// Panicked is told of a panic in any goroutine of the group, with its stack, from that
	// goroutine. Nil: the panic is dropped. Set it before the first Go.
	Panicked func(error)

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// Go runs f in a goroutine of its own and reports true. Once Wait was called it reports false
// and f does not run, so that a late event cannot start what nobody waits for.
func (g *Group) Go(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		defer func() {
			if p := recover(); p != nil && g.Panicked != nil {
				g.Panicked(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		f()
	}()
	return true
}

// Wait ends the group: it returns when every goroutine of it has returned. It does not make
// them return; that is for whoever started them.
func (g *Group) Wait() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.wg.Wait()
}
