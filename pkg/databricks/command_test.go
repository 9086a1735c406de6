// SPDX-License-Identifier: Apache-2.0

//go:build linux

package databricks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The SDK runs Databricks' command for a token, without a context.
func TestACommandThatHangs(t *testing.T) {
	f, _ := opened(t)
	surroundings(t, "[mine]\nhost = "+f.address+"\nauth_type = databricks-cli\n", nil)
	home := os.Getenv("HOME")
	asked, end := filepath.Join(home, "asked"), filepath.Join(home, "end")
	for _, fifo := range []string{asked, end} {
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The SDK takes a small file for the old command, which is another.
	script := "#!/bin/sh\n: >" + asked + "\n: <" + end + "\nexit 1\n" + strings.Repeat("#", 2<<20)
	if err := os.WriteFile(filepath.Join(home, "databricks"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	w := open(t, Config{Profile: "mine"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := w.Me(ctx); done <- err }()
	if _, err := os.ReadFile(asked); err != nil { // once the command runs
		t.Error(err)
	}
	cancel()
	if e := asError(t, <-done); !errors.Is(e, context.Canceled) {
		t.Errorf("%v", e)
	}
	// The SDK may run it again: then it ends at once. With both ends open nobody waits any more.
	command := filepath.Join(home, "databricks")
	if err := errors.Join(os.WriteFile(command+".new", []byte("#!/bin/sh\nexit 1\n"+strings.Repeat("#", 2<<20)), 0o700), os.Rename(command+".new", command)); err != nil {
		t.Error(err)
	}
	for _, fifo := range []string{asked, end} {
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
	}
	for deadline := time.Now().Add(20 * time.Second); children(t) != "" && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		continue
	}
}

// children are the processes that this one has started and not yet buried.
func children(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, list := range lists {
		text, _ := os.ReadFile(list) // of a thread that has ended since
		all.Write(text)
	}
	return all.String()
}
