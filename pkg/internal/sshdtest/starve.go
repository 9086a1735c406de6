// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StarveLinks has the processes that handle connections starve, as on a machine whose limit is too low for its visitors. It waits until
// no connection has more than one command run, for what ends leaves descriptors to open others with.
func (s *Server) StarveLinks(t testing.TB) (feed func()) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !s.waits(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("something else runs than a mark for each connection")
		}
	}
	return Starve(t, s.Children())
}

// waits reports whether each connection runs the mark of a tunnel's link (pkg/lease), and nothing else.
func (s *Server) waits() bool {
	marks := 0
	for _, pid := range s.Children() {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		switch {
		case strings.HasPrefix(string(name), "sshd"):
		case strings.Contains(string(line), "taipy-tunnel\x00"):
			marks++
		default:
			return false
		}
	}
	return marks == len(children(s.pid()))
}

// Starve has processes open no file and no socket any more, and take none, until feed is called: EMFILE (errno(3)). What they
// have open stays.
func Starve(t testing.TB, pids []int) (feed func()) {
	t.Helper()
	for _, pid := range pids {
		free := 0 // the limit is on a descriptor's number, and there are gaps
		for zero := error(nil); zero == nil; free++ {
			_, zero = os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, free))
		}
		limit(t, pid, free-1)
	}
	return func() {
		for _, pid := range pids {
			if !zombie(pid) {
				limit(t, pid, 1024)
			}
		}
	}
}

// limit is done by the account that the process belongs to: not every root may do it to others (CAP_SYS_RESOURCE).
func limit(t testing.TB, pid, most int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) { // it has ended meanwhile, as those of a login do
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid uint32
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "Uid:\t%d", &uid)
		_, _ = fmt.Sscanf(line, "Gid:\t%d", &gid)
	}
	c := exec.Command("prlimit", "--pid", fmt.Sprint(pid), fmt.Sprintf("--nofile=%d:", most))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("process %d of account %d: %s", pid, uid, said)
	}
}
