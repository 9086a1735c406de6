// SPDX-License-Identifier: Apache-2.0

// Package retry decides when the links of a tunnel are tried again, and what ends that, by what an error means and by the
// tunnel's history. It makes no link and waits for nothing.
//
//	r := retry.New(retry.At("me@proxy.example.com:22"))
//	if wait, why := r.Ready(link); wait > 0 { … } // not yet; why is nil where the cause is as before
//	r.Up()                                        // the attempt made a link,
//	wait, permanent := r.Failed(link, err, others) // or it did not, while so many others are up
//	wait := r.Lost(link, lived, others)
//
// Promises. A key that is refused for a moment is tried again so seldom that neither sshd nor fail2ban shuts its address
// out, however many tunnels of the process have it. Links that are lost in one instant come back spread out.
package retry

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/backoff"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Policy decides when the links of one tunnel are tried again, and what ends it. The run loop owns it: it
// hears what became of each link, and is asked before each attempt.
//
// What is permanent follows from the error's class and the tunnel's history: a proxy that once granted what it refuses
// now may grant it again. A host key that is not the known one is refused by us, and stays permanent.
type Policy struct {
	refusals *Refusals // shared with other tunnels of the process
	links    map[int]*attempts
	worked   bool         // a link was up
	refusal  *fault.Error // why a key is refused that had worked, as this tunnel or another has learnt; nil: it is not
}

// attempts are those to make one link.
type attempts struct {
	backoff backoff.Backoff
	herd    time.Duration // to wait in addition, for all links ended just after this one
	first   bool          // the next attempt is the first since the loss
}

// New makes the policy of a tunnel, which shares what is known of refused logins: see At.
func New(f *Refusals) *Policy { return &Policy{refusals: f, links: map[int]*attempts{}} }

func (r *Policy) link(i int) *attempts {
	if r.links[i] == nil {
		r.links[i] = &attempts{}
	}
	return r.links[i]
}

// Ready is asked when an attempt is due. It returns how much longer to wait, and why if that is news. If there is no wait, the
// attempt is under way until Up or Failed is called.
func (r *Policy) Ready(link int) (wait time.Duration, why *fault.Error) {
	a := r.link(link)
	if wait, a.herd, a.first = a.herd, 0, false; wait > 0 {
		return wait, nil
	}
	if !r.worked { // a refusal ends the tunnel
		return 0, nil
	}
	if wait, why = r.refusals.ask(login{r, link}, r.refusal != nil); why != nil {
		r.refusal = why
	}
	return wait, why
}

// Never is the wait of a link that is not tried again by itself while others are up.
const Never time.Duration = math.MaxInt64

// Lost notes that a link has ended that had been up for lived, while so many others are up. It returns the wait before the first attempt.
func (r *Policy) Lost(link int, lived time.Duration, others int) time.Duration {
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

// Up notes that an attempt has made a link.
func (r *Policy) Up() {
	r.worked, r.refusal = true, nil
	r.refusals.accepted()
}

// Failed notes that an attempt has failed while so many others are up. It returns the wait before the next one, which may be
// Never, or that the tunnel has failed.
func (r *Policy) Failed(link int, err error, others int) (wait time.Duration, permanent bool) {
	b := &r.link(link).backoff
	r.refusals.leave(login{r, link})
	switch {
	case errors.Is(err, fault.ErrReplaced):
		return 0, true
	case r.worked && fault.IsPermanent(err) && errors.Is(err, fault.ErrAuth):
		r.refusal = fault.From(err)
		return r.refusals.add(r.refusal, others == 0), false
	case fault.IsPermanent(err) && r.granted(err):
		return b.Failed(), false
	case fault.IsPermanent(err) && others > 0 && (errors.Is(err, fault.ErrHostKey) || errors.Is(err, fault.ErrPassword)):
		return Never, false // the other end may be an attacker's; and wrong passwords lock an account
	case fault.IsPermanent(err) && others > 0: // what is left serves
		return b.Refused(), false
	case fault.IsPermanent(err):
		return 0, true
	case errors.Is(err, fault.ErrUnconnected):
		return b.Unconnected(), false
	case errors.Is(err, fault.ErrOverload) && others > 0: // a standby that one connection too many is for
		return b.Failed(), false
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
// forward no other port looks the same while a stale link holds it. A server with other algorithms is one whose admin is at work.
func (r *Policy) granted(err error) bool {
	return r.worked && (errors.Is(err, fault.ErrForward) || errors.Is(err, fault.ErrUnreachable) || errors.Is(err, fault.ErrHop) && !errors.Is(err, fault.ErrPassword))
}

// Refused reports whether a key is refused that has logged in before.
func (r *Policy) Refused() bool { return r.refusal != nil }

// Reset has the links made now, as their owner asks.
func (r *Policy) Reset() {
	clear(r.links)
	if r.refusal != nil {
		r.refusals.hurry()
	}
}
