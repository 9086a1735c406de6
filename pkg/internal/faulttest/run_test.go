// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	python  = flag.String("python", "", "the Python that has the wheel installed")
	repeat  = flag.Int("repeat", 5, "repetitions of each row; there are p95s from 20 on")
	again   = flag.Bool("again", false, "also those whose results are there")
	only    = flag.String("systems", strings.Join(systems, ","), "which")
	list    = flag.Bool("list", false, "only the names of the rows")
	write   = flag.Bool("write", false, "only docs/reliability.md and its plots, of what is there")
	results = flag.String("results", "../../../docs/reliability/results.jsonl", "where each repetition is a line; plots go there, too")
	busy    = flag.Bool("busy", false, "record also what was measured while the machine had nothing left")
	keep    = flag.String("logs", "", "a directory for the logs of each repetition")
	commit  = flag.String("commit", "", "of what is measured")
	wanted  []string // rows, by a part of their names; none: all
)

func TestMain(m *testing.M) {
	flag.Parse()
	for _, dir := range []string{filepath.Dir(*results), *keep} {
		if err := os.MkdirAll(dir, 0o755); dir != "" && err != nil {
			panic(err)
		}
	}
	for flag.NArg() > 0 { // names may stand between options
		wanted = append(wanted, flag.Arg(0))
		_ = flag.CommandLine.Parse(flag.Args()[1:])
	}
	os.Exit(m.Run())
}

func TestFaults(t *testing.T) {
	if *soak > 0 {
		t.Skip("--soak is in place of rows")
	}
	for _, r := range chosen(t) {
		if *list {
			fmt.Println(r.name)
			continue
		}
		for rep := range *repeat + 1 {
			for _, kind := range strings.Split(*only, ",") {
				if !r.own || kind == "plain" || kind == "prepared" {
					t.Run(fmt.Sprintf("%s/%s/%d", r.name, kind, rep), func(t *testing.T) { record(t, r, kind, rep) })
				}
			}
		}
	}
	if !*list {
		page(t, read(t))
	}
}

// chosen are the rows to run.
func chosen(t *testing.T) (all []row) {
	for _, kind := range strings.Split(*only, ",") {
		if !slices.Contains(systems, kind) {
			t.Fatalf("there is no system %q", kind)
		}
	}
	for _, r := range rows {
		if len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return strings.Contains(r.name, w) }) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no row has %q in its name; there are those that --list shows", wanted)
	}
	return all
}

// read has the newest result of each repetition.
func read(t *testing.T) (all []Result) {
	f, err := os.OpenFile(*results, os.O_CREATE|os.O_RDONLY, 0o644)
	must(t, err)
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o Result
		must(t, json.Unmarshal(lines.Bytes(), &o))
		all = slices.DeleteFunc(all, func(e Result) bool { return e.Row == o.Row && e.System == o.System && e.Rep == o.Rep })
		all = append(all, o)
	}
	must(t, lines.Err())
	return all
}

// record adds the result of one repetition to the others, unless it is there.
func record(t *testing.T, r row, kind string, rep int) {
	there := slices.ContainsFunc(read(t), func(o Result) bool { return o.Row == r.name && o.System == kind && o.Rep == rep })
	if *write || there && !*again {
		return
	}
	o := Result{Row: r.name, System: kind, Rep: rep, When: time.Now().UTC().Format(time.RFC3339), Commit: *commit}
	repetition(t, &r, &o)
	if o.Idle < idleLeast && !*busy {
		t.Fatalf("not recorded: only %.0f %% of the processors were left, other programs use them; run it again", 100*o.Idle)
	}
	f, err := os.OpenFile(*results, os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	must(t, json.NewEncoder(f).Encode(o))
	must(t, f.Close())
	back := "not back"
	if o.Recovery != nil {
		back = fmt.Sprintf("back after %.2f s", *o.Recovery)
	}
	fmt.Printf("%s, %s, %d: %s, of %d requests %d GET and %d POST failed, %d hung, %d POST ran twice, longest %.1f s, %d websockets lost; load %.1f\n   %s\n",
		r.name, kind, rep, back, o.Requests, o.FailedGET, o.FailedPOST, o.Hung, o.TwicePOST, o.Longest, o.Sockets, o.Load, o.Proof)
	if ours := kind == "plain" || kind == "prepared"; ours && rep > 0 && r.back > 0 && (o.Recovery == nil || *o.Recovery > r.back.Seconds() || o.TwicePOST > 0) {
		t.Errorf("visitors were to be served %v after the end, and nothing to run twice", r.back)
	}
}

// idleLeast is the part of the processors that must be left. What shares too few of them measures its rivals: of four
// rows at a load of 30 visitors were not served again within a minute.
const idleLeast = 0.1

const (
	before = 3 * time.Second  // visitors come
	watch  = 60 * time.Second // at most, after the fault
)

func repetition(t *testing.T, r *row, o *Result) {
	if o.Rep == 0 {
		r.sshd = nil
	}
	s := start(t, o.System, r)
	f := &field{system: s, control: o.Rep == 0}
	visitors, used, idle := begin(s), processor(), idleSince()
	time.Sleep(before)
	logs := s.logs()
	zero := time.Now()
	r.does(f)
	over := time.Now()
	for end := over.Add(watch); time.Now().Before(end) && !s.over(visitors, over); {
		time.Sleep(100 * time.Millisecond)
	}
	w := Watch{End: time.Since(zero)}
	o.Idle = idle()
	o.Busy = (processor() - used).Seconds() / time.Since(visitors.epoch).Seconds()
	if r.fromEnd {
		w.From = over.Sub(zero)
	}
	visits := visitors.finish(zero)
	o.Figures, o.Sockets = Measure(visits, w), int(visitors.lost.Load())
	if o.Rep > 1 {
		o.Timeline = nil
	}
	if s.ours() {
		states := s.told(zero)
		tells := Truth(visits, states)
		o.Tells, o.States = &tells, changes(states)
	}
	o.Proof, o.Load = s.proof(r, logs), load1()
}

// over reports whether there is no more to be seen: visitors have been served for some time, or the client has ended.
func (s *system) over(visitors *load, since time.Time) bool {
	if time.Since(since) < clean {
		return false
	}
	if s.ended() {
		return time.Since(since) > 2*clean
	}
	return visitors.wellSince(time.Now().Add(-clean))
}

func (s *system) ended() bool {
	state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	return strings.Contains(string(state), ") Z ")
}

// changes leaves out what was said before.
func changes(states []State) (few []State) {
	for _, s := range states {
		if len(few) == 0 || few[len(few)-1].State != s.State || few[len(few)-1].Links != s.Links {
			few = append(few, s)
		}
	}
	if len(few) > 40 {
		few = few[:40]
	}
	return few
}

// proof is the first new line that says what happened.
func (s *system) proof(r *row, before map[string]string) string {
	now := s.logs()
	for of, text := range now {
		if *keep != "" {
			must(s.t, os.WriteFile(fmt.Sprintf("%s/%s.%s.%s", *keep, strings.NewReplacer(" ", "-", "/", "-").Replace(r.name), s.kind, of), []byte(text), 0o644))
		}
	}
	for _, of := range []string{"client", "sshd", "nginx", "access", "stale"} {
		news := strings.TrimPrefix(now[of], before[of])
		if r.proof == "" {
			break
		}
		for line := range strings.Lines(news) {
			if regexp.MustCompile(r.proof).MatchString(line) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), ", client:") // which nginx adds to each
				return of + ": " + line
			}
		}
	}
	if len(r.sshd) > 0 {
		return "sshd_config: " + strings.Join(r.sshd, ", ")
	}
	return s.net.dropped()
}

// processor is how long this process was at work: visitors and the app.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idleSince returns what says which part of the processors was left since (proc_stat(5): the fourth and fifth figure).
func idleSince() func() float64 {
	read := func() (idle, all float64) {
		text, _ := os.ReadFile("/proc/stat")
		line, _, _ := strings.Cut(string(text), "\n")
		for i, field := range strings.Fields(line)[1:] {
			n, _ := strconv.ParseFloat(field, 64)
			if all += n; i == 3 || i == 4 {
				idle += n
			}
		}
		return idle, all
	}
	idle, all := read()
	return func() float64 {
		idleNow, allNow := read()
		return (idleNow - idle) / max(1, allNow-all)
	}
}

func load1() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	n, _ := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	return n
}

// about is what was measured on.
func about(all []Result) string {
	var commits, days []string
	var loads, busy, idle []float64
	for _, r := range all {
		commits, days = append(commits, r.Commit), append(days, r.When[:10])
		loads, busy, idle = append(loads, r.Load), append(busy, r.Busy), append(idle, r.Idle)
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(commits)
	slices.Sort(days)
	slices.Sort(loads)
	slices.Sort(busy)
	slices.Sort(idle)
	return fmt.Sprintf("Measured %s at %s, on %d cores, Linux %s, %s, %s, %s. Load of the machine: median %.1f, from %.1f to %.1f; "+
		"visitors and the app took %.2f of a core (median; at most %.2f), and %.0f %% of the processors were left (at least %.0f %%).\n", strings.Join(slices.Compact([]string{days[0], days[len(days)-1]}), " to "), strings.Join(slices.Compact(commits), ", "), runtime.NumCPU(),
		first("uname", "-r"), first("ssh", "-V"), first("nginx", "-v"), first("autossh", "-V"), quantile(loads, 0.5), loads[0], loads[len(loads)-1], quantile(busy, 0.5), busy[len(busy)-1], 100*quantile(idle, 0.5), 100*idle[0])
}

// first is what a program says of its version.
func first(name string, args ...string) string {
	said, _ := exec.Command(name, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(said), "\n")
	return strings.TrimPrefix(line, "nginx version: ")
}

// mark begins what is written by a run.
const mark = "<!-- what follows is written by ./build.sh faults -->\n"

// page writes docs/reliability.md and its plots.
func page(t *testing.T, all []Result) {
	const path = "../../../docs/reliability.md"
	plots := filepath.Dir(*results) + "/"
	var known []Row
	for _, r := range rows {
		known = append(known, Row{Name: r.name, From: map[bool]string{true: "its end"}[r.fromEnd], Note: r.note})
	}
	text, err := os.ReadFile(path)
	must(t, err)
	head, _, _ := strings.Cut(string(text), mark)
	must(t, os.WriteFile(path, []byte(head+mark+"\n"+about(all)+"\n"+Tables(known, all)+soaks(t)), 0o644))
	must(t, os.WriteFile(plots+"recovery.svg", []byte(Recovery(known, all)), 0o644))
	must(t, os.WriteFile(plots+"outage.svg", []byte(Outage(shown, all)), 0o644))
}
