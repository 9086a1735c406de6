// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/steady"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// The status warns, so does the doctor.
func TestTheDoctorTellsWhatTheStatusWarnsOf(t *testing.T) {
	tun := plainAt("127.0.0.1", 8080)
	defer tun.end()
	d := newVisitorGate(tun)
	tun.useGate(d)
	d.websocket(false)
	if tun.Status().Warning == nil {
		t.Fatal("no warning")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var rows []string
	for _, c := range tun.Doctor(ctx) {
		rows = append(rows, c.Step+": "+c.Seen+" "+c.Hint.String())
	}
	if !strings.Contains(strings.Join(rows, "\n"), "websockets") {
		t.Errorf("the status warns %q, the doctor says\n%s", tun.Status().Warning, strings.Join(rows, "\n"))
	}
}

// Of an answer that was long on its way less is known of the proxy's clock than of one that came at once.
func TestAnAnswerThatCameLate(t *testing.T) {
	for _, late := range []time.Duration{25 * time.Second, time.Minute} { // of a link that is full; this process stood still
		c := loopcheck.New(func() {}, func() {})
		now := func() time.Time { return steady.Now().Add(time.Hour + time.Millisecond) } // the proxy's clock
		c.Learn(now(), 0)
		before, _ := c.Clock(t.Context())
		c.Learn(now().Add(-late), late)
		if after, _ := c.Clock(t.Context()); before-after > time.Second {
			t.Errorf("its clock is %v ahead by an answer of that moment, %v by one that was %v old", before, after, late)
		}
	}
}

// Once this machine was seen to be led here, the status does not say that nobody was asked.
func TestNobodyWasAsked(t *testing.T) {
	tun := plainAt("127.0.0.1", 8080)
	defer tun.end()
	tun.cfg.Check = CheckOff
	if err := tun.verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = tun.verified(t.Context(), probe.Finding{Kind: probe.Ours}, "url") // by the doctor, from this machine
	if s := tun.Status(); s.Checked == "url" && s.Unchecked != "" {
		t.Errorf("checked %q, unchecked %q", s.Checked, s.Unchecked)
	}
}

// A warning that is made in the instant in which it is over does not stay.
func TestAWarningThatIsOverAtOnce(t *testing.T) {
	tun := plainAt("127.0.0.1", 8080)
	defer tun.end()
	d := newVisitorGate(tun)
	tun.useGate(d)
	for range 20000 {
		d.anotherApp()
		var both sync.WaitGroup
		both.Go(func() { d.websocket(true) })
		both.Go(func() { d.websocket(false) })
		both.Wait()
		d.websocket(true)
		if tun.Status().Warning != nil {
			t.Fatal("the app takes websockets, and the warning stays")
		}
	}
}

// Where no answer came in time nobody has said that the account may not ask.
func TestExposureThatIsNotToldInTime(t *testing.T) {
	tun := plainAt("127.0.0.1", 8080)
	defer tun.end()
	if c := tun.checkExposure(t.Context()); !strings.Contains(c.Seen, "no answer in time, or") { // there is no link
		t.Errorf("%+v", c)
	}
}
