// SPDX-License-Identifier: Apache-2.0

package faulttest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// crowd has visitors every 5 ms from one time to another, of whom each has what is told.
func crowd(from, to time.Duration, each func(at time.Duration) Visit) (all []Visit) {
	for at := from; at < to; at += 5 * time.Millisecond {
		v := each(at)
		v.Begin = at
		all = append(all, v)
	}
	return all
}

// outage is visitors who are not served from the fault's beginning until then.
func outage(until time.Duration) []Visit {
	return crowd(-time.Second, 10*time.Second, func(at time.Duration) Visit {
		if at >= 0 && at < until {
			return Visit{Status: 502, Post: at%(10*time.Millisecond) == 0}
		}
		return Visit{Status: 200, Took: 1900 * time.Millisecond, Works: time.Second}
	})
}

func TestRecovery(t *testing.T) {
	for name, c := range map[string]struct {
		visits []Visit
		from   time.Duration
		want   string
	}{
		"nobody is lost":            {outage(0), 0, "0.00"},
		"two":                       {outage(2 * time.Second), 0, "2.00"},
		"from its end":              {outage(2 * time.Second), 1500 * time.Millisecond, "0.49"},
		"over before its end":       {outage(time.Second), 2 * time.Second, "0.00"},
		"never":                     {outage(10 * time.Second), 0, "never"},
		"few visitors are no fault": {outage(40 * time.Millisecond), 0, "0.00"},
		"late": {crowd(0, 10*time.Second, func(at time.Duration) Visit {
			return Visit{Status: 200, Took: max(0, 4*time.Second-at)}
		}), 0, "3.00"},
	} {
		f := Measure(c.visits, Watch{From: c.from, End: 10 * time.Second})
		got := seconds(recoveries([]Result{{Figures: f}})[0])
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCounts(t *testing.T) {
	f := Measure([]Visit{
		{Status: 200, Post: true, Runs: 2, Took: 3 * time.Second, Works: time.Second},
		{Status: 200, Runs: 2},
		{Status: 502, Post: true, Runs: 1},
		{Status: 0, Post: true},
		{Status: GaveUp, Took: 30 * time.Second},
	}, Watch{End: time.Second})
	got := fmt.Sprintf("%d requests, %d GET %d POST failed, %d hung, %d had run, %d %d twice, %.0f s", f.Requests, f.FailedGET, f.FailedPOST, f.Hung, f.Ran, f.TwicePOST, f.TwiceGET, f.Longest)
	if want := "5 requests, 1 GET 2 POST failed, 1 hung, 1 had run, 1 1 twice, 30 s"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A state is wrong only as long as it is said: of a process that is stopped nothing is known.
func TestTruth(t *testing.T) {
	says := func(up, until float64) (all []State) {
		for at := -1.0; at < until; at += 0.5 {
			state := "reconnecting"
			if at < up {
				state = "up"
			}
			all = append(all, State{At: at, State: state, Links: 2})
		}
		return all
	}
	for name, c := range map[string]struct {
		said     []State
		up, away float64
	}{
		"up for 2 s too long":     {says(2, 3), 2, 0},
		"away for 6 s too long":   {says(0, 10), 0, 6},
		"stopped, and so nothing": {says(0, 0), 1.5, 0},
	} {
		got := Truth(outage(4*time.Second), c.said)
		if got.UpWhileAway > c.up+0.3 || got.UpWhileAway < c.up-1.5 || got.AwayWhileUp > c.away+0.3 || got.AwayWhileUp < c.away-0.5 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// results are six of each system, of which the others are better than ours.
func some() (all []Result) {
	for i, s := range Systems {
		for rep := range 7 {
			took := time.Duration(len(Systems)-i) * time.Second
			if rep == 0 {
				took = 0
			}
			r := Result{Row: "x < y", System: s.ID, Rep: rep, Figures: Measure(outage(took), Watch{End: 10 * time.Second})}
			if rep > 0 {
				r.Proof = "sshd: said"
			}
			if i < 2 {
				r.Tells = &Tells{UpWhileAway: 7}
			}
			all = append(all, r)
		}
	}
	return all
}

func TestTables(t *testing.T) {
	text := Tables([]Row{{Name: "x < y", Note: "Since."}, {Name: "of which there is nothing"}}, some())
	for _, want := range []string{
		"| x < y | 4.00, 800 failed |",
		"**Not the best here:** ours, plain proxy was back after 4.00 s, autossh after 2.00 s; ours, plain proxy failed 800 requests, autossh 400;",
		"| up for 7.0 s", "| ssh -R | 6 | 0.99 | - |", "says nothing | nothing |", "    autossh               sshd: said", "\nSince.\n",
	} {
		if !strings.Contains(text, strings.ReplaceAll(want, "| up for", "| **up for")) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "of which there is nothing") {
		t.Error("a row without results is there")
	}
}

func TestPlots(t *testing.T) {
	for name, plot := range map[string]string{
		"recovery": Recovery([]Row{{Name: "x < y"}, {Name: "nothing"}}, some()),
		"outage":   Outage("x < y", some()),
		"empty":    Outage("nothing", nil),
	} {
		d := xml.NewDecoder(strings.NewReader(plot))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v in %s", name, err, plot)
			}
		}
		if name != "empty" && strings.Count(plot, "<circle")+strings.Count(plot, "<rect") < 5 {
			t.Errorf("%s shows nothing: %s", name, plot)
		}
	}
}
