// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"strings"
	"testing"
)

func TestPanicIsReportedAndTheGroupEnds(t *testing.T) {
	var got error
	g := Group{Panicked: func(err error) { got = err }}
	g.Go(func() { panic("on purpose") })
	g.Wait()
	if got == nil || !strings.Contains(got.Error(), "on purpose") || !strings.Contains(got.Error(), "guard_test.go") {
		t.Fatalf("reported %v, want the panic and its stack", got)
	}
}

func TestPanicWithoutListener(t *testing.T) {
	var g Group
	g.Go(func() { panic("nobody listens") })
	g.Wait()
}

func TestNothingStartsAfterWait(t *testing.T) {
	var g Group
	g.Wait()
	if g.Go(func() { t.Error("ran") }) {
		t.Fatal("Go reported true after Wait")
	}
}
