// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// Error is an error that a person reads.
type Error = fault.Error

// Hint says what to do, with settings as fields of Config: what its String returns, and fmt and log/slog print. In
// JSON, which is for the C interface, a setting is a mark, such as {host_key}.
type Hint = fault.Hint

// AsError returns err as an *Error; one that is none is a defect of ours (ErrInternal).
func AsError(err error) *Error { return fault.From(err) }

// State is what a tunnel is doing, in one word.
type State string

// The states.
const (
	Connecting   State = "connecting"   // no link yet
	Waiting      State = "waiting"      // visitors are led here, but no app answers
	Up           State = "up"           // visitors reach the app
	Degraded     State = "degraded"     // they do, but a link is missing, some of them are led elsewhere, or this process has no file descriptor left for new ones; see LastError
	Expired      State = "expired"      // a link is up, but the token has ended: visitors are refused, whether the app answers or not
	Reconnecting State = "reconnecting" // visitors do not get here: all links were lost, the URL leads elsewhere, or sshd has them wait; see LastError and RetryAt
	Failed       State = "failed"       // a permanent error; Reconnect tries again
	Replaced     State = "replaced"     // a newer tunnel with the same key has the slot
	StateClosed  State = "closed"       // the end
)

// Status is what is known of a tunnel at one moment.
type Status struct {
	State State `json:"state"`
	// URL is what visitors open.
	URL string `json:"url"`
	// Server is the proxy, "user@host:port", or "tls://user@host:port".
	Server string `json:"server"`
	// Remote is the port on the proxy, RemoteSocket the path of a socket in its place; as in Config.
	Remote       int    `json:"remote"`
	RemoteSocket string `json:"-"`
	// Name is the app's on a prepared proxy, "" on a plain one.
	Name string `json:"name"`
	// Target is where the app listens, "" if nowhere. Always "" for Listen.
	Target string `json:"target"`
	// Checked says how URL was seen to lead here: "url" (opened from this machine), "link"
	// (through the link to the proxy's own port), or "" (it could not be checked).
	Checked string `json:"checked"`
	// Unchecked is why it could not be checked, or was not to be (Config.Check), in a few words; "" where it was.
	// Beside Checked "link": what stops this machine, and lets the proxy pass, may lead visitors elsewhere.
	Unchecked string `json:"unchecked"`
	// Links and Slots count the SSH connections that are up and the listening ends on the proxy.
	Links int `json:"links"`
	Slots int `json:"slots"`
	// Access is whom the gate admits: "token", "password", "public"; "" if there is none (Raw,
	// Listen). TokenKept: the token is the same after a restart. Expires is when it ends, zero for never.
	Access    string    `json:"access"`
	TokenKept bool      `json:"token_kept"`
	Expires   time.Time `json:"expires"`
	// Visitors were admitted and are there now, VisitorsToday came since midnight (UTC); without a gate Visitors
	// counts the connections that are open.
	Visitors      int `json:"visitors"`
	VisitorsToday int `json:"visitors_today"`
	// Requests were answered; of them Refused by the gate for want of access, Failed with a status of 500 or
	// more, Slow after more than a second.
	Requests int64 `json:"requests"`
	Refused  int64 `json:"refused"`
	Failed   int64 `json:"failed"`
	Slow     int64 `json:"slow"`
	// Bytes is what was carried both ways.
	Bytes int64 `json:"bytes"`
	// Reconnects counts the links that took the place of another.
	Reconnects int `json:"reconnects"`
	// Since is when State began; RetryAt when the next attempt is due, zero if none is.
	Since   time.Time `json:"since"`
	RetryAt time.Time `json:"retry_at"`
	// LastError is the newest error, nil once all is well again, or after Reconnect until something fails.
	LastError *Error `json:"last_error"`
	// Warning is what should be mended although visitors are served, nil if nothing is known: an older version has
	// prepared the proxy, a plain one opens the slot to its network, the app refuses the websockets of its page, the web server in
	// front tells the tunnel another host than visitors ask for, or the account on a plain proxy cannot end a link of its own, so that no other tunnel can take the place of one that dies without a word.
	Warning *Error `json:"warning"`
}

// MarshalJSON writes moments as seconds since 1970, zero as 0.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	return json.Marshal(struct {
		plain
		Remote  remote  `json:"remote"`
		Since   float64 `json:"since"`
		RetryAt float64 `json:"retry_at"`
		Expires float64 `json:"expires"`
	}{plain(s), remote{&s.Remote, &s.RemoteSocket}, seconds(s.Since), seconds(s.RetryAt), seconds(s.Expires)})
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

// board shows the newest status to any number of readers and never waits for them.
type board struct {
	mu      sync.Mutex
	status  Status
	changed chan struct{} // closed at the next change
	warned  [warnings]*Error
	unasked atomic.Bool // the URL could not be asked yet whether it leads here
}

// warning is a kind of what Status.Warning tells, the gravest first.
type warning int

const (
	portOpen      warning = iota // a plain proxy's, to its network
	machineOld                   // an older version has prepared it
	noWebsockets                 // the app refuses those of its page
	twoLogins                    // visitors are asked for two passwords that a browser cannot send both
	pageElsewhere                // visitors are led elsewhere than the check is
	otherHost                    // the web server in front does not tell which one visitors ask for
	oneSession                   // a further link has no session, and may not be able to take the port over
	noTakeOver                   // a link that dies keeps the slot: no visitor notices as long as all is well
	warnings
)

// warn says why, or with nil that it is over. The first of all that there is stands in the status.
func (b *board) warn(kind warning, why *Error) {
	if b.warns(kind) == why {
		return
	}
	b.edit(func(s *Status) {
		b.warned[kind], s.Warning = why, nil
		for _, w := range b.warned {
			if s.Warning == nil {
				s.Warning = w
			}
		}
	})
}

// heedHost warns where the web server in front of the tunnel tells it another host than was asked for: what a browser then sends seems
// to come from another site's page. A prepared proxy has its apps by their names, and what is in front of it may have another one.
func (b *board) heedHost(f probe.Finding, prepared bool) {
	switch {
	case f.Kind != probe.Ours || prepared:
	case f.Host != "":
		b.warn(otherHost, fault.OtherHost(f.At.Host, f.Host))
	case b.warns(otherHost) != nil:
		b.warn(otherHost, nil)
	}
}

// heedVisit warns where a visitor is asked for a password by something in front of the tunnel, which asks for another, or is led elsewhere
// than the check was. It returns the warning that stands.
func (b *board) heedVisit(v probe.Visited, access Access, url string, slot net.Addr) *Error {
	var two, away *Error
	switch {
	case v.Err != nil:
		two, away = b.warns(twoLogins), b.warns(pageElsewhere)
	case v.Ours, v.Header.Get(gate.Why) != "": // a gate's own answer, be it another tunnel's
	case probe.WantsPassword(v.Status, v.Header) && access.String() == "password" && !strings.Contains(v.Header.Get("WWW-Authenticate"), gate.Realm):
		two = fault.TwoLogins(url)
	case probe.Challenged(v.Status, v.Header): // which lets browsers through
	case v.Status == http.StatusNotFound || v.Status >= 500:
		away = fault.PageElsewhere(url, fmt.Sprintf("%d %s", v.Status, http.StatusText(v.Status)), slot)
	}
	b.warn(twoLogins, two)
	b.warn(pageElsewhere, away)
	if two != nil {
		return two
	}
	return away
}

func newBoard(first Status) *board {
	first.Since = time.Now()
	return &board{status: first, changed: make(chan struct{})}
}

// edit changes the status; a new state begins now.
func (b *board) edit(f func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.status.State
	f(&b.status)
	if b.status.State != before {
		b.status.Since = time.Now()
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// serves reports whether the tunnel serves visitors, or will again by itself.
func (b *board) serves() bool {
	s, _ := b.read()
	return s.State != Failed && s.State != Replaced && s.State != StateClosed
}

// checked is Status.Checked now.
func (b *board) checked() string {
	s, _ := b.read()
	return s.Checked
}

// warns is why it warns of one kind, nil if it does not.
func (b *board) warns(kind warning) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.warned[kind]
}

func (b *board) read() (Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.changed
}

// watch yields the present status and each later one until ctx ends; what changes while the
// reader is busy is folded into the newest.
func (b *board) watch(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for {
			s, changed := b.read()
			if !yield(s) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// gaveUp is the error of a set-up that began at start.
func gaveUp(err error, start time.Time) error {
	if e, ok := errors.AsType[*Error](err); ok && !e.Permanent {
		return fault.Timeout(e, time.Since(start))
	}
	return err
}

type appState int

const (
	appUnknown appState = iota
	appAnswering
	appSilent
	appHindered // this process has no descriptor left for a connection to it
)

func plan(timer *time.Timer, at, now time.Time) {
	timer.Stop()
	if !at.IsZero() {
		timer.Reset(max(at.Sub(now), time.Millisecond))
	}
}

// exposure is who reaches the slot.
type exposure int

const (
	untold   exposure = iota // it cannot be told
	enclosed                 // the proxy itself alone
	exposed                  // the network, too
)
