// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// Checked is what was seen of one step of the chain between the app and its visitors.
type Checked = probe.Checked

// doctorTimeout bounds each step.
const doctorTimeout = 10 * time.Second

// Doctor looks along the chain, read-only, from the app to the public URL, asks as a visitor would, and returns what it
// saw, in that order. Such a visit is not counted. Without a gate (Raw, Listen) there is none.
func (t *Tunnel) Doctor(ctx context.Context) []Checked {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	beside := guard.Group{Panicked: t.tasks.Panicked}
	var app Checked
	beside.Go(func() { app = t.checkApp(ctx) })
	var exposure []Checked
	if t.sup.one() != nil && t.slotPort() != 0 {
		beside.Go(func() { exposure = []Checked{t.checkExposure(ctx)} })
	}
	url, a := t.checkURL(ctx)
	rows := []Checked{url}
	if t.door != nil {
		rows = append(rows, t.checkVisitor(ctx, a))
	}
	beside.Wait()
	return append(append([]Checked{app, t.checkLink()}, exposure...), rows...)
}

func (t *Tunnel) checkApp(ctx context.Context) Checked {
	c := Checked{Step: "app", OK: true}
	addr := t.target.Addr()
	switch {
	case t.door == nil && addr == "":
		c.Seen = "the program serves visitors itself"
	case addr == "":
		c.OK, c.Seen, c.Hint = false, "there is no app yet", "run the cell that starts it"
	default:
		c.Seen = addr + " answers"
		if err := probe.App(ctx, addr); err != nil {
			told := fault.AppRefused(addr, err)
			c.OK, c.Seen, c.Hint = false, told.Err.Error(), told.Hint
		}
	}
	return c
}

func (t *Tunnel) checkLink() Checked {
	s := t.Status()
	c := Checked{Step: "link", OK: s.Links > 0, Seen: fmt.Sprintf("%d to %s, %d listening there (%s)", s.Links, s.Server, s.Slots, t.Addr())}
	if s.LastError != nil && (!c.OK || s.State == Degraded) {
		c.Seen, c.Hint = fmt.Sprintf("%s; %s: %s", c.Seen, s.State, s.LastError.Error()), s.LastError.Hint
	}
	return c
}

// checkURL asks from this machine, and where that is not possible from the proxy. It also says how a visitor can come in.
func (t *Tunnel) checkURL(ctx context.Context) (Checked, approach) {
	question, end := t.question()
	defer end()
	question.Once = true
	how, f := "from this machine", probe.URL(ctx, question)
	a := t.approach(how, f, nil)
	if f.Kind == probe.Unreachable {
		fromProxy := t.fromProxy(question, t.sup.dial)
		if within := probe.URL(ctx, fromProxy); within.Kind != probe.Unreachable {
			how, f = "from the proxy", within
			a = t.approach(how, f, fromProxy.Dial)
		}
	}
	return t.judgeURL(how, f), a
}

func (t *Tunnel) judgeURL(how string, f probe.Finding) Checked {
	p := t.place.Load()
	c := Checked{Step: "url", Seen: fmt.Sprintf("%s, asked %s, answers %s", p.url, how, f.Answer)}
	switch f.Kind {
	case probe.Ours:
		c.OK, c.Seen = true, fmt.Sprintf("%s leads here, asked %s", p.url, how)
	case probe.Newer, probe.Older, probe.Another:
		c.Hint = "the newest expose() wins; close the other tunnel, or run this one's cell again to have it back"
	case probe.Elsewhere, probe.Nobody:
		c.Hint = fault.NotOurs(p.url, f.Answer, t.Addr()).Hint
	case probe.Guarded:
		c.OK, c.Hint = true, "a login or another host stands before it, so it cannot be told whether it leads here: open it"
	default:
		if told := fault.Connect(p.url, f.Err); errors.Is(told, fault.ErrLimit) {
			c.Seen, c.Hint = told.Err.Error(), told.Hint
			break
		}
		c.Seen, c.Hint = fmt.Sprintf("%s cannot be opened from here, nor from the proxy: %s", p.url, f.Answer), "open it in a browser; if it fails there too, look at nginx on the proxy, or pass url="
	}
	return c
}
