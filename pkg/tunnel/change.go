// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// visitors are the settings that say who is admitted: a gate changes them while it lives.
type visitors struct {
	access  Access
	token   string
	version int
	expires time.Time
	allow   []string
}

func (cfg *Config) visitors() visitors {
	return visitors{cfg.Access, cfg.Token, cfg.TokenVersion, cfg.Expires, cfg.Allow}
}

// changed names the settings, as in JSON, in which two differ.
func (v *visitors) changed(o *visitors) (names []string) {
	for _, one := range []struct {
		name string
		same bool
	}{
		{"access", v.access.Public == o.access.Public && maps.Equal(v.access.Passwords, o.access.Passwords)},
		{"token", v.token == o.token},
		{"token_version", v.version == o.version},
		{"expires", v.expires.Equal(o.expires)},
		{"allow", slices.Equal(v.allow, o.allow)},
	} {
		if !one.same {
			names = append(names, one.name)
		}
	}
	return names
}

// sameToken reports whether two say the same of the token, but for its end.
func (v *visitors) sameToken(o *visitors) bool { return v.token == o.token && v.version == o.version }

// rest is cfg as JSON without what concerns visitors or is no setting of a link; it holds secrets.
func (cfg Config) rest() ([]byte, error) {
	cfg.Access, cfg.Token, cfg.TokenVersion, cfg.Expires, cfg.Allow, cfg.Target = Access{}, "", 0, time.Time{}, nil, ""
	return json.Marshal(cfg)
}

// Admit gives an open tunnel what cfg says of its visitors: Access, Token, TokenVersion, Expires and
// Allow. It returns the names of those that differed from the tunnel's, as in JSON ("token_version"). It
// needs no network: the gate changes at once, whether there is a link or not, and ends the connections of
// visitors whom the new settings may not admit. All of cfg is validated first, keys and host keys
// included; after an error nothing has changed.
//
// rest reports what Admit leaves to Reopen: anything else in cfg differs, or the tunnel has failed, was
// replaced or is closed. Target, Busy, Log and Control are not compared; SetTarget moves the first.
//
//	_, rest, err := t.Admit(cfg)
//	if err == nil && rest {
//		var next *tunnel.Tunnel
//		if next, err = t.Reopen(ctx, cfg); err == nil {
//			t = next // the old one closes by itself
//		}
//	}
//
// A tunnel of Listen has no gate, and Admit changes nothing of it.
func (t *Tunnel) Admit(cfg Config) (changed []string, rest bool, err error) {
	cfg.Log = nil // Reopen tells
	next, err := t.plan(cfg)
	if err != nil {
		return nil, false, err
	}
	before, err := t.cfg.rest()
	if err != nil {
		return nil, false, fault.Internal(err)
	}
	after, err := next.cfg.rest()
	if err != nil {
		return nil, false, fault.Internal(err)
	}
	rest = !bytes.Equal(before, after) || !t.serves()
	if t.door == nil || cfg.Raw {
		return nil, rest, nil
	}
	if next.cfg.Access.Public && t.sup.exposed.Load() {
		return nil, false, fault.Exposed(t.slotPort())
	}
	if changed, err = t.door.admit(next.cfg.visitors()); len(changed) > 0 {
		t.hurry()
	}
	return changed, rest, err
}

// serves reports whether the tunnel serves visitors, or will again by itself.
func (t *Tunnel) serves() bool {
	s, _ := t.board.read()
	return s.State != Failed && s.State != Replaced && s.State != StateClosed
}

// plan validates cfg as far as that can be done without the network, for a tunnel in t's place, and
// returns that tunnel; nothing of it runs.
func (t *Tunnel) plan(cfg Config) (*Tunnel, error) {
	r, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if p := t.place.Load(); p.known && !p.prepared {
		if _, err := cfg.plain(); err != nil {
			return nil, err
		}
	}
	next := newTunnel(r, nil)
	if !cfg.Raw {
		next.useDoor(newDoor(next))
	}
	return next, next.connects(t)
}

// drainFor is how long requests that are under way on a tunnel may go on when another has its place.
const drainFor = 5 * time.Second

// Reopen opens a tunnel with cfg in the place of t and returns it when a visitor could open its URL,
// as Expose does; t then takes no more visitors, gives requests that are under way 5 s to end, and is
// closed. Until then t serves; after an error it serves on as before. The new one logs in and is
// checked before t's slots pass to it. If it fails after that, t has them back when Reopen returns, or
// 2 s later at most. A visitor who comes in the one round trip in which a plain proxy's port passes on
// finds nothing there.
// t may have failed, been replaced or been closed. cfg is the whole of the new settings, those of visitors
// included: Admit need not be called before.
//
// A token that NewToken made goes over to the new tunnel. t must come from Expose.
func (t *Tunnel) Reopen(ctx context.Context, cfg Config) (*Tunnel, error) {
	start := time.Now()
	if t.listens {
		return nil, fault.Config("open another one with Listen", "this tunnel was opened by Listen: its program serves the visitors")
	}
	next, err := t.plan(cfg)
	if err != nil {
		return nil, err
	}
	if next.door != nil && t.door != nil {
		next.door.inherit(t.door)
	}
	if err := next.start(ctx, true); err != nil {
		next.yield()
		t.resume()
		if t.door != nil {
			t.door.disinherit()
		}
		_ = next.Close()
		return nil, gaveUp(err, start)
	}
	t.log.Info("the new settings hold", "url", next.place.Load().url)
	leaving, hurry := context.WithCancel(next.life)
	next.hurried.Store(&hurry)
	if !next.tasks.Go(func() { t.leave(leaving); hurry() }) {
		_ = t.Close()
	}
	return next, nil
}

// yield leaves the slots to another tunnel of this process: until resume nothing is taken and no link is made. A port is
// free when yield returns, or in two seconds at most.
func (t *Tunnel) yield() {
	s := t.sup
	s.tell(func() {
		for _, k := range s.reconnectors {
			k.retry.Stop()
			if k.trying != nil {
				k.trying()
			}
		}
		s.apply(s.table.yield(time.Now()))
	})
	ctx, cancel := context.WithTimeout(t.life, yieldFor)
	defer cancel()
	s.until(ctx, func() bool {
		held, _ := s.table.holding()
		return held == 0 || !s.table.exclusive
	})
}

const yieldFor = 2 * time.Second

// resume takes the slots again that yield left, and returns when that was done, or tried.
func (t *Tunnel) resume() {
	s := t.sup
	s.tell(func() {
		if !s.table.yielded || s.draining || s.failed != nil {
			s.table.yielded = false
			return
		}
		s.apply(s.table.resume(time.Now()))
		for _, k := range s.reconnectors {
			k.attempt()
		}
	})
	ctx, cancel := context.WithTimeout(t.life, yieldFor)
	defer cancel()
	s.until(ctx, s.table.quiet)
}

// hurry closes at once the tunnel in whose place this one was opened, if that still serves what was under way: it
// admits visitors whom this one does not admit any more.
func (t *Tunnel) hurry() {
	if end := t.hurried.Load(); end != nil {
		(*end)()
	}
}

// leave closes t, whose place another tunnel has that lives as long as life.
func (t *Tunnel) leave(life context.Context) {
	left := time.NewTimer(handOver)
	defer left.Stop()
	select {
	case <-left.C:
	case <-life.Done():
	}
	ctx, cancel := context.WithTimeout(life, drainFor)
	defer cancel()
	_ = t.Shutdown(ctx)
}

// gaveUp is the error of a set-up that began at start.
func gaveUp(err error, start time.Time) error {
	if e, ok := errors.AsType[*Error](err); ok && !e.Permanent {
		return fault.Timeout(e, time.Since(start))
	}
	return err
}
