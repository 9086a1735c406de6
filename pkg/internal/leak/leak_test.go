// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// recorder is a test whose end and verdict can be had.
type recorder struct {
	testing.TB
	cleanup  func()
	verdicts []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = f }
func (r *recorder) Errorf(format string, args ...any) {
	r.verdicts = append(r.verdicts, fmt.Sprintf(format, args...))
}

func check(t *testing.T, test func()) []string {
	r := &recorder{TB: t}
	Check(r)
	test()
	r.cleanup()
	return r.verdicts
}

func brieflyPatient(t *testing.T) {
	before := patience
	patience = 100 * time.Millisecond
	t.Cleanup(func() { patience = before })
}

func TestNoticesAGoroutine(t *testing.T) {
	brieflyPatient(t)
	end := make(chan struct{})
	got := check(t, func() { go func() { <-end }() })
	close(end)
	if len(got) != 1 || !strings.Contains(got[0], "TestNoticesAGoroutine") {
		t.Fatalf("verdicts %q, want one with the goroutine's stack", got)
	}
}

func TestNoticesADescriptor(t *testing.T) {
	brieflyPatient(t)
	var f *os.File
	got := check(t, func() {
		var err error
		if f, err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
	})
	_ = f.Close()
	if len(got) != 1 || !strings.Contains(got[0], os.DevNull) {
		t.Fatalf("verdicts %q, want one with the descriptor's target", got)
	}
}

func TestWaitsForWhatIsAboutToEnd(t *testing.T) {
	got := check(t, func() { go time.Sleep(100 * time.Millisecond) })
	if len(got) != 0 {
		t.Fatalf("verdicts %q, want none", got)
	}
}

func TestWhatWasThereBeforeIsNotReported(t *testing.T) {
	brieflyPatient(t)
	end := make(chan struct{})
	defer close(end)
	go func() { <-end }()
	if got := check(t, func() {}); len(got) != 0 {
		t.Fatalf("verdicts %q, want none", got)
	}
}
