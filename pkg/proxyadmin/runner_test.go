// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyadmin

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// A script that came in part only is not run, and nothing stays, whoever is killed.
func TestScriptRunner(t *testing.T) {
	if os.Getuid() != 0 {
		missing.Skip(t, "it runs as root")
	}
	glob := func() []string { found, _ := filepath.Glob("/run/taipy-tunnel.*"); return found }
	before := glob()
	left := func() (found []string) { // other tests may run beside this one
		for range 100 {
			found = slices.DeleteFunc(glob(), func(name string) bool { return slices.Contains(before, name) })
			if len(found) == 0 {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return found
	}
	ran := filepath.Join(t.TempDir(), "ran")
	script := "touch " + ran + "\nexec sleep 60\n"
	for name, sent := range map[string]string{"a part": script[:len(script)-1], "something before it": "correct horse\n" + script} {
		cut := exec.Command("sh", "-c", runner(script, "install"))
		cut.Stdin = strings.NewReader(sent)
		if said, err := cut.CombinedOutput(); err == nil || strings.Contains(string(said), "horse") || left() != nil {
			t.Errorf("%s: %v, %q, left %v", name, err, said, left())
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Fatal("a part of the script was run")
	}
	whole := exec.Command("sh", "-c", "exec "+runner(script, "install"))
	in, err := whole.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if err := whole.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte(script))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(ran); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("it does not run")
		}
	}
	_ = whole.Process.Kill()
	_ = whole.Wait()
	if found := left(); found != nil {
		t.Errorf("killed, and left %v", found)
	}
}
