// SPDX-License-Identifier: Apache-2.0

// Package leak is for tests: it sees to it that they leave nothing behind.
//
//	func TestX(t *testing.T) {
//		leak.Check(t) // first, so that it looks last
//
// Goroutines and descriptors belong to the whole process, so a test that is checked must not
// run in parallel with others of its package.
package leak

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long what is about to end may take: a server that is closed answers its last
// request, the kernel reports a killed process.
var patience = 5 * time.Second

// Check notes the goroutines and open descriptors of this process, and when the test and its
// later clean-ups are over reports those that came since and did not go.
func Check(t testing.TB) {
	t.Helper()
	if r, w, err := os.Pipe(); err == nil { // opens the poller's own descriptors, which stay
		_, _ = r.Close(), w.Close()
	}
	before, held := goroutines(), descriptors()
	t.Cleanup(func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			running, open := newer(before, goroutines()), newer(held, descriptors())
			if len(running)+len(open) == 0 {
				return
			}
			if time.Now().Before(deadline) {
				continue
			}
			for _, stack := range running {
				t.Errorf("goroutine left behind:\n%s", stack)
			}
			for fd, target := range open {
				t.Errorf("descriptor left open: %s -> %s", fd, target)
			}
			return
		}
	})
}

// newer returns what of now was not there before.
func newer(before, now map[string]string) map[string]string {
	now = maps.Clone(now)
	maps.DeleteFunc(now, func(key, _ string) bool { _, old := before[key]; return old })
	return now
}

// foreign are goroutines of the test's machinery and of the runtime, which come and go by
// themselves.
var foreign = regexp.MustCompile(`(?m)^(testing\.\(\*[TFB]\)\.Run|testing\.tRunner|testing\.runTests|testing\.\(\*M\)|` +
	`runtime\.(gc|bg|forcegc|runfinq|runCleanups|ensureSigM|ReadTrace)|os/signal\.|internal/synctest\.|runtime/trace\.)`)

// goroutines returns the stacks of the others, by the goroutine's number, which is never reused.
func goroutines() map[string]string {
	text := make([]byte, 1<<20)
	for {
		n := runtime.Stack(text, true)
		if n < len(text) {
			text = text[:n]
			break
		}
		text = make([]byte, 2*len(text))
	}
	all := map[string]string{}
	for i, stack := range strings.Split(string(text), "\n\n") {
		number, _, _ := strings.Cut(stack, " [")
		if i > 0 && !foreign.MatchString(stack) { // the first is the caller's
			all[number] = stack
		}
	}
	return all
}

// descriptors returns what each open descriptor leads to; none where the system does not tell.
// The key holds the target too: a number is given out again at once.
func descriptors() map[string]string {
	all := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil { // else the directory's own, closed by now
			all[e.Name()+" "+target] = target
		}
	}
	return all
}
