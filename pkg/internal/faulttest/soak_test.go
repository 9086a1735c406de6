// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	soak = flag.Duration("soak", 0, "random faults for so long, in place of rows")
	seed = flag.Uint64("seed", 1, "of the soak's faults")
)

// What a notebook's process may grow by between the first half of a soak and its end.
const (
	longEnough      = 10 * time.Minute // shorter ones have memory grow to their end: the gate remembers a POST for 150 s
	mostMemory      = 5 << 20
	mostThreads     = 3
	mostDescriptors = 3
	mostGoroutines  = 5
)

// trouble is a fault of the soak. spares: it leaves one link alone.
type trouble struct {
	name   string
	spares bool
	does   func(*field, link)
}

var troubles = []trouble{
	{"one killed", true, func(f *field, l link) { f.killed([]link{l}) }},
	{"one reset", true, func(f *field, l link) { f.net.reset([]link{l}) }},
	{"one silent, 8 s", true, func(f *field, l link) { f.silent([]link{l}, 8*time.Second) }},
	{"one silent, 30 s", true, func(f *field, l link) { f.silent([]link{l}, 30*time.Second) }},
	{"all killed", false, func(f *field, _ link) { f.killed(f.all()) }},
	{"all reset", false, func(f *field, _ link) { f.net.reset(f.all()) }},
	{"all silent, 4 s", false, func(f *field, _ link) { f.silent(f.all(), 4*time.Second) }},
	{"all silent, 12 s", false, func(f *field, _ link) { f.silent(f.all(), 12*time.Second) }},
	{"path silent, 3 s", false, func(f *field, _ link) { blocked("drop", 3*time.Second)(f) }},
	{"sshd frozen, 3 s", false, func(f *field, _ link) { frozen(3*time.Second, "sshd")(f) }},
	{"sshd's listener restarted", true, func(f *field, _ link) { restartListener(f) }},
	{"notebook frozen, 3 s", false, func(f *field, _ link) { frozen(3*time.Second, "python3", "python")(f) }},
}

// Soak is what one has found.
type Soak struct {
	When, Commit, System string
	Seed                 uint64
	Took                 float64 // s
	Faults, Requests     int
	FailedGET, Failed    int // Failed: POSTs
	Twice, Hung          int
	Lost                 int            // while one link lived
	LostIn               map[string]int // by the fault, and the status
	Longest, Served      float64        // s; part of the requests
	Reached              [3]Use         // at the beginning, after half of it, at its end
}

// Use is what the notebook's process has.
type Use struct{ Memory, Threads, Descriptors, Goroutines int }

func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("--soak=10m")
	}
	for _, kind := range strings.Split(*only, ",") {
		if kind == "plain" || kind == "prepared" {
			t.Run(kind, func(t *testing.T) { soaked(t, kind) })
		}
	}
}

func soaked(t *testing.T, kind string) {
	s := start(t, kind, &row{})
	f, random, visitors := &field{system: s}, rand.New(rand.NewPCG(*seed, 0)), begin(s)
	found := Soak{When: time.Now().UTC().Format(time.RFC3339), Commit: *commit, System: kind, Seed: *seed, LostIn: map[string]int{}}
	time.Sleep(10 * time.Second)
	found.Reached[0] = s.use()
	type span struct {
		name           string
		from, to, next time.Duration // next: when another fault begins
	}
	var spared []span
	zero, half := time.Now(), false
	for time.Since(zero) < *soak {
		s.whole()
		trouble, links := troubles[random.IntN(len(troubles))], f.all()
		if len(links) == 0 {
			continue
		}
		pause := time.Duration(1000+random.IntN(4000)) * time.Millisecond
		victim := links[random.IntN(len(links))]
		begin := time.Since(zero)
		trouble.does(f, victim)
		s.whole()
		time.Sleep(pause)
		if found.Faults++; trouble.spares && len(links) == 2 {
			spared = append(spared, span{trouble.name, begin, time.Since(zero) - pause, time.Since(zero)})
		}
		if !half && time.Since(zero) > *soak/2 {
			half, found.Reached[1] = true, s.use()
		}
	}
	found.Took = time.Since(zero).Seconds()
	time.Sleep(settled)
	found.Reached[2] = s.use()
	visits := visitors.finish(zero)
	figures := Measure(visits, Watch{End: time.Since(zero)})
	found.Requests, found.FailedGET, found.Failed = figures.Requests, figures.FailedGET, figures.FailedPOST
	found.Twice, found.Hung, found.Longest = figures.TwicePOST, figures.Hung, figures.Longest
	found.Served = 1 - float64(figures.FailedGET+figures.FailedPOST)/float64(figures.Requests)
	for _, v := range visits {
		for _, one := range spared {
			// Those that were under way when it began count as well, but not those that the next fault has met.
			if v.failed() && v.Begin >= one.from-slowTakes/2 && v.Begin < one.to && v.Begin+v.Took < one.next {
				found.Lost++
				found.LostIn[fmt.Sprintf("%s: %d", one.name, v.Status)]++
				break
			}
		}
	}
	judge(t, found)
}

func judge(t *testing.T, found Soak) {
	text, err := json.Marshal(found)
	must(t, err)
	file, err := os.OpenFile(filepath.Dir(*results)+"/soaks.jsonl", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	_, err = file.Write(append(text, '\n'))
	must(t, err)
	must(t, file.Close())
	fmt.Println(string(text))
	if found.Twice+found.Lost > 0 {
		t.Errorf("%d POSTs ran twice, %d requests were lost while one link lived", found.Twice, found.Lost)
	}
	half, end := found.Reached[1], found.Reached[2]
	if *soak >= longEnough && end.Memory-half.Memory > mostMemory || end.Threads-half.Threads > mostThreads || end.Descriptors-half.Descriptors > mostDescriptors ||
		end.Goroutines-half.Goroutines > mostGoroutines {
		t.Errorf("the notebook's process grew from %+v to %+v", half, end)
	}
}

// whole waits until both links are up again, a minute at most.
func (s *system) whole() {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		s.mu.Lock()
		last := s.states[len(s.states)-1]
		s.mu.Unlock()
		if last.State == "up" && last.Links == 2 && time.Since(time.UnixMilli(int64(last.At*1000))) < time.Second {
			return
		}
	}
}

// use is what the process has, when nothing is under way that could be seen for a moment only.
func (s *system) use() (u Use) {
	pid := s.process.Process.Pid
	s.tell("goroutines")
	u.Goroutines = s.hear(func(a answer) bool { return a.Goroutines > 0 }).Goroutines
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.Fields(value + " 0")[0])
		switch name {
		case "VmRSS":
			u.Memory = n << 10
		case "Threads":
			u.Threads = n
		}
	}
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.Descriptors = len(fds)
	return u
}

// soaks is the part of docs/reliability.md with all soaks so far.
func soaks(t *testing.T) string {
	text, err := os.ReadFile(filepath.Dir(*results) + "/soaks.jsonl")
	if err != nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Soaks\n\nRandom faults, one after the other, each begun when both links were up: " + names() + ". " +
		"\"Lost\": failed although one link was left alone.\n\n" +
		"| system | seed | s | faults | requests | served | failed GET | failed POST | lost | POST run twice | longest wait, s | memory, MB | threads | descriptors | goroutines |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for line := range strings.Lines(string(text)) {
		var o Soak
		must(t, json.Unmarshal([]byte(line), &o))
		grew := func(of func(Use) int) string {
			return fmt.Sprintf("%d, %d, %d", of(o.Reached[0]), of(o.Reached[1]), of(o.Reached[2]))
		}
		fmt.Fprintf(&b, "| %s, %s | %d | %.0f | %d | %d | %.2f %% | %d | %d | %d | %d | %.1f | %s | %s | %s | %s |\n", o.System, o.Commit, o.Seed, o.Took, o.Faults, o.Requests, 100*o.Served,
			o.FailedGET, o.Failed, o.Lost, o.Twice, o.Longest, grew(func(u Use) int { return u.Memory >> 20 }), grew(func(u Use) int { return u.Threads }),
			grew(func(u Use) int { return u.Descriptors }), grew(func(u Use) int { return u.Goroutines }))
	}
	return b.String() + "\nThe last four: at the beginning, after half of it, at its end.\n"
}

func names() string {
	var all []string
	for _, one := range troubles {
		all = append(all, one.name)
	}
	return strings.Join(all, "; ")
}
