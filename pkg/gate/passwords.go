// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

const (
	wrongFree  = 5                      // wrong answers at once that are told without delay
	wrongEach  = 500 * time.Millisecond // further ones wait for their turn
	wrongQueue = 100                    // that wait; more are sent away
)

// passwords admits by HTTP Basic, and brakes guessing: wrong answers of the whole tunnel are told
// at a bounded pace, whoever asks; a right one never waits.
type passwords struct {
	users   map[string]string
	session string // the cookie of those who were admitted: not every browser repeats a password for a websocket

	mu   sync.Mutex
	next time.Time // when the next wrong answer is told
}

// Realm is in the challenges of a gate (RFC 7617), and tells them from those of others.
const Realm = `realm="taipy-tunnel"`

// newPasswords returns nil for none.
func newPasswords(users map[string]string) *passwords {
	if len(users) == 0 {
		return nil
	}
	return &passwords{users: users, session: rand.Text()}
}

func (p *passwords) right(user, password string) bool {
	want, known := p.users[user]
	if !known {
		want = p.session // compared as well, so that names cannot be told by the time it takes
	}
	return equal(password, want) && known
}

// turn reserves the moment to tell a wrong answer; false if too many wait.
func (p *passwords) turn(now time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if idle := now.Add(-wrongFree * wrongEach); p.next.Before(idle) {
		p.next = idle
	}
	wait := p.next.Sub(now)
	if wait > wrongQueue*wrongEach {
		return 0, false
	}
	p.next = p.next.Add(wrongEach)
	return max(wait, 0), true
}

// admitPassword is admit where passwords are asked for.
func (g *Gate) admitPassword(w http.ResponseWriter, r *http.Request, t *trip, words *passwords) bool {
	user, password, given := r.BasicAuth()
	t.ambient = true
	t.ownAuthorization = given && words.right(user, password)
	for _, c := range r.CookiesNamed(g.cookie) {
		if equal(c.Value, words.session) {
			return true
		}
	}
	if t.ownAuthorization {
		t.cookie = g.newCookie(words.session, time.Time{}, t.prefix).String()
		return true
	}
	if given {
		wait, ok := words.turn(time.Now())
		if !ok {
			w.Header().Set("Retry-After", "60")
			refuse(w, r, http.StatusTooManyRequests, page{Kind: "guessing"})
			return false
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("WWW-Authenticate", "Basic "+Realm+`, charset="UTF-8"`)
	refuse(w, r, http.StatusUnauthorized, page{Kind: "password"})
	return false
}
