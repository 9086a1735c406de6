// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lease

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// login makes a link to s, which ends with the test.
func login(t *testing.T, s *sshdtest.Server) *sshlink.Link {
	t.Helper()
	keys, err := sshauth.LoadKeys(s.KeyFile, "")
	if err != nil {
		t.Fatal(err)
	}
	known, err := hostkeys.New(s.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	l, err := sshlink.Dial(t.Context(), sshlink.Config{Host: s.Host, Port: s.Port, User: s.User, Keys: keys, HostKeys: known})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// socket is the path of one that no server has, with all that a shell could stumble over.
func socket(t *testing.T) *net.UnixAddr {
	return &net.UnixAddr{Name: filepath.Join(t.TempDir(), "it's $a \"slot\" `é`"), Net: "unix"}
}

// held is a link whose session holds a mark.
type held interface {
	Machine
	Hold(ctx context.Context, command func() string, said func(string)) error
	Release()
}

// takes has a link that has just logged in take the slot. It gives it back when a newer tunnel asks for it.
func takes(t *testing.T, c *Lease, l held, link int) (*sshlink.Listener, error) {
	var slot atomic.Pointer[sshlink.Listener]
	err := l.Hold(t.Context(), c.LogsIn(c.key, link), func(line string) {
		if err := c.Hears(t.Context(), l, link, line); errors.Is(err, fault.ErrReplaced) {
			if has := slot.Load(); has != nil {
				_ = has.Close()
			}
			l.Release()
		}
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	has, err := c.Take(ctx, l, link)
	if err == nil {
		slot.Store(has)
	}
	return has, err
}

// leadsTo fails unless who connects to the socket is accepted by the slot.
func leadsTo(t *testing.T, slot *sshlink.Listener) {
	t.Helper()
	c, err := net.Dial("unix", slot.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	arrived := make(chan net.Conn, 1)
	go func() {
		if a, err := slot.Accept(); err == nil {
			arrived <- a
		}
	}()
	select {
	case a := <-arrived:
		_ = a.Close()
		_, _ = io.Copy(io.Discard, c)
	case <-time.After(10 * time.Second):
		t.Error("the socket does not lead to the slot")
	}
}

// On a server that gives a path to the link that asks last, the newest expose() wins as well: the older tunnel leaves,
// and on coming back does not take the path again.
func TestNewestSocketWins(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	path := socket(t)
	old := login(t, s)
	older, newer := New(path, old.Key(), nil), New(path, old.Key(), nil)
	left, err := takes(t, older, old, 1)
	if err != nil {
		t.Fatal(err)
	}
	older.mu.Lock()
	older.since = time.Now().Add(-time.Minute).UnixMilli()
	older.mu.Unlock()
	marked(t, old, path)
	slot, err := takes(t, newer, login(t, s), 1)
	if err != nil {
		t.Fatal(err)
	}
	gaveBack(t, old, left)
	marked(t, login(t, s), path)
	_, err = takes(t, older, login(t, s), 2)
	if !errors.Is(err, fault.ErrReplaced) || !strings.Contains(err.Error(), "it's $a") {
		t.Errorf("the older tunnel came back: %v", err)
	}
	leadsTo(t, slot)
	stranger := New(path, "anotherkey", nil)
	if _, err = takes(t, stranger, login(t, s), 1); !errors.Is(err, fault.ErrForward) || !strings.Contains(err.Error(), newer.key) {
		t.Errorf("another key's tunnel: %v", err)
	}
	leadsTo(t, slot)
}

// A tunnel that has the socket leaves it to one that asks, and keeps its link, though their marks tell one moment, as
// where the first one's shell was late: the other one ends it otherwise, which has not had the socket and compares no names.
func TestASocketOfTheSameMoment(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	path := socket(t)
	old := login(t, s)
	older, newer := New(path, old.Key(), nil), New(path, old.Key(), nil)
	older.tunnel, newer.tunnel = "Z", "A"
	older.since = time.Now().UnixMilli()
	newer.since = older.since
	left, err := takes(t, older, old, 1)
	if err != nil {
		t.Fatal(err)
	}
	marked(t, old, path)
	slot, err := takes(t, newer, login(t, s), 1)
	if err != nil {
		t.Fatal(err)
	}
	gaveBack(t, old, left)
	leadsTo(t, slot)
}

// gaveBack waits until a link has left a slot, and fails if it was ended for that.
func gaveBack(t *testing.T, l *sshlink.Link, slot *sshlink.Listener) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			if _, err := slot.Accept(); err != nil {
				return
			}
		}
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the older tunnel still has the slot")
	}
	select {
	case <-l.Done():
		t.Fatal("the link was ended")
	default:
	}
}

// A port is given back by a tunnel that is asked for it, and the connections that it has stay. One that does not answer
// is ended: its link is a stale one.
func TestPortIsAskedFor(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	port := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.FreePort()}
	first, second, third := login(t, s), login(t, s), login(t, s)
	one, err := takes(t, New(port, first.Key(), nil), first, 1)
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := net.Dial("tcp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = visitor.Close() }()
	conn, err := one.Accept()
	if err != nil {
		t.Fatal(err)
	}
	marked(t, third, port)

	silent := New(port, second.Key(), nil)
	if err := second.Hold(t.Context(), silent.LogsIn(silent.key, 1), nil); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := silent.Take(t.Context(), second, 1); err != nil {
		t.Fatal(err)
	}
	t.Logf("given back after %v", time.Since(begin).Round(time.Millisecond))
	gaveBack(t, first, one)
	_, _ = visitor.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("a connection that was open: %v", err)
	}

	begin = time.Now()
	if _, err := takes(t, New(port, third.Key(), nil), third, 1); err != nil {
		t.Fatal(err)
	}
	t.Logf("taken from a silent one after %v", time.Since(begin).Round(time.Millisecond))
	select {
	case <-second.Done():
	case <-time.After(10 * time.Second):
		t.Error("the silent link is still there")
	}
	select {
	case <-first.Done():
		t.Error("a link that had given the port back was ended")
	default:
	}
}

// marked waits until a link of the account shows its mark for the slot, which a shell writes.
func marked(t *testing.T, l *sshlink.Link, slot net.Addr) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		listing, err := l.Script(t.Context(), listMarks)
		if _, marks := parseMarks(listing, slot); err == nil && len(marks) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no mark: %v\n%s", err, listing)
		}
	}
}

// late lets something happen before its first command that ends a link.
type late struct {
	*sshlink.Link
	before func()
}

func (l *late) Script(ctx context.Context, script string) ([]byte, error) {
	if strings.HasPrefix(script, tell) && l.before != nil {
		l.before()
		l.before = nil
	}
	return l.Link.Script(ctx, script)
}

// A stale link that takes the path in the last moment does not take it along to its end.
func TestSocketIsTakenFromALateLink(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"StreamLocalBindUnlink yes"}})
	path := socket(t)
	old := login(t, s)
	if err := old.Hold(t.Context(), New(path, old.Key(), nil).LogsIn(old.Key(), 1), nil); err != nil {
		t.Fatal(err)
	}
	marked(t, old, path)
	l := &late{login(t, s), func() {
		if _, err := old.ListenUnix(t.Context(), path.Name); err != nil {
			t.Error(err)
		}
	}}
	slot, err := takes(t, New(path, old.Key(), nil), l, 1)
	if err != nil {
		t.Fatal(err)
	}
	if l.before != nil {
		t.Error("no link was ended")
	}
	leadsTo(t, slot)
}

// Without StreamLocalBindUnlink a file is in the way for ever, which is said.
func TestSocketThatIsLeft(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	path := socket(t)
	older := New(path, login(t, s).Key(), nil)
	slot, err := takes(t, older, login(t, s), 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = takes(t, New(path, older.key, nil), login(t, s), 1)
	if e := fault.From(err); !errors.Is(err, fault.ErrForward) || !e.Permanent || !strings.Contains(e.Error(), "there already") || !strings.Contains(e.Hint.String(), "StreamLocalBindUnlink") {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	leadsTo(t, slot) // who cannot have it ends nobody
	nowhere := &net.UnixAddr{Name: path.Name + "/none/slot", Net: "unix"}
	_, err = takes(t, New(nowhere, older.key, nil), login(t, s), 1)
	if e := fault.From(err); !errors.Is(err, fault.ErrForward) || e.Permanent || !strings.Contains(e.Hint.String(), "directory") {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	if err := os.Remove(path.Name); err != nil {
		t.Fatal(err)
	}
	marked(t, login(t, s), path)
	if slot, err = takes(t, New(path, older.key, nil), login(t, s), 1); err != nil {
		t.Fatal(err) // and what cannot be taken a second time stays
	}
	leadsTo(t, slot)
}

// Accounts that run no commands, or always one that does not end, have their socket all the same.
func TestSocketWithoutCommands(t *testing.T) {
	leak.Check(t)
	for name, options := range map[string]sshdtest.Options{
		"no session": {Config: []string{"StreamLocalBindUnlink yes", "MaxSessions 0"}},
		"SFTP alone": {Config: []string{"StreamLocalBindUnlink yes", "ForceCommand internal-sftp"}},
		"no end":     {Config: []string{"StreamLocalBindUnlink yes", "ForceCommand exec sleep 20"}},
	} {
		s := sshdtest.Start(t, options)
		path := socket(t)
		for range 2 {
			l := login(t, s)
			begin := time.Now()
			slot, err := takes(t, New(path, l.Key(), nil), l, 1)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if took := time.Since(begin); took >= StepTimeout && name != "no end" {
				t.Errorf("%s: took %v", name, took)
			}
			leadsTo(t, slot)
		}
	}
}

// A mark says each time that it is asked, whatever sh is on the proxy, and ends with its input.
func TestAMarkSaysThatItIsAsked(t *testing.T) {
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"ksh93"}, {"zsh"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", waits, markName, "8080")...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := make(chan string, 100)
		go func() {
			defer close(said)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said <- lines.Text()
			}
		}()
		for range 2 {
			for answered := false; !answered; { // it does nothing to a shell that is still starting
				_ = cmd.Process.Signal(syscall.SIGURG)
				select {
				case line, more := <-said:
					if line != question {
						t.Fatalf("%v said %q, %v", shell, line, more)
					}
					answered = true
				case <-time.After(50 * time.Millisecond):
				}
			}
		}
		_ = in.Close()
		for line := range said {
			if line != question {
				t.Errorf("%v said %q", shell, line)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", shell, err)
		}
	}
}
