// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	mostLine = 4 << 10 // bytes; what is longer comes in pieces

	// What a command left running may hold its output open for ever.
	execGrace = 2 * time.Second  // of silence after the command's end, until no more output is waited for
	execMost  = 30 * time.Second // after the command's end, although output still comes
	execTick  = execGrace / 4
)

// ErrNoStatus is returned by Exec where the command ended without an exit status.
var ErrNoStatus = errors.New("it ended without a status")

// Command is what Exec has the server run.
type Command struct {
	// Line is for the account's shell. Required.
	Line string
	// Stdin is what the command reads. Its end is not told: end of file comes when Exec has returned or the
	// link has ended, so that a command can tell by it that nobody waits for it any more (sshd sends
	// no SIGHUP to one without a terminal).
	Stdin string
	// Said is called with each line of its output and of its error output, as they come, without
	// the end of the line; one of more than 4 KiB comes in pieces. The text is the server's, untouched. While Said does not return
	// the command has to wait, at the latest with the 2 MiB that SSH has under way. Required.
	Said func(line string)
}

// exit is how a command ended.
type exit struct {
	status uint32
	signal string
}

// Exec has the server run a command in a session of its own, and returns its exit status when it has ended and its
// output has ended, too. sshd tells the status first and sends what is left in the pipes afterwards (session_exit_message in
// OpenSSH's session.c), on a slow link for many seconds. What the command left running may keep its output open for ever: Exec then
// returns after 2 to 2.5 s without a line, and 30 s after the status at the latest, without an error; what comes later is not
// told, nor is a line that has no end by then. Where Said takes longer than half a second for a line, these times are longer.
// When ctx ends Exec returns at once, and what runs there reads the end of its input. Errors are
// ErrNoSession, ErrNoStatus, ctx's own, or of class fault.ErrUnreachable if the link ended meanwhile.
// Said is called by Exec's own goroutine, and no more when it has returned.
func (l *Link) Exec(ctx context.Context, c Command) (status int, err error) {
	ch, reqs, err := l.session(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ch.Close() }()
	exited, gone := make(chan exit, 1), make(chan struct{})
	l.tasks.Go(func() { defer close(gone); exits(reqs, exited) })
	if err := l.exec(ctx, ch, c.Line); err != nil {
		return 0, err
	}
	l.wire.quickack.Store(false)
	stop := make(chan struct{})
	defer close(stop)
	l.tasks.Go(func() { _, _ = io.Copy(ch, readerOnly{strings.NewReader(c.Stdin)}) }) // in pieces: not all of it once more
	lines := make(chan string)
	var ends []chan struct{}
	for _, r := range []io.Reader{ch, ch.Stderr()} {
		end := make(chan struct{})
		ends = append(ends, end)
		l.tasks.Go(func() {
			defer close(end)
			eachLine(r, func(line string) {
				select {
				case lines <- line:
				case <-stop:
				}
			})
		})
	}
	return l.listen(ctx, c.Said, lines, ends, exited, gone)
}

// listen hands on what a command says until it has ended. Time after the status is counted in ticks taken, as by watch: a
// process that was stopped, or waited for said, gets as many as any other to hear the next line. A timer for each line
// slows them down: of lines in packets of their own 24 to 35 MiB were held after 8 s, with the ticks 5 to 6.
func (l *Link) listen(ctx context.Context, said func(string), lines <-chan string, ends []chan struct{}, exited <-chan exit, gone <-chan struct{}) (int, error) {
	var how *exit
	var ticks <-chan time.Time      // from the status until the channel is closed
	var quiet, waited time.Duration // after the status: since the last line, and in all
	out, err := ends[0], ends[1]
	for out != nil || err != nil || how == nil && gone != nil {
		select {
		case line := <-lines:
			said(line)
			quiet = 0
		case <-out:
			out = nil
		case <-err:
			err = nil
		case e := <-exited:
			how, ticks = &e, time.Tick(execTick)
		case <-gone:
			// Closed by the server: what is left to tell is here already. Both may have come.
			gone, ticks = nil, nil
			select {
			case e := <-exited:
				how = &e
			default:
			}
		case <-ticks:
			if quiet, waited = quiet+execTick, waited+execTick; quiet > execGrace || waited >= execMost {
				return how.result()
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if how != nil {
		return how.result()
	}
	select { // the channel's end is told before the link's
	case <-l.done:
		if err := l.Err(); err != nil {
			return 0, err
		}
		return 0, fault.LinkLost(io.ErrUnexpectedEOF)
	case <-time.After(execGrace):
		return 0, ErrNoStatus
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (e *exit) result() (int, error) {
	if e.signal != "" {
		return 0, fmt.Errorf("%w, by signal %q", ErrNoStatus, e.signal)
	}
	return int(e.status), nil
}

// exits takes a command's end from what the server says of its session (RFC 4254, section 6.10).
func exits(reqs <-chan *ssh.Request, exited chan<- exit) {
	told := false
	for req := range reqs {
		var e exit
		var status struct{ Status uint32 }
		var signal struct {
			Name string
			Rest []byte `ssh:"rest"`
		}
		known := false
		switch req.Type {
		case "exit-status":
			known = ssh.Unmarshal(req.Payload, &status) == nil
			e.status = status.Status
		case "exit-signal":
			known = ssh.Unmarshal(req.Payload, &signal) == nil && signal.Name != ""
			e.signal = signal.Name
		}
		if known && !told {
			told = true
			exited <- e
		}
		if req.WantReply {
			_ = req.Reply(known, nil)
		}
	}
}

// eachLine calls said with the lines of r until its end; one of more than 4 KiB comes in pieces.
func eachLine(r io.Reader, said func(line string)) {
	b := bufio.NewReaderSize(r, mostLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			said(strings.TrimRight(string(line), "\r\n"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// readerOnly hides that a reader can write itself elsewhere.
type readerOnly struct{ io.Reader }
