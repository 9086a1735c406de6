// SPDX-License-Identifier: Apache-2.0

// Package faulttest says what visitors see of a fault: figures, a page and plots, out of what was measured.
//
//	figures := faulttest.Measure(visits, watch) // of one repetition
//	text := faulttest.Tables(rows, results)    // of docs/reliability.md
//	plot := faulttest.Recovery(rows, results)  // SVG
//
// With the build tag "faults" its tests are the run that measures: ./build.sh faults. They make the faults on a real
// sshd and nginx, in namespaces of their own, under the tunnel as it is installed, autossh and plain ssh.
package faulttest

import (
	"cmp"
	"slices"
	"time"
)

// Visit is a request of a visitor.
type Visit struct {
	Begin  time.Duration // after the beginning of the fault; less than 0: before
	Took   time.Duration
	Works  time.Duration // how long the app takes for it
	Post   bool
	Status int // 0: the connection was cut; GaveUp: the visitor's patience was at its end
	Runs   int // how often the app ran it
}

// GaveUp is the status of a visit that had no answer in time.
const GaveUp = -1

// late is how much longer than the app a visit may take, to count as served.
const late = time.Second

func (v Visit) failed() bool { return v.Status != 200 }
func (v Visit) served() bool { return !v.failed() && v.Took <= v.Works+late }

// Watch is what of a repetition the figures are about.
type Watch struct {
	From time.Duration // recovery counts from here: the fault's beginning, or its end where nothing can be served before
	End  time.Duration // the last visit began
}

// Figures are those of one repetition.
type Figures struct {
	Recovery    *float64 `json:"recovery"` // s until new visitors are served; null: they were not, as long as it was watched
	Watched     float64  `json:"watched"`  // s after Watch.From
	Requests    int      `json:"requests"`
	FailedGET   int      `json:"failed_get"`
	FailedPOST  int      `json:"failed_post"`
	Hung        int      `json:"hung"` // of those that failed: no answer within the visitor's patience
	TwicePOST   int      `json:"twice_post"`
	TwiceGET    int      `json:"twice_get"`
	Ran         int      `json:"ran"`     // POSTs that failed, and had run
	Longest     float64  `json:"longest"` // s that a visitor waited, less what the app took
	Timeline    [][3]int `json:"timeline,omitempty"`
	BeforeFault int      `json:"before"` // cells of Timeline before the fault
}

// Cell is how long one of Timeline is: how many of the visits that began in it were served, late, and failed.
const Cell = 250 * time.Millisecond

// Measure has the figures of one repetition.
func Measure(visits []Visit, w Watch) (f Figures) {
	slices.SortFunc(visits, func(a, b Visit) int { return cmp.Compare(a.Begin, b.Begin) })
	f.Requests, f.Watched = len(visits), (w.End - w.From).Seconds()
	for _, v := range visits {
		f.count(v)
	}
	if at, back := recovery(visits, w); back {
		seconds := at.Seconds()
		f.Recovery = &seconds
	}
	f.Timeline, f.BeforeFault = timeline(visits)
	return f
}

func (f *Figures) count(v Visit) {
	f.Longest = max(f.Longest, (v.Took - v.Works).Seconds())
	if v.Post && v.Runs > 1 {
		f.TwicePOST++
	}
	if !v.Post && v.Runs > 1 {
		f.TwiceGET++
	}
	if !v.failed() {
		return
	}
	if v.Status == GaveUp {
		f.Hung++
	}
	if v.Post {
		f.FailedPOST++
	} else {
		f.FailedGET++
	}
	if v.Post && v.Runs > 0 {
		f.Ran++
	}
}

// few is how many of those who come within a second may not be served without it being an outage, a twentieth: other
// programs use the machine too.
const few = 10

// recovery is how long after w.From the last visit began that was not served, one of few within a second. Visitors are not
// served
// again if there were such in the last second.
func recovery(visits []Visit, w Watch) (time.Duration, bool) {
	var bad []time.Duration
	for _, v := range visits {
		if !v.served() && v.Begin >= 0 {
			bad = append(bad, v.Begin)
		}
	}
	for i := len(bad) - 1; i >= few-1; i-- {
		if bad[i]-bad[i-few+1] <= time.Second {
			return max(0, bad[i]-w.From), w.End-bad[i] > time.Second
		}
	}
	return 0, true
}

func timeline(visits []Visit) (cells [][3]int, before int) {
	if len(visits) == 0 {
		return nil, 0
	}
	first := int(visits[0].Begin / Cell)
	if visits[0].Begin < 0 {
		first--
	}
	for _, v := range visits {
		i := int((v.Begin - time.Duration(first)*Cell) / Cell)
		for len(cells) <= i {
			cells = append(cells, [3]int{})
		}
		switch {
		case v.failed():
			cells[i][2]++
		case v.served():
			cells[i][0]++
		default:
			cells[i][1]++
		}
	}
	return cells, -first
}

// State is what a tunnel says of itself, at a time after the beginning of the fault.
type State struct {
	At    float64 `json:"at"`
	State string  `json:"state"`
	Links int     `json:"links"`
	Error string  `json:"error,omitempty"`
}

// Tells is how long, in seconds, a tunnel said that visitors are served while fewer than half of those who came were,
// and that they are not while all were. Both are less than 5 where the state tells the truth.
type Tells struct {
	UpWhileAway float64 `json:"up_while_away"`
	AwayWhileUp float64 `json:"away_while_up"`
}

// Truth compares what a tunnel said with what visitors saw.
func Truth(visits []Visit, said []State) (t Tells) {
	cells, before := timeline(visits)
	up, away := 0.0, 0.0
	for i, c := range cells {
		at := (time.Duration(i-before) * Cell).Seconds()
		state := sayingAt(said, at)
		all := c[0] + c[1] + c[2]
		serves := state == "up" || state == "degraded"
		if state != "" && all > 0 && serves && 2*c[0] < all {
			up += Cell.Seconds()
		} else {
			up = 0
		}
		if state != "" && all > 0 && !serves && c[0] == all {
			away += Cell.Seconds()
		} else {
			away = 0
		}
		t.UpWhileAway, t.AwayWhileUp = max(t.UpWhileAway, up), max(t.AwayWhileUp, away)
	}
	return t
}

// silent is how old what was said may be: a process that is stopped says nothing.
const silent = 1.5

func sayingAt(said []State, at float64) string {
	for i := len(said) - 1; i >= 0; i-- {
		if said[i].At <= at {
			if at-said[i].At > silent {
				return ""
			}
			return said[i].State
		}
	}
	return ""
}

// Result is one repetition of a row with one system.
type Result struct {
	Row    string  `json:"row"`
	System string  `json:"system"`
	Rep    int     `json:"rep"` // 0: the control, without the fault
	When   string  `json:"when"`
	Commit string  `json:"commit"`
	Load   float64 `json:"load"` // of the machine, at the end
	Idle   float64 `json:"idle"` // part of the processors that was left
	Busy   float64 `json:"busy"` // how much of a core the visitors and the app took
	Figures
	Sockets int     `json:"sockets"` // websockets that were lost
	Tells   *Tells  `json:"tells"`   // null: the system says nothing of itself
	States  []State `json:"states,omitempty"`
	Proof   string  `json:"proof"` // the line of a log that says what happened
}
