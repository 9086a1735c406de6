// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// execute runs a command and returns what it said. (So does the sshd of these tests, now and then, in its place.)
func execute(t testing.TB, l *Link, line, stdin string) (lines []string, status int, err error) {
	t.Helper()
	status, err = l.Exec(within(t, 20*time.Second), Command{Line: line, Stdin: stdin, Said: func(line string) {
		if !strings.HasPrefix(line, "debug1: ") {
			lines = append(lines, line)
		}
	}})
	return lines, status, err
}

func TestExec(t *testing.T) {
	leak.Check(t)
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{}))
	big := strings.Repeat("0123456789abcde\n", 1<<18) // 4 MiB, more than a window
	for _, c := range []struct {
		line, stdin string
		status      int
		want        []string
	}{
		{"true", "", 0, nil},
		{"exit 7", "", 7, nil},
		{"read x; echo \"got $x\"; exit 3", "word\n", 3, []string{"got word"}},
		{"printf 'a\\n\\nb\\r\\nlast without an end'", "", 0, []string{"a", "", "b", "last without an end"}},
		{"echo out; sleep 0.2; echo err >&2; sleep 0.2; echo out", "", 0, []string{"out", "err", "out"}},
		{fmt.Sprintf("head -c %d | wc -c", len(big)), big, 0, []string{fmt.Sprint(len(big))}},
		{"head -c 10000 /dev/zero | tr '\\0' x", "", 0, []string{strings.Repeat("x", 4096), strings.Repeat("x", 4096), strings.Repeat("x", 1808)}},
	} {
		got, status, err := execute(t, l, c.line, c.stdin)
		if err != nil || status != c.status || !slices.Equal(got, c.want) {
			t.Errorf("%s: %.100q, status %d, %v", c.line, got, status, err)
		}
	}
	got, _, err := execute(t, l, "seq 100000", "")
	for n, line := range got {
		if line != fmt.Sprint(n+1) {
			t.Fatalf("line %d is %q, after %q", n+1, line, got[max(0, n-1)])
		}
	}
	if err != nil || len(got) != 100000 {
		t.Errorf("%d lines, %v", len(got), err)
	}
	if _, _, err := execute(t, l, "kill -KILL $$", ""); !errors.Is(err, ErrNoStatus) || !strings.Contains(err.Error(), "KILL") {
		t.Errorf("killed: %v", err)
	}
	began := time.Now()
	if got, status, err := execute(t, l, "echo said; sleep 30 & exit 4", ""); err != nil || status != 4 || !slices.Equal(got, []string{"said"}) {
		t.Errorf("with something left running: %q, status %d, %v", got, status, err)
	} else if took := time.Since(began); took > 10*time.Second {
		t.Errorf("with something left running it took %v", took)
	}
}

// Lines come while the command runs, and its end does not wait for who reads them.
func TestExecStreams(t *testing.T) {
	leak.Check(t)
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{}))
	done := filepath.Join(t.TempDir(), "go")
	status, err := l.Exec(within(t, 20*time.Second), Command{Line: "echo first; while [ ! -e " + done + " ]; do sleep 0.01; done; echo second", Said: func(line string) {
		if line == "first" {
			if err := os.WriteFile(done, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil || status != 0 {
		t.Errorf("status %d, %v", status, err)
	}
}

// Nobody waits any more: what runs there is told by the end of its input, and Exec returns at once.
func TestExecIsGivenUp(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	for name, end := range map[string]func(*Link, context.CancelFunc){
		"cancelled": func(_ *Link, cancel context.CancelFunc) { cancel() },
		"closed":    func(l *Link, _ context.CancelFunc) { go func() { _ = l.Close() }() },
		"killed":    func(*Link, context.CancelFunc) { s.KillLinks() },
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLink(t, s)
			noticed := filepath.Join(t.TempDir(), "noticed")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var began time.Time
			_, err := l.Exec(ctx, Command{Line: "trap '' HUP PIPE; setsid -w sh -c 'echo up; read x || touch " + noticed + "'", Said: func(string) { began = time.Now(); end(l, cancel) }})
			if name == "cancelled" && !errors.Is(err, context.Canceled) || name != "cancelled" && !errors.Is(err, fault.ErrUnreachable) {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took > 10*time.Second { // what runs there would go on for 20 s
				t.Errorf("it took %v", took)
			}
			for deadline := time.Now().Add(10 * time.Second); name != "killed"; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(noticed); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatal("what runs there was not told")
				}
			}
		})
	}
}

func TestExecWhereNoCommandRuns(t *testing.T) {
	leak.Check(t)
	l := dialLink(t, sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxSessions 0"}}))
	if _, _, err := execute(t, l, "true", ""); !errors.Is(err, ErrNoSession) {
		t.Errorf("%v", err)
	}
}

// commander is a server that takes a session and its exec request, and then does f.
func commander(host ssh.Signer, f func(ssh.Channel)) func(net.Conn) {
	return func(c net.Conn) {
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
		cfg.AddHostKey(host)
		_, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		var tasks sync.WaitGroup
		defer tasks.Wait()
		tasks.Go(func() { ssh.DiscardRequests(reqs) })
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				for r := range reqs {
					_ = r.Reply(true, nil)
					if r.Type == "exec" {
						tasks.Go(func() { f(ch) })
					}
				}
			})
		}
	}
}

// commanding is a link over a pipe, so that time can be fake, to a commander. It ends with the test.
func commanding(t *testing.T, f func(ssh.Channel)) *Link {
	t.Helper()
	host := newSigner(t)
	near, far := net.Pipe()
	var server sync.WaitGroup
	server.Go(func() { commander(host, f)(far) })
	l := &Link{done: make(chan struct{})}
	l.wire = newWire(near, l.tasks.Go, func() {})
	t.Cleanup(func() { _, _ = l.Close(), far.Close(); server.Wait() })
	signer := newSigner(t)
	conn, chans, reqs, err := ssh.NewClientConn(l.wire, "", &ssh.ClientConfig{
		User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.ssh = conn
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	l.tasks.Go(func() { l.serve(chans) })
	return l
}

// sshd tells the exit status before the last of the output. All of it is told, however slow it or its reader is, but
// nothing that was left running keeps Exec for ever.
func TestExecAfterTheStatus(t *testing.T) {
	leak.Check(t)
	const lines = 14
	const pause = execGrace - time.Millisecond
	say := func(ch ssh.Channel, lines int, pause time.Duration) {
		for n := range lines {
			time.Sleep(pause)
			to := []io.Writer{ch, ch.Stderr()}[n%2]
			if _, err := fmt.Fprintln(to, n); err != nil {
				return
			}
		}
	}
	end := func(ch ssh.Channel) { _, _ = ch.CloseWrite(), ch.Close() }
	for name, c := range map[string]struct {
		serve func(ssh.Channel)
		reads time.Duration // what Said takes for a line
		lines int
		after time.Duration // when Exec returns, or a tick later
	}{
		"slow output":      {func(ch ssh.Channel) { say(ch, lines, pause); end(ch) }, 0, lines, lines * pause},
		"a slow reader":    {func(ch ssh.Channel) { say(ch, 200, 0); end(ch) }, execTick, 200, 200 * execTick},
		"silence for ever": {func(ch ssh.Channel) { say(ch, 2, pause) }, 0, 2, 2*pause + execGrace},
		"nothing at all":   {func(ssh.Channel) {}, 0, 0, execGrace},
		"talk for ever":    {func(ch ssh.Channel) { say(ch, 1000, pause) }, 0, int(execMost / pause), execMost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := commanding(t, func(ch ssh.Channel) {
					_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{4}))
					c.serve(ch)
				})
				began, told := time.Now(), 0
				status, err := l.Exec(t.Context(), Command{Line: "x", Said: func(string) { told++; time.Sleep(c.reads) }})
				if took := time.Since(began); err != nil || status != 4 || told != c.lines || took < c.after || took > c.after+execTick {
					t.Errorf("%d lines of %d, status %d, %v, after %v", told, c.lines, status, err, took)
				}
			})
		})
	}
}

// A server may say what it likes, for as long as it likes: little of it is held, and who waits can go. It says it in
// large packets: x/crypto keeps each until it is read, with 48 bytes for one of two, so that its window of 2 MiB holds 52,
// and how much of that is full tells how busy the machine is.
func TestHostileCommands(t *testing.T) {
	status := ssh.Marshal(struct{ Status uint32 }{0})
	const stuck = "lines that nobody reads" // of what has no bound the others show little: Said keeps up
	var sent atomic.Int64
	forever := func(text string) func(ssh.Channel) {
		return func(ch ssh.Channel) {
			for {
				if _, err := io.WriteString(ch, text); err != nil {
					return
				}
				sent.Add(int64(len(text)))
			}
		}
	}
	lines := strings.Repeat("x\n", 15000)
	for name, c := range map[string]struct {
		serve func(ssh.Channel)
		want  error
	}{
		"a line without an end": {forever(strings.Repeat("x", 30000)), context.DeadlineExceeded},
		"lines without an end":  {forever(strings.Repeat("\n", 30000)), context.DeadlineExceeded},
		stuck:                   {forever(lines), context.DeadlineExceeded},
		"silence":               {func(ssh.Channel) {}, context.DeadlineExceeded},
		"many ends": {func(ch ssh.Channel) {
			for range 5000 {
				if _, err := ch.SendRequest("exit-status", true, status); err != nil {
					return
				}
			}
		}, nil},
		"no end of the output": {func(ch ssh.Channel) {
			_, _ = ch.SendRequest("exit-status", false, status)
			forever(lines)(ch)
		}, context.DeadlineExceeded},
		"no status":         {func(ch ssh.Channel) { _ = ch.Close() }, ErrNoStatus},
		"half a status":     {func(ch ssh.Channel) { _, _ = ch.SendRequest("exit-status", false, status[:2]); _ = ch.Close() }, ErrNoStatus},
		"signal without it": {func(ch ssh.Channel) { _, _ = ch.SendRequest("exit-signal", false, nil); _ = ch.Close() }, ErrNoStatus},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			host := newSigner(t)
			l, err := Dial(within(t, 10*time.Second), fakeConfig(t, accepting(t, commander(host, c.serve)), host))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			stdin := strings.Repeat("s", 4<<20)
			sent.Store(0)
			most, began := growth(t), time.Now()
			ctx := within(t, 3*time.Second)
			_, err = l.Exec(ctx, Command{Line: "x", Stdin: stdin, Said: func(line string) {
				if len(line) > 4<<10 {
					t.Errorf("a line of %d bytes", len(line))
				}
				if name == stuck {
					<-ctx.Done()
				}
			}})
			if !errors.Is(err, c.want) || time.Since(began) > 30*time.Second {
				t.Errorf("%v, after %v; the limit was 3 s", err, time.Since(began))
			}
			if window := int64(2 << 20); name == stuck && sent.Load() > window+window/16 {
				t.Errorf("%d KiB were taken", sent.Load()>>10)
			}
			if held := most(); held > hostileGrowth+sent.Load()/4 {
				t.Errorf("held %d MiB, of %d MiB that were sent", held>>20, sent.Load()>>20)
			}
		})
	}
}
