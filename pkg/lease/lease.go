// SPDX-License-Identifier: Apache-2.0

// Package lease is a tunnel's hold on the slot of a plain proxy, a port or a socket: who has it, as marks on the proxy
// tell, and how it is taken, if need be from a stale link of our own.
//
//	l := lease.New(slot, link.Key(), nil)
//	err := link.Hold(ctx, l.LogsIn(link.Key(), 1), func(line string) { // its mark
//		err := l.Hears(ctx, link, 1, line) // a newer tunnel has asked for the slot: give it back
//	})
//	listener, err := l.Take(ctx, link, 1)
//
// Promises. The newest expose() wins. It asks a tunnel that has the slot to give it back, and ends no process but that
// which holds a link of its own key that does not answer, or a link of its own tunnel that is lost, whatever that one's
// key; one that was replaced does not take the slot again. Errors are a *fault.Error.
package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// A link's session holds a command open that waits and ends with the link. What counts are
// its arguments, which ps shows to every later login of the same account:
//
//	sh -c WAITS taipy-tunnel SLOT HOLDER TIME KEY NAME
//
// the port or path that the link takes; the process of sshd that holds it; when expose() was called, by
// the proxy's own clock; the fingerprint of the login key; a name of tunnel and link. A link that
// finds its slot taken learns from these marks whose it is: sshd itself does not say.
type mark struct {
	pid    int   // of the command
	holder int   // its parent: the process of sshd that holds the slot
	since  int64 // milliseconds since 1970
	key    string
	tunnel string
	link   int
	later  bool // its tunnel seems to have been exposed after this one; the time is a shell's, which may have started late
}

const markName = "taipy-tunnel"

// Lease is what a tunnel says of itself in the marks of its links.
type Lease struct {
	slot    net.Addr // *net.TCPAddr or *net.UnixAddr
	tunnel  string
	exposed time.Time
	newer   func(context.Context) bool

	learnFor time.Duration
	mute     atomic.Bool // a script on the proxy was not answered, and none has been since

	hearing sync.Mutex // held while a question is looked into
	heard   int        // questions so far; under hearing

	mu     sync.Mutex
	spared *Lease       // of a tunnel of this process that leaves the slot by itself; nil: none
	key    string       // of several, the one that the server took
	held   bool         // the tunnel has had the slot
	since  int64        // when it was exposed at the latest, by the clock of the proxy, in milliseconds since 1970; 0: not known yet
	least  int64        // and at the earliest: a shell on a busy machine reads the clock for a mark long after it was asked to, and a listing takes a while to come
	live   map[int]bool // the links of this tunnel that are up, by number
	unread *fault.Error // links cannot be ended by their marks; nil: that is not known
	rival  string       // a newer tunnel has asked for the slot, and was there when last looked; "": none
}

// New makes a lease of a slot, a *net.TCPAddr or a *net.UnixAddr, that is not taken yet. key is the fingerprint of the
// login key. newer reports whether a newer tunnel was seen to have the slot; nil: that is not known.
func New(slot net.Addr, key string, newer func(context.Context) bool) *Lease {
	return &Lease{slot: slot, key: key, newer: newer, tunnel: rand.Text()[:12], exposed: time.Now(), learnFor: learnFor, live: map[int]bool{}}
}

// Spare leaves the links of another tunnel of this process alone, which leaves the slot by itself; nil: of none.
func (c *Lease) Spare(other *Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spared = other
}

// LogsIn notes a link that has logged in, and returns what makes its mark. That says how long ago the tunnel was exposed, so it is made
// when it can be shown at once: one that waited says that the tunnel is newer than it is.
func (c *Lease) LogsIn(key string, link int) (mark func() string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key, c.live[link] = key, true
	return func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mark(key, link)
	}
}

// Ended notes a link that is not up any more.
func (c *Lease) Ended(link int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, link)
}

// lives reports whether a link is up.
func (c *Lease) lives(link int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live[link]
}

// holds reports whether the tunnel has had the slot.
func (c *Lease) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// had: the tunnel has the slot.
func (c *Lease) had() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

func (c *Lease) age() int64 { return time.Since(c.exposed).Milliseconds() }

// word is a slot as it stands in marks: a port, or a path of which nothing is left that means
// something to a shell, or ends a word.
func word(slot net.Addr) string {
	if tcp, ok := slot.(*net.TCPAddr); ok {
		return strconv.Itoa(tcp.Port)
	}
	return strings.ReplaceAll(url.QueryEscape(slot.String()), "%2F", "/")
}

// proxyTime puts the proxy's time into t, in milliseconds; where date knows no fractions (19 digits until the year 2286), in
// whole seconds.
const proxyTime = `t=$(date +%s%N); case $t in ???????????????????) ;; *) t=$(date +%s)000000000; esac; t=${t%??????}`

// sameTime is how far the times of two calls may be apart for the clocks to be doubted: they are
// read by shells that take a while to start.
const sameTime = 100 // milliseconds

// mark is the command that a link's session holds open. What is known only on the proxy /bin/sh fills in there: the
// account's own shell (fish, csh) reads but words in quotes, in which there is no quote, no ! and no backslash.
func (c *Lease) mark(key string, link int) string {
	since := fmt.Sprintf("$(($t - %d))", c.age())
	if c.since != 0 {
		since = strconv.FormatInt(c.since, 10)
	}
	return fmt.Sprintf(`exec /bin/sh -c '%s; exec sh -c "$1" %s "$2" $PPID %s "$3" "$4"' sh '%s' '%s' '%s' '%s.%d'`,
		proxyTime, markName, since, waits, word(c.slot), key, c.tunnel, link)
}

// listMarks is a script that prints the account's processes, PID, parent and arguments, and the proxy's time before and after. BusyBox's ps
// cannot select by account, and a container may have none: Linux tells by itself then, of processes that are marks.
const listMarks = proxyTime + `; echo $t
ps -u "$(id -u)" -o pid= -o ppid= -o args= 2>/dev/null || for p in /proc/[0-9]*; do
	c=; [ -O $p ] && read -r c <$p/cmdline
	case $c in *` + markName + `*) echo "${p#/proc/} $(` + parentOf + ` $p/status) $(tr '\0' ' ' <$p/cmdline)" ;; esac
done 2>/dev/null
` + proxyTime + `; echo $t`

// parentOf prints the parent of a process by its file status (proc_pid_status(5)).
const parentOf = `sed -n 's/^PPid:[^0-9]*//p'`

// parseMarks reads what listMarks printed: the time, and the marks for a slot. A mark whose holder
// is not its parent has outlived its link, and its number may be another process by now.
func parseMarks(listing []byte, slot net.Addr) (now int64, marks []mark) {
	told := false
	for line := range strings.Lines(string(listing)) {
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			told, now = true, n // the last one is how late it was when all was listed
			continue
		}
		if !told { // what start-up files have started may say something before
			continue
		}
		head, tail, found := strings.Cut(line, fmt.Sprintf(" sh -c %s %s %s ", waits, markName, word(slot)))
		f := append(strings.Fields(head), strings.Fields(tail)...) // PID, parent; holder, time, key, name
		if !found || len(f) != 6 || f[1] != f[2] {
			continue
		}
		m := mark{key: f[4]}
		var link string
		m.tunnel, link, _ = strings.Cut(f[5], ".")
		var bad [4]error
		m.pid, bad[0] = strconv.Atoi(f[0])
		m.holder, bad[1] = strconv.Atoi(f[1])
		m.since, bad[2] = strconv.ParseInt(f[3], 10, 64)
		m.link, bad[3] = strconv.Atoi(link)
		if bad == [4]error{} && m.pid > 1 && m.holder > 1 {
			marks = append(marks, m)
		}
	}
	return now, marks
}

// tell is the beginning of a script, with a function that sends a signal $1 to a process $2 as long as the process $3 is a child
// of $4.
const tell = `tell() {
	[ "$( (ps -o ppid= -p $3 2>/dev/null || ` + parentOf + ` /proc/$3/status) | tr -d ' ')" = $4 ] && kill -$1 $2
}
`

// end is a line of a script that ends the link of m.
func (m mark) end() string { return m.signal("KILL", m.holder) }

// ask is a line of a script that asks the link of m to leave.
func (m mark) ask() string { return m.signal("URG", m.pid) }

// signal is a line that sends a signal to a process of m, and nothing else: as long as m's own process is a child of
// the holder, both numbers are still the processes that they were.
func (m mark) signal(name string, to int) string {
	return fmt.Sprintf("tell %s %d %d %d\n", name, to, m.pid, m.holder)
}

// runner runs a script on the proxy and returns what it printed.
type runner interface {
	Script(ctx context.Context, script string) ([]byte, error)
}

// errNoMarks is that no marks can be read: the account may run no commands, or has never answered one. errSilent is an
// errNoMarks: it has answered, and does not now.
var (
	errNoMarks = errors.New("no marks can be read")
	errSilent  = fmt.Errorf("no answer: %w", errNoMarks)
)

// look reads the marks for the slot that the given link of this tunnel is to take. stale are links
// of our own key that it may end: the newest expose() wins. That is this one as long as it has not
// held the slot; afterwards, and when another tunnel has asked for the slot, times are compared. Where they are too close
// to tell, a port goes to the tunnel that asks for it or has taken it from this one. A socket that this one has had goes to the
// one that asks, which would end this one's links; otherwise names are compared, so that both sides agree. Where no marks can
// be read, a tunnel that has lost its slot asks who answers there. The error is an ErrReplaced if a newer tunnel has the slot or asks
// for it, or names another key's, or is errNoMarks.
func (c *Lease) look(ctx context.Context, proxy runner, link int, asked bool) (stale []mark, err error) {
	var listing []byte
	failed := c.command(ctx, func(ctx context.Context) (err error) { listing, err = proxy.Script(ctx, listMarks); return err })
	now, marks := parseMarks(listing, c.slot)
	c.own(now, marks)
	c.mu.Lock()
	held, key, known, live, spared := c.held, c.key, c.since != 0, maps.Clone(c.live), c.spared
	asked = asked || c.rival != ""
	since := cmp.Or(c.since, now-c.age())
	least := cmp.Or(c.least, since)
	c.mu.Unlock()
	if failed != nil && held && !asked && c.newer != nil && c.newer(ctx) {
		return nil, fault.Replaced(c.slot, time.Time{})
	}
	if failed != nil && known && !errors.Is(failed, sshlink.ErrNoSession) {
		return nil, errSilent
	}
	if failed != nil {
		return nil, errNoMarks
	}
	ahead := func(since int64) bool { return since > now+sameTime } // told before the clock was set back, so before what is not
	for _, m := range marks {
		untold := least-sameTime <= m.since && m.since <= since+sameTime
		m.later = ahead(since) && !ahead(m.since) || ahead(since) == ahead(m.since) && m.since > since+sameTime
		switch {
		case spared != nil && m.tunnel == spared.tunnel && spared.lives(m.link):
		case m.tunnel == c.tunnel: // whatever its key, which may have been renewed since
			if m.link < link && !live[m.link] {
				stale = append(stale, m)
			}
		case m.key != key && (spared == nil || m.tunnel != spared.tunnel):
			err = fault.BusyBy(c.slot, m.key, time.UnixMilli(m.since))
		case (held || asked) && (m.later || untold && c.yields(m, held, asked)):
			c.meets(m.tunnel, asked)
			return nil, fault.Replaced(c.slot, time.UnixMilli(m.since))
		case asked && untold: // it asks again, when one of the two has the slot
		default:
			stale = append(stale, m)
		}
	}
	return stale, err
}

// meets notes a newer tunnel, "" for none, that has asked for the slot: one that has not had the slot compares times, too,
// from then on.
func (c *Lease) meets(rival string, asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if asked {
		c.rival = rival
	}
}

// yields reports whether this tunnel leaves the slot to another one that was exposed in the same moment.
func (c *Lease) yields(m mark, held, asked bool) bool {
	if held && (asked || c.slot.Network() == "tcp") {
		return true
	}
	return c.slot.Network() == "unix" && m.tunnel > c.tunnel
}

// there reports whether the path of a socket exists on the proxy.
func (c *Lease) there(ctx context.Context, proxy runner) bool {
	said, err := proxy.Script(ctx, fmt.Sprintf("[ -e %s ] && echo there", quote(c.slot.String())))
	return err == nil && strings.TrimSpace(string(said)) == "there"
}

// quote makes text one word of a shell, in which nothing means anything.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
