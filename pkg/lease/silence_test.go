// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// silentProxy runs no command: it refuses them, or has no answer. It gives a socket to the one that asks.
type silentProxy struct {
	refuses bool
	taken   int
}

func (p *silentProxy) Script(ctx context.Context, _ string) ([]byte, error) {
	if p.refuses {
		return nil, sshlink.ErrNoSession
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (p *silentProxy) Listen(context.Context, int) (*sshlink.Listener, error) {
	return nil, errors.ErrUnsupported
}

func (p *silentProxy) ListenAgain(context.Context, int) (*sshlink.Listener, error) {
	return nil, errors.ErrUnsupported
}

func (p *silentProxy) ListenUnix(context.Context, string) (*sshlink.Listener, error) {
	p.taken++
	return nil, nil
}

// Where marks were read before, silence does not say that no newer tunnel has the socket; where none ever were, an account
// has its socket all the same. Either way it is asked at the URL, for which there is time left.
func TestSilenceIsNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		refuses, answered, newer bool
		want                     error // nil: the socket is taken
	}{
		"refused, as ever":       {true, false, false, nil},
		"refused now":            {true, true, false, nil},
		"silent, as ever":        {false, false, false, nil},
		"silent now":             {false, true, false, fault.ErrUnreachable},
		"refused, a newer one":   {true, false, true, fault.ErrReplaced},
		"silent, a newer one":    {false, false, true, fault.ErrReplaced},
		"silent now, and newer":  {false, true, true, fault.ErrReplaced},
		"refused now, and newer": {true, true, true, fault.ErrReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				me := New(&net.UnixAddr{Name: "/slot", Net: "unix"}, "ours", func(ctx context.Context) bool { return c.newer && ctx.Err() == nil })
				me.held = true
				if c.answered {
					me.since = time.Now().UnixMilli()
				}
				p := &silentProxy{refuses: c.refuses}
				_, err := me.Take(t.Context(), p, 2)
				if !errors.Is(err, c.want) || p.taken != map[bool]int{true: 1}[c.want == nil] {
					t.Errorf("%v, taken %d times; want %v", err, p.taken, c.want)
				}
				if fault.IsPermanent(err) != (c.want == fault.ErrReplaced) {
					t.Errorf("permanent: %v", err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // before it had the socket a tunnel asks nobody
		me := New(&net.UnixAddr{Name: "/slot", Net: "unix"}, "ours", nil)
		me.since = time.Now().UnixMilli()
		p := &silentProxy{}
		if _, err := me.Take(t.Context(), p, 1); err != nil || p.taken != 1 {
			t.Errorf("%v, taken %d times", err, p.taken)
		}
	})
}
