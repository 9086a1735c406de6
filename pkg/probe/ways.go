// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"time"
)

// Ways are the places from which one URL is asked.
type Ways struct {
	// Here is the question of this machine, There that of the proxy. Nil: nobody asks there.
	Here, There *Question
	// HeadStart is how long Here has before There asks as well. 0: There asks if Here cannot open the URL, and only then.
	HeadStart time.Duration
}

// Ask asks until one way tells, and reports whether that was There. What Here is told counts, but where it cannot open the
// URL, or is stopped by something that lets There pass. spawn runs a function beside its caller; false: it does not.
func (w Ways) Ask(ctx context.Context, spawn func(func()) bool) (f Finding, there bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	here, within := make(chan Finding, 1), make(chan Finding, 1)
	late := time.NewTimer(w.HeadStart)
	defer late.Stop()
	ask := func(q Question, told chan<- Finding) {
		if !spawn(func() { told <- URL(ctx, q) }) {
			told <- Finding{Kind: Unreachable, Answer: "no answer"}
		}
	}
	asked := w.There == nil
	askThere := func() {
		if !asked {
			asked = true
			ask(*w.There, within)
		}
	}
	var untold *Finding // There
	switch {
	case w.Here == nil:
		here = nil
		askThere()
	default:
		ask(*w.Here, here)
		if w.HeadStart == 0 {
			late.Stop()
		}
	}
	var closed Finding // Here
	for {
		select {
		case f = <-here:
			switch {
			case f.Kind == Guarded && w.There != nil && w.HeadStart > 0:
				again := *w.There
				again.Once = true
				if past := URL(ctx, again); past.Kind == Ours { // what else it is told says nothing of where visitors are led who pass
					past.Stopped = f.Answer
					return past, true
				}
				return f, false
			case f.Kind != Unreachable || w.There == nil:
				return f, false
			case untold != nil:
				return f.beside(*untold), true
			}
			here, closed = nil, f
			askThere()
		case <-late.C:
			askThere()
		case f = <-within:
			if (f.Kind == Unreachable || f.Kind == Guarded) && here != nil { // as by permitopen; from here it may lead elsewhere
				untold = &f
				continue
			}
			return closed.beside(f), true
		}
	}
}

// beside is what There found, with why Here could not open the URL if neither could.
func (f Finding) beside(there Finding) Finding {
	if f.Kind == Unreachable && there.Kind == Unreachable {
		there.Answer = f.Answer + "; from the proxy: " + there.Answer
		if f.Untrusted() {
			there.Err = f.Err
		}
	}
	return there
}
