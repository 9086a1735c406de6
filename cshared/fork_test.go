// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A forked child inherits connections to proxies, however many there are, and closes them; and nothing that has got the number
// of one since.
func TestForkedChildHoldsNoConnection(t *testing.T) {
	abi, err := os.ReadFile("abi.c")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var stubs strings.Builder
	for _, call := range regexp.MustCompile(`\bgo_\w+`).FindAllString(string(abi), -1) {
		fmt.Fprintf(&stubs, "#undef %[1]s\n#define %[1]s(...) 0\n", call)
	}
	if err := os.WriteFile(filepath.Join(dir, "_cgo_export.h"), []byte(stubs.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "fork")
	if text, err := exec.Command("cc", "-Wall", "-Werror", "-pthread", "-I", dir, "-I", ".", "-o", program, filepath.Join("testdata", "fork.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	got, err := exec.Command(program).CombinedOutput()
	if want := "0\n200\n0\n4\n"; err != nil || string(got) != want {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
}
