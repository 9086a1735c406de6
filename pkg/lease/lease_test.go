// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// proxyShell is a proxy that shows a listing and notes what it is asked to end.
type proxyShell struct {
	listing string
	fails   error
	ended   []string
	asked   []string
}

func (p *proxyShell) Script(_ context.Context, script string) ([]byte, error) {
	if script == listMarks {
		return []byte(p.listing), p.fails
	}
	lines, guarded := strings.CutPrefix(script, tell)
	if !guarded {
		return nil, errors.New("unguarded: " + script)
	}
	for line := range strings.Lines(lines) {
		var name, pid, child, parent string
		if _, err := fmt.Sscanf(line, "tell %s %s %s %s\n", &name, &pid, &child, &parent); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		switch name {
		case "KILL":
			p.ended = append(p.ended, pid)
		case "URG":
			p.asked = append(p.asked, pid)
		}
	}
	return nil, nil
}

const clock = 1767225600_000 // the proxy's, when it is asked: milliseconds

var port = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}

func psLine(pid, parent int, slot any, holder int, since int64, key, name string) string {
	return fmt.Sprintf("%7d %7d sh -c %s taipy-tunnel %v %d %d %s %s\n", pid, parent, waits, slot, holder, since, key, name)
}

func TestWhoHoldsThePort(t *testing.T) {
	busy := errors.New("busy")
	for name, c := range map[string]struct {
		lines  string
		ended  string // holders
		want   error  // nil: the port is about to be free
		quotes string
	}{
		"nobody that shows":                                {"", "", busy, ""},
		"other processes":                                  {"  1  0 init\n 77 1 sh -c " + waits + "\n 78 1 taipy-tunnel 8080 1 2 k t.1\n", "", busy, ""},
		"our own earlier link":                             {psLine(20, 10, 8080, 10, clock-50_000, "ours", "me.2"), "10", nil, ""},
		"our own, with an earlier key":                     {psLine(20, 10, 8080, 10, clock-50_000, "before", "me.2"), "10", nil, ""},
		"our own present and later ones":                   {psLine(20, 10, 8080, 10, clock, "ours", "me.3") + psLine(21, 11, 8080, 11, clock, "ours", "me.4"), "", busy, ""},
		"an older tunnel with our key":                     {psLine(20, 10, 8080, 10, clock-3600_000, "ours", "else.7"), "10", nil, ""},
		"two of them":                                      {psLine(20, 10, 8080, 10, clock-3600_000, "ours", "a.7") + psLine(21, 11, 8080, 11, clock-360_000, "ours", "b.7"), "11 10", nil, ""},
		"a newer one":                                      {psLine(20, 10, 8080, 10, clock+60_000, "ours", "else.7"), "", fault.ErrReplaced, "2026-01-01 00:01:00 UTC"},
		"an older and a newer one":                         {psLine(20, 10, 8080, 10, clock-60_000, "ours", "a.7") + psLine(21, 11, 8080, 11, clock+60_000, "ours", "b.7"), "", fault.ErrReplaced, ""},
		"the same moment, a little later":                  {psLine(20, 10, 8080, 10, clock+50, "ours", "al.7"), "", fault.ErrReplaced, ""},
		"the same moment, a little earlier":                {psLine(20, 10, 8080, 10, clock-50, "ours", "zo.7"), "", fault.ErrReplaced, ""},
		"half a second earlier":                            {psLine(20, 10, 8080, 10, clock-500, "ours", "zo.7"), "10", nil, ""},
		"one of before the clock was set back":             {psLine(20, 10, 8080, 10, clock+180_000, "ours", "zo.7"), "10", nil, ""},
		"half a second later":                              {psLine(20, 10, 8080, 10, clock+500, "ours", "al.7"), "", fault.ErrReplaced, ""},
		"a newer one, and a mark of ours of a slow shell":  {psLine(20, 10, 8080, 10, clock+3000, "ours", "else.7") + psLine(21, 11, 8080, 11, clock+5000, "ours", "me.3"), "", fault.ErrReplaced, ""},
		"an older one, and a mark of ours of a slow shell": {psLine(20, 10, 8080, 10, clock-3000, "ours", "else.7") + psLine(21, 11, 8080, 11, clock+5000, "ours", "me.3"), "10", nil, ""},
		"another key's":                                    {psLine(20, 10, 8080, 10, clock-60_000, "theirs", "t.1"), "", fault.ErrForward, "SHA256:theirs"},
		"another socket's":                                 {psLine(20, 10, "/8080", 10, clock-60_000, "ours", "t.1"), "", busy, ""},
		"another port's":                                   {psLine(20, 10, 8081, 10, clock-60_000, "ours", "t.1"), "", busy, ""},
		"one that outlived its link":                       {psLine(20, 1, 8080, 10, clock-60_000, "ours", "t.1"), "", busy, ""},
		"init as the holder":                               {psLine(20, 1, 8080, 1, clock-60_000, "ours", "t.1"), "", busy, ""},
		"nonsense":                                         {psLine(20, 10, 8080, 10, clock, "ours", "t.x") + psLine(-20, -10, 8080, -10, clock, "ours", "t.1"), "", busy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &proxyShell{listing: fmt.Sprintf("%d\n%s", clock+120_000, c.lines)}
			me := Lease{slot: port, key: "ours", tunnel: "me", exposed: time.Now().Add(-2 * time.Minute), held: true} // at clock
			_, err := me.clearOnce(t.Context(), p, 3, busy, askTimes)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if got := strings.Join(p.ended, " "); got != c.ended {
				t.Errorf("ended %q, want %q", got, c.ended)
			}
			if c.quotes != "" && !strings.Contains(err.Error(), c.quotes) {
				t.Errorf("%v does not say %q", err, c.quotes)
			}
			if replaced := errors.Is(c.want, fault.ErrReplaced); replaced != fault.IsPermanent(err) {
				t.Errorf("permanent: %v, want %v", !replaced, replaced)
			}
		})
	}
}

// The tunnel before may have had another key: of its links those are ended that are lost.
func TestLinksOfTheTunnelBefore(t *testing.T) {
	p := &proxyShell{listing: fmt.Sprintf("%d\n", clock) + psLine(20, 10, 8080, 10, clock-50_000, "before", "it.2") + psLine(21, 11, 8080, 11, clock-50_000, "before", "it.3")}
	me := Lease{slot: port, key: "ours", tunnel: "me", exposed: time.Now(), spared: &Lease{tunnel: "it", live: map[int]bool{3: true}}}
	if err := me.clear(t.Context(), p, 1, errors.New("busy")); err != nil || strings.Join(p.ended, " ") != "10" {
		t.Errorf("ended %v, %v", p.ended, err)
	}
}

// TestPathsAreOneHarmlessWord: a shell takes what stands for a path in a mark, and a path in quotes,
// for one word without a meaning, and no two paths have the same.
func TestPathsAreOneHarmlessWord(t *testing.T) {
	seen := map[string]string{}
	for _, path := range []string{"/run/app/slot.sock", "/a b", "/a+b", "/a%20b", "/a%2Fb", "/a/b", `/a"b`, "/a'b", "/a''b", `/a\b`, "/$HOME", "/$(id)", "/`id`",
		"/a;b", "/a&b", "/a|b", "/*", "/~", "/#", "/é", "/a\tb"} {
		slot := &net.UnixAddr{Name: path, Net: "unix"}
		w := word(slot)
		if before, twice := seen[w]; twice {
			t.Errorf("%q and %q are both %s", before, path, w)
		}
		seen[w] = path
		out, err := exec.Command("sh", "-c", `set -f; printf '%s\n' `+w+" "+quote(path)).Output()
		if err != nil || string(out) != w+"\n"+path+"\n" {
			t.Errorf("%q: a shell reads %q, %v", path, out, err)
		}
		me := Lease{slot: slot, key: "ours", tunnel: "me", exposed: time.Now(), held: true}
		stale, err := me.look(t.Context(), &proxyShell{listing: fmt.Sprintf("%d\n%s", clock, psLine(20, 10, w, 10, clock-60_000, "ours", "t.1"))}, 1, false)
		if err != nil || len(stale) != 1 {
			t.Errorf("%q is not known again: %v, %v", path, stale, err)
		}
	}
	if w := word(&net.UnixAddr{Name: "/run/app/slot.sock", Net: "unix"}); w != "/run/app/slot.sock" {
		t.Errorf("an admin reads %s", w)
	}
}

// TestAFreshExposeIsTheNewest: the shells of two links may tell the time in another order than they
// were called in, so before it had the port a tunnel asks nobody.
func TestAFreshExposeIsTheNewest(t *testing.T) {
	p := &proxyShell{listing: fmt.Sprintf("%d\n%s", clock, psLine(20, 10, 8080, 10, clock+60_000, "ours", "zo.7"))}
	me := New(port, "ours", nil)
	if _, err := me.clearOnce(t.Context(), p, 1, errors.New("busy"), askTimes); err != nil || len(p.ended) != 1 {
		t.Errorf("got %v, ended %v", err, p.ended)
	}
}

func TestAccountsWithoutCommands(t *testing.T) {
	busy := errors.New("busy")
	for _, p := range []*proxyShell{{fails: errors.New("no session")}, {listing: ""}, {listing: "This service allows sftp connections only.\n"}} {
		if err := New(port, "k", nil).clear(t.Context(), p, 1, busy); !errors.Is(err, busy) {
			t.Errorf("listing %q: got %v", p.listing, err)
		}
	}
}

// FuzzMarks: a listing is the server's word. Whatever it says, only processes above 1 are ended, and
// only such whose child says so.
func FuzzMarks(f *testing.F) {
	f.Add(fmt.Sprintf("%d\n%s", clock, psLine(20, 10, 8080, 10, clock, "ours", "t.1")))
	f.Add("x\n\n20 10 sh -c " + waits + " taipy-tunnel 8080 10 99999999999999999999 k t.1")
	f.Fuzz(func(t *testing.T, listing string) {
		_, marks := parseMarks([]byte(listing), port)
		for _, m := range marks {
			if m.holder < 2 || m.pid < 2 || strings.ContainsAny(strings.TrimSuffix(m.end(), "\n"), "\n;`$&|") {
				t.Errorf("%+v: %s", m, m.end())
			}
		}
	})
}

// A mark says how long ago its tunnel was exposed when it is shown: a process may stand still between its login and that.
func TestAMarkThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mark := New(port, "ours", nil).LogsIn("ours", 1)
		for _, age := range []time.Duration{0, 3 * time.Second} {
			time.Sleep(age)
			if want := fmt.Sprintf("$(($t - %d))", age.Milliseconds()); !strings.Contains(mark(), want) {
				t.Errorf("after %v: %s", age, mark())
			}
		}
	})
}
