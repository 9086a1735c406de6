// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// retry decides when the links of one tunnel are tried again, and what ends it. The run loop owns it: it
// hears what became of each link, and is asked before each attempt.
//
//	if wait, why := r.ready(link); wait > 0 { … } // not yet; why is nil where the cause is as before
//	r.up()                                        // the attempt made a link,
//	wait, permanent := r.failed(link, err, others) // or it did not, while so many others are up
//	wait := r.lost(link, lived, others)
//
// What is permanent follows from the error's class and the tunnel's history: a proxy that once granted what it refuses
// now may grant it again. A host key that is not the known one is refused by us, and stays permanent.
type retry struct {
	refusals *refusals // shared with other tunnels of the process
	links    map[int]*attempts
	worked   bool   // a link was up
	refusal  *Error // why a key is refused that had worked; nil: it is not. While it is, one link alone tries
}

// attempts are those to make one link.
type attempts struct {
	backoff backoff.Backoff
	herd    time.Duration // to wait in addition, for all links ended just after this one
	first   bool          // the next attempt is the first since the loss
}

func newRetry(f *refusals) *retry { return &retry{refusals: f, links: map[int]*attempts{}} }

func (r *retry) link(i int) *attempts {
	if r.links[i] == nil {
		r.links[i] = &attempts{}
	}
	return r.links[i]
}

// ready is asked when an attempt is due. It returns how much longer to wait, and why if that is news.
func (r *retry) ready(link int) (wait time.Duration, why *Error) {
	a := r.link(link)
	if wait, a.herd, a.first = a.herd, 0, false; wait > 0 {
		return wait, nil
	}
	if r.refusal != nil {
		return r.refusals.ask(r), r.refusal
	}
	return 0, nil
}

// lost: a link that had been up for lived has ended, others are up. It returns the wait before the first attempt.
func (r *retry) lost(link int, lived time.Duration, others int) time.Duration {
	if others == 0 { // and those that ended just before it have not been tried yet
		for _, a := range r.links {
			if a.first {
				a.herd = rand.N(backoff.Herd)
			}
		}
	}
	a := r.link(link)
	a.first = true
	return a.backoff.Lost(lived, others == 0)
}

// up: an attempt has made a link.
func (r *retry) up() {
	r.worked, r.refusal = true, nil
	r.refusals.accepted()
}

// failed: an attempt has failed while others are up. It returns the wait before the next one, or that there is none.
func (r *retry) failed(link int, err error, others int) (wait time.Duration, permanent bool) {
	b := &r.link(link).backoff
	r.refusals.leave(r)
	switch {
	case errors.Is(err, fault.ErrReplaced):
		return 0, true
	case r.worked && fault.IsPermanent(err) && errors.Is(err, fault.ErrAuth):
		r.refusal = fault.From(err)
		return r.refusals.add(), false
	case fault.IsPermanent(err) && r.granted(err):
		return b.Failed(), false
	case fault.IsPermanent(err) && others > 0: // what is left serves
		return b.Refused(), false
	case fault.IsPermanent(err):
		return 0, true
	case errors.Is(err, fault.ErrUnconnected):
		return b.Unconnected(), false
	case errors.Is(err, fault.ErrOverload):
		return b.Overloaded(), false
	case errors.Is(err, fault.ErrPatience) && r.refusal != nil: // it has been told of our key often enough
		return b.Refused(), false
	case errors.Is(err, fault.ErrPatience):
		return b.TurnedAway(), false
	default:
		return b.Failed(), false
	}
}

// granted reports whether err refuses a forward that worked before: it was not forbidden since. An account that may
// forward no other port looks the same while a stale link holds it.
func (r *retry) granted(err error) bool {
	return r.worked && (errors.Is(err, fault.ErrForward) || errors.Is(err, fault.ErrHop) && !errors.Is(err, fault.ErrPassword))
}

// reset: the owner asks for the links now.
func (r *retry) reset() {
	clear(r.links)
	if r.refusal != nil {
		r.refusals.hurry()
	}
}
