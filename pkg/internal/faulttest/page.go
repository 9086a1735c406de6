// SPDX-License-Identifier: Apache-2.0

package faulttest

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Row is a fault, as the page has it.
type Row struct {
	Name string
	From string // what recovery counts from: "" for the fault's beginning, or "its end"
	Note string // why a system is not what a reader would expect
}

// Systems are those that are compared, ours first, as the page and the plots call them.
var Systems = []struct{ ID, Name, Colour string }{
	{"plain", "ours, plain proxy", "#1a7f37"},
	{"prepared", "ours, prepared proxy", "#0969da"},
	{"autossh", "autossh", "#bf8700"},
	{"ssh", "ssh -R", "#a40e26"},
}

// tellsWithin is how long a state may be wrong, in seconds.
const tellsWithin = 5

// enough repetitions have a 95th percentile.
const enough = 20

// never stands for a recovery that was not seen.
var never = math.Inf(1)

// of are the repetitions of a row with a system, and its control.
func of(results []Result, row, system string) (reps []Result, control *Result) {
	for _, r := range results {
		if r.Row == row && r.System == system {
			if r.Rep == 0 {
				control = &r
			} else {
				reps = append(reps, r)
			}
		}
	}
	return reps, control
}

// recoveries are in order.
func recoveries(reps []Result) (all []float64) {
	for _, r := range reps {
		if r.Recovery == nil {
			all = append(all, never)
		} else {
			all = append(all, *r.Recovery)
		}
	}
	slices.Sort(all)
	return all
}

// quantile of values in order is one of them (nearest rank).
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Tables is the part of docs/reliability.md that the run writes: a summary, and a section for each row that has results.
func Tables(rows []Row, results []Result) string {
	var b strings.Builder
	b.WriteString("| fault |")
	for _, s := range Systems {
		b.WriteString(" " + s.Name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(Systems)) + "\n")
	rows = slices.DeleteFunc(slices.Clone(rows), func(row Row) bool {
		return !slices.ContainsFunc(results, func(r Result) bool { return r.Row == row.Name })
	})
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row.Name)
		for _, s := range Systems {
			reps, _ := of(results, row.Name, s.ID)
			b.WriteString(" " + brief(reps) + " |")
		}
		b.WriteString("\n")
	}
	for _, row := range rows {
		section(&b, row, results)
	}
	return b.String()
}

// brief is the median recovery, with what no visitor should meet.
func brief(reps []Result) string {
	if len(reps) == 0 {
		return "-"
	}
	text := spread(recoveries(reps))
	failed := medianOf(reps, func(r Result) int { return r.FailedGET + r.FailedPOST })
	text += fmt.Sprintf(", %d failed", failed)
	if twice := most(reps, func(r Result) int { return r.TwicePOST }); twice > 0 {
		text += fmt.Sprintf(", **%d twice**", twice)
	}
	return text
}

func section(b *strings.Builder, row Row, results []Result) {
	from := row.From
	if from == "" {
		from = "the fault's beginning"
	}
	fmt.Fprintf(b, "\n### %s\n\nRecovery counts from %s.\n\n", row.Name, from)
	b.WriteString("| system | times | recovery, s | p95 | failed GET | failed POST | of them hung | had run | POST run twice | longest wait, s | websockets lost | state true | control |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	var proofs []string
	for _, s := range Systems {
		reps, control := of(results, row.Name, s.ID)
		if len(reps) == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells(s.Name, reps, control), " | "))
		if i := slices.IndexFunc(reps, func(r Result) bool { return r.Proof != "" }); i >= 0 {
			proofs = append(proofs, fmt.Sprintf("    %-20s  %s", s.Name, reps[i].Proof))
		}
	}
	if len(proofs) > 0 {
		fmt.Fprintf(b, "\n%s\n", strings.Join(proofs, "\n"))
	}
	if behind := Behind(row.Name, results); len(behind) > 0 {
		fmt.Fprintf(b, "\n**Not the best here:** %s.", strings.Join(behind, "; "))
		if row.Note == "" {
			b.WriteString("\n")
		}
	}
	if row.Note != "" {
		fmt.Fprintf(b, "\n%s\n", row.Note)
	}
}

func cells(name string, reps []Result, control *Result) []string {
	back := recoveries(reps)
	count := func(figure func(Result) int) string {
		least, median := slices.Min(each(reps, figure)), medianOf(reps, figure)
		if high := most(reps, figure); high != least {
			return fmt.Sprintf("%d (%d-%d)", median, least, high)
		}
		return fmt.Sprint(median)
	}
	p95 := "-"
	if len(reps) >= enough {
		p95 = seconds(quantile(back, 0.95))
	}
	var waits []float64
	for _, r := range reps {
		waits = append(waits, r.Longest)
	}
	slices.Sort(waits)
	return []string{name, fmt.Sprint(len(reps)), spread(back), p95,
		count(func(r Result) int { return r.FailedGET }), count(func(r Result) int { return r.FailedPOST }),
		count(func(r Result) int { return r.Hung }), count(func(r Result) int { return r.Ran }), count(func(r Result) int { return r.TwicePOST }),
		spread(waits), count(func(r Result) int { return r.Sockets }), truth(reps), controlled(control)}
}

// controlled says what the row found without its fault: nothing, if it finds the fault.
func controlled(c *Result) string {
	if c == nil {
		return "-"
	}
	if c.Recovery != nil && *c.Recovery == 0 && c.FailedGET+c.FailedPOST+c.TwicePOST+c.Sockets == 0 && c.Proof == "" {
		return "nothing"
	}
	return fmt.Sprintf("%d failed, %d websockets %s", c.FailedGET+c.FailedPOST, c.Sockets, c.Proof)
}

// truth is the worst of what a tunnel said.
func truth(reps []Result) string {
	var worst Tells
	for _, r := range reps {
		if r.Tells == nil {
			return "says nothing"
		}
		worst.UpWhileAway = max(worst.UpWhileAway, r.Tells.UpWhileAway)
		worst.AwayWhileUp = max(worst.AwayWhileUp, r.Tells.AwayWhileUp)
	}
	switch {
	case worst.UpWhileAway > tellsWithin:
		return fmt.Sprintf("**up for %.1f s while visitors were not served**", worst.UpWhileAway)
	case worst.AwayWhileUp > tellsWithin:
		return fmt.Sprintf("**away for %.1f s while they were**", worst.AwayWhileUp)
	}
	return fmt.Sprintf("yes, within %.1f s", max(worst.UpWhileAway, worst.AwayWhileUp))
}

// Behind says where one of ours is not as good as one of the others: back later by more than a quarter of a second,
// or with more requests that failed, by a tenth and by more than a tenth of a second has.
func Behind(row string, results []Result) (all []string) {
	const slower, more, floor = 0.25, 1.1, 20
	for _, ours := range Systems[:2] {
		mine, _ := of(results, row, ours.ID)
		for _, other := range Systems[2:] {
			theirs, _ := of(results, row, other.ID)
			if len(mine) == 0 || len(theirs) == 0 {
				continue
			}
			a, b := quantile(recoveries(mine), 0.5), quantile(recoveries(theirs), 0.5)
			if a > b+slower {
				all = append(all, fmt.Sprintf("%s was back after %s s, %s after %s s", ours.Name, seconds(a), other.Name, seconds(b)))
			}
			failed := func(r Result) int { return r.FailedGET + r.FailedPOST }
			if x, y := medianOf(mine, failed), medianOf(theirs, failed); float64(x) > more*float64(y)+floor {
				all = append(all, fmt.Sprintf("%s failed %d requests, %s %d", ours.Name, x, other.Name, y))
			}
		}
	}
	return all
}

func each(reps []Result, figure func(Result) int) (all []int) {
	for _, r := range reps {
		all = append(all, figure(r))
	}
	return all
}

func most(reps []Result, figure func(Result) int) int { return slices.Max(each(reps, figure)) }

func medianOf(reps []Result, figure func(Result) int) int {
	all := each(reps, figure)
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// spread is the median of values in order, with the extremes.
func spread(sorted []float64) string {
	median := quantile(sorted, 0.5)
	if len(sorted) == 1 || sorted[0] == sorted[len(sorted)-1] {
		return seconds(median)
	}
	return fmt.Sprintf("%s (%s-%s)", seconds(median), seconds(sorted[0]), seconds(sorted[len(sorted)-1]))
}

func seconds(s float64) string {
	switch {
	case s == never:
		return "never"
	case s < 10:
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.0f", s)
}
