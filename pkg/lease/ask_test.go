// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// What a tunnel does when another one asks for its slot: it believes the marks, and nothing else.
func TestWhoIsAsked(t *testing.T) {
	const someone = 20 // the other one's mark
	for name, c := range map[string]struct {
		line, mark string
		free       bool // this tunnel has not had the slot
		gives      bool
		asks       bool // the other one, in its turn
	}{
		"a newer one":                            {question, psLine(someone, 10, 8080, 10, clock+60_000, "ours", "else.1"), false, true, false},
		"a newer one, and it has not had it yet": {question, psLine(someone, 10, 8080, 10, clock+60_000, "ours", "else.1"), true, true, false},
		"an older one":                           {question, psLine(someone, 10, 8080, 10, clock-60_000, "ours", "else.1"), false, false, true},
		"an older one, and it has not had it":    {question, psLine(someone, 10, 8080, 10, clock-60_000, "ours", "else.1"), true, false, true},
		"one of before the clock was set back":   {question, psLine(someone, 10, 8080, 10, clock+180_000, "ours", "else.1"), false, false, true},
		"the same moment":                        {question, psLine(someone, 10, 8080, 10, clock-50, "ours", "else.1"), false, true, false},
		"the same moment, neither has had it":    {question, psLine(someone, 10, 8080, 10, clock+50, "ours", "else.1"), true, false, false},
		"another key's":                          {question, psLine(someone, 10, 8080, 10, clock+60_000, "theirs", "else.1"), false, false, false},
		"another port's":                         {question, psLine(someone, 10, 8081, 10, clock+60_000, "ours", "else.1"), false, false, false},
		"its own link":                           {question, psLine(someone, 10, 8080, 10, clock, "ours", "me.1"), false, false, false},
		"no mark":                                {question, "", false, false, false},
		"another line":                           {"Last login: today", psLine(someone, 10, 8080, 10, clock+60_000, "ours", "else.1"), false, false, false},
	} {
		p := &proxyShell{listing: fmt.Sprintf("%d\n%s", clock+120_000, c.mark)}
		me := Lease{slot: port, key: "ours", tunnel: "me", exposed: time.Now().Add(-2 * time.Minute), held: !c.free} // at clock
		err := me.Hears(t.Context(), p, 2, c.line)
		if errors.Is(err, fault.ErrReplaced) != c.gives || (err != nil) != c.gives {
			t.Errorf("%s: %v", name, err)
		}
		if len(p.ended) != 0 || (len(p.asked) == 1 && p.asked[0] == fmt.Sprint(someone)) != c.asks || len(p.asked) > 1 {
			t.Errorf("%s: asked %v, ended %v", name, p.asked, p.ended)
		}
	}
	for _, other := range []string{"a", "z"} { // of two that were exposed in the same moment; this one's name is between theirs
		for _, has := range []bool{true, false} {
			p := &proxyShell{listing: fmt.Sprintf("%d\n%s", clock, psLine(someone, 10, "/slot", 10, clock, "ours", other+".1"))}
			me := Lease{slot: &net.UnixAddr{Name: "/slot", Net: "unix"}, key: "ours", tunnel: "me", since: clock, held: has}
			if err := me.Hears(t.Context(), p, 1, question); errors.Is(err, fault.ErrReplaced) != (has || other == "z") {
				t.Errorf("at a socket %s asks, which this one has had: %v; %v", other, has, err)
			}
		}
	}
	p := &proxyShell{listing: fmt.Sprintf("%d\n%s", clock, psLine(someone, 10, 8080, 10, clock-1_000, "ours", "else.1"))}
	early := Lease{slot: port, key: "ours", tunnel: "me", exposed: time.Now(), since: clock + 60_000, held: true}
	if err := early.Hears(t.Context(), p, 1, question); !errors.Is(err, fault.ErrReplaced) {
		t.Errorf("this one is of before the clock was set back: %v", err)
	}
	me := Lease{slot: port, key: "ours", tunnel: "me", held: true, newer: func(context.Context) bool { return true }}
	if err := me.Hears(t.Context(), &proxyShell{fails: errors.New("no session")}, 1, question); err != nil {
		t.Errorf("where no marks can be read: %v", err)
	}
}

// portShell is a proxy whose port is free some time after somebody was asked or ended.
type portShell struct {
	proxyShell
	mu       sync.Mutex
	afterAsk time.Duration // 0: never
	free     time.Time
	polls    int
}

func (p *portShell) Script(ctx context.Context, command string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := p.proxyShell.Script(ctx, command)
	switch {
	case len(p.ended) > 0:
		p.free = time.Now()
	case len(p.asked) > 0 && p.afterAsk > 0 && p.free.IsZero():
		p.free = time.Now().Add(p.afterAsk)
	}
	return out, err
}

func (p *portShell) Listen(context.Context, int) (*sshlink.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls++
	if p.free.IsZero() || time.Now().Before(p.free) {
		return nil, fault.Busy(port.Port)
	}
	return &sshlink.Listener{}, nil
}

func (p *portShell) ListenAgain(ctx context.Context, port int) (*sshlink.Listener, error) {
	return p.Listen(ctx, port)
}

func (p *portShell) ListenUnix(context.Context, string) (*sshlink.Listener, error) { return nil, nil }

// A tunnel that answers is not ended, and its port is taken at once; one that does not is ended, and no other one of
// this key is in between.
func TestAskedFirst(t *testing.T) {
	older := psLine(20, 10, 8080, 10, clock-60_000, "ours", "else.1") + psLine(21, 11, 8080, 11, clock-60_000, "ours", "else.2")
	later := psLine(20, 10, 8080, 10, clock-1_000, "ours", "else.1")
	future := psLine(20, 10, 8080, 10, clock+60_000, "ours", "else.1")
	mine := psLine(22, 12, 8080, 12, clock-5_000, "ours", "me.1")
	for name, c := range map[string]struct {
		marks    string
		afterAsk time.Duration
		asked    string
		ended    string
		after    time.Duration // at least, and 100 ms or a tenth more at most
	}{
		"it gives the port back":            {older, 400 * time.Millisecond, "21 20", "", 400 * time.Millisecond},
		"when it is asked again":            {older, 2 * time.Second, "21 20 21 20", "", 2 * time.Second},
		"it is silent":                      {older, 0, "21 20 21 20", "11 10", askTimes * askFor},
		"it was exposed later, as it seems": {later, 0, strings.TrimSpace(strings.Repeat("20 ", askTimesLater)), "10", askTimesLater * askFor},
		"or the clock was set back":         {future, 0, "20 20", "10", askTimes * askFor},
		"it is this tunnel's earlier link":  {mine, 0, "", "12", 0},
		"and others, who need not be asked": {older + mine, 0, "21 20", "12", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &portShell{proxyShell: proxyShell{listing: fmt.Sprintf("%d\n%s", clock, c.marks)}, afterAsk: c.afterAsk}
				me := Lease{slot: port, key: "ours", tunnel: "me", exposed: time.Now(), since: clock - 5_000}
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				slot, err := me.Take(ctx, p, 2)
				took := time.Since(begin)
				if slot == nil || err != nil || !me.holds() {
					t.Fatalf("%v, %v", slot, err)
				}
				if asked, ended := strings.Join(p.asked, " "), strings.Join(p.ended, " "); asked != c.asked || ended != c.ended {
					t.Errorf("asked %q, ended %q; want %q, %q", asked, ended, c.asked, c.ended)
				}
				if took < c.after || took > c.after+max(100*time.Millisecond, c.after/10) {
					t.Errorf("took %v, want %v", took, c.after)
				}
				t.Logf("the port was asked for %d times in %v", p.polls, took)
			})
		})
	}
}
