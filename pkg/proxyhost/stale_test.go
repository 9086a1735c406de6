// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// ending is a process that the program may end, or may not.
type ending struct {
	inode string // of its connection
	pid   int
	gone  chan struct{}
}

// newEnding starts a process of that name and group which has a connection of its own.
func newEnding(t testing.TB, name string, gid uint32) *ending {
	t.Helper()
	if os.Getuid() != 0 {
		missing.Skip(t, "it takes root to start another account's process")
	}
	dir, err := os.MkdirTemp("", "stale-") // where that account gets
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer func() { _ = c.Close() }()
	own, err := c.(*net.TCPConn).File()
	must(t, err)
	defer func() { _ = own.Close() }()
	info, err := own.Stat()
	must(t, err)
	e := &ending{inode: fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino), gone: make(chan struct{})}
	text, err := os.ReadFile("/bin/sleep")
	must(t, err)
	must(t, os.WriteFile(dir+"/"+name, text, 0o755))
	child := exec.Command(dir+"/"+name, "60")
	child.ExtraFiles = []*os.File{own}
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: gid}, Pdeathsig: syscall.SIGKILL}
	must(t, child.Start())
	e.pid = child.Process.Pid
	go func() { _ = child.Wait(); close(e.gone) }()
	t.Cleanup(func() { _ = child.Process.Kill(); <-e.gone })
	return e
}

// within reports whether it ends in that time.
func (e *ending) within(d time.Duration) bool {
	select {
	case <-e.gone:
	case <-time.After(d):
	}
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}

// enough is what the looks take until something stale is ended, and more.
const enough = 5 * time.Second

// tenants is the number of their group.
const tenants = 60000

// endStale runs the rendered program with these in the place of the machine's own, and returns the file in which it says
// what it does.
func endStale(t testing.TB, programs map[string]string) (state string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "stale-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := typical(t)
	h.Layout = proxyhost.Layout{Etc: "/e", Run: dir}
	text := strings.Replace(render(t, h).Text("/e/stale.sh"), `PATH="`, `PATH="`+dir+`/bin:`, 1)
	must(t, os.Mkdir(dir+"/bin", 0o755))
	for name, body := range programs {
		must(t, os.WriteFile(dir+"/bin/"+name, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	}
	must(t, os.WriteFile(dir+"/stale.sh", []byte(text), 0o644))
	c := exec.Command("sh", dir+"/stale.sh")
	c.Env = append(os.Environ(), fmt.Sprintf("GIDS=%d", tenants), "PORTS=22")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	must(t, c.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
		t.Logf("it says: %s", strings.TrimSpace(said.String()))
	})
	return dir + "/.stale"
}

const (
	// A connection as ss (iproute2 6.1) writes it, INODE apart; what matters is as of one that is stale: its bytes are as old
	// as three waits of 216, 432 and 864 ms and 536 of the 1728 ms after them, 2048 ms.
	waiting = "0      268        127.0.0.1:22    127.0.0.1:55454 timer:(on,1.192ms,3) ino:INODE sk:a4 cgroup:/ <->\n" +
		"\t ts sack cubic wscale:0,10 rto:1728 backoff:3 rtt:12.666/19.771 ato:40 mss:1436 bytes_sent:4265 bytes_retrans:536 bytes_acked:3461 " +
		"lastsnd:652 lastrcv:3548 lastack:3504 delivered:14 busy:1684ms unacked:1 retrans:1/2 lost:1 rcv_space:61952 minrtt:0.006\n"
	// Another account's, which is stale indeed and has a name for its group of processes, and a key, that it chose.
	others = "0      268        127.0.0.1:22    127.0.0.1:1 timer:(on,1.592ms,3) uid:1000 ino:1 sk:a5 cgroup:/user.slice/x ino:INODE timer:(on,1ms,9) <->\n" +
		"\t ts sack cubic bytes_acked:1 lastack:3504 unacked:1 md5keys:192.0.2.1=x ino:INODE unacked:1 lastack:9999\n"
)

// What the kernel says decides, and nothing else: only bytes that wait for 2 s, were sent again twice, and with no
// acknowledgement for as long; only of a process of sshd's that is a tenant's.
func TestOnlyStaleEndsAreEnded(t *testing.T) {
	says := func(change ...string) string { return strings.NewReplacer(change...).Replace(waiting) }
	type is struct {
		*ending
		ss      string
		process string // "": sshd
		gid     uint32 // 0: the tenants'
		ended   bool
	}
	cases := map[string]*is{
		"stale":                       {ss: waiting, ended: true},
		"stale, of OpenSSH 9.8":       {ss: waiting, process: "sshd-session", ended: true},
		"stale, before anything else": {ss: says(" bytes_acked:3461", ""), ended: true},
		"stale, among others":         {ss: others + waiting + others, ended: true},
		"acknowledged":                {ss: says(" unacked:1", "")},
		"acknowledged 2 s ago":        {ss: says("lastack:3504", "lastack:1996")},
		"acknowledged just now":       {ss: says(" lastack:3504", "")},
		"sent 1996 ms ago":            {ss: says("1.192ms", "1.244ms")},
		"sent again once":             {ss: says("1.192ms,3)", "100ms,1)")},
		"sent again twice":            {ss: says("1.192ms,3)", "1sec,2)"), ended: true},
		"stale, and sent just now":    {ss: says("1.192ms", "1.728ms", "rto:1728", "rto:2400"), ended: true},
		"stale, and about to be sent": {ss: says("1.192ms", "004ms"), ended: true},
		"stale for minutes":           {ss: says("1.192ms,3)", "1min50sec,9)", "rto:1728", "rto:120000"), ended: true},
		"its window is closed":        {ss: says("timer:(on,", "timer:(persist,")},
		"idle":                        {ss: says("timer:(on,1.192ms,3)", "timer:(keepalive,119min,3)")},
		"others' words":               {ss: others},
		"others' words alone":         {ss: strings.ReplaceAll(others, " ino:1 ", " ")},
		"another connection":          {ss: says("INODE", "1INODE")},
		"no group of tenants":         {ss: waiting, gid: tenants + 1},
		"not sshd":                    {ss: waiting, process: "sshd-x"},
	}
	answer := "cat <<END\n"
	for _, c := range cases {
		c.ending = newEnding(t, cmp.Or(c.process, "sshd"), cmp.Or(c.gid, tenants))
		answer += strings.ReplaceAll(c.ss, "INODE", c.inode)
	}
	endStale(t, map[string]string{"ss": answer + "END"})
	deadline := time.Now().Add(enough)
	for name, c := range cases {
		if got := c.within(time.Until(deadline)); got != c.ended {
			t.Errorf("%s: ended: %t", name, got)
		}
	}
}

// What a look has found is seen again before anything is ended: the number may be another process's by then.
func TestANumberThatIsAnothersIsSpared(t *testing.T) {
	e := newEnding(t, "sshd", tenants)
	endStale(t, map[string]string{"ss": "cat <<END\n" + strings.ReplaceAll(waiting, "INODE", "12345678") + "END",
		"find": fmt.Sprintf("echo '/proc/%d/fd socket:[12345678]'", e.pid)})
	if e.within(enough) {
		t.Error("ended")
	}
}

// Where ss does not work, or says less than it should, nothing is ended, and that is told.
func TestWithoutSSNothingIsEnded(t *testing.T) {
	e := newEnding(t, "sshd", tenants)
	says := strings.ReplaceAll(waiting, "INODE", e.inode)
	head, _, _ := strings.Cut(says, "\n")
	for answer, told := range map[string]string{"cat <<END\n" + says + "END\necho no ss; exit 127": "ss: ", "echo '" + head + "'": "ss tells too little: "} {
		state := endStale(t, map[string]string{"ss": answer})
		if e.within(enough) {
			t.Error("ended")
		}
		if text, err := os.ReadFile(state); err != nil || !strings.HasPrefix(string(text), told) {
			t.Errorf("%q, %v, want %q", text, err, told)
		}
	}
}
