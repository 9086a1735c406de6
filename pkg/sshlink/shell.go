// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	shellStart = time.Minute      // start-up files that take longer than that never end
	shellLate  = 3 * time.Second  // without a word of it, until it is looked into whether it will ever run
	shellWaits = time.Second      // for input, if it is another one
	shellIdle  = 10 * time.Second // without a script, until the shell is ended
	mostWords  = 2 << 10          // bytes kept of what an account says in place of running the shell
)

// shells is /bin/sh on the server, which runs one script after another: where the account's start-up files take ten
// seconds, each session costs that.
type shells struct {
	turn  chan struct{} // has room for one: for who has the shell, or starts it
	open  *shell        // nil: none; of who has the turn
	start time.Duration // that start-up files may take
}

// shell is one session with it.
type shell struct {
	ch     ssh.Channel
	ready  chan struct{} // closed when it runs, or never will
	pieces chan []byte   // of its output, whole lines if they are not too long; closed at its end
	idle   *time.Timer   // ends it; runs while no script does
	stop   chan struct{} // closed by end
	ended  sync.Once

	mu    sync.Mutex
	runs  bool
	other bool   // something else reads its input
	late  bool   // it was ended, for it did not start
	words []byte // said before it ran
}

// A NoShellError is an ErrNoSession: a session was permitted, and something else ran in it, or nothing did.
type NoShellError struct {
	// Said is what the server, or the account's own shell, said in its place: its beginning, untouched. "": nothing.
	Said string
	// Other is that something reads the session's input that is not the shell which was asked for.
	Other bool
	// Late is that nothing had come of it within a minute.
	Late bool
}

// Error has the first line of what was said: a shell that refuses does run commands, so it is not ErrNoSession's text then.
func (e *NoShellError) Error() string {
	switch {
	case e.Other:
		return "the account does not run what is needed: something else waits for input in its place, such as another shell that its start-up files start"
	case e.Said == "" && e.Late:
		return "the account has not run what is needed within a minute, as where its start-up files wait for something"
	case e.Said == "":
		return ErrNoSession.Error()
	}
	line, _, _ := strings.Cut(e.Said, "\n")
	return fmt.Sprintf("the account does not run what is needed: it says %.100q", strings.TrimSpace(line))
}

// Unwrap returns ErrNoSession.
func (e *NoShellError) Unwrap() error { return ErrNoSession }

// Script has /bin/sh on the server run a script, and returns what that printed, at most 1 MiB. The account may have any shell
// that knows exec and single quotes (fish, csh): it is told to become /bin/sh and to print a random word, and the script is
// sent when that has come. So what start-up files print is not in the answer, and what they read is not the script's. They may
// take a minute: a Script whose ctx has ended leaves the shell to start, for the next one. One script runs at a time.
//
// The error is ErrNoSession if the account runs no commands, perhaps a *NoShellError; ctx's own, after which what still runs
// reads the end of its input; or net.ErrClosed if the link has ended.
func (l *Link) Script(ctx context.Context, script string) ([]byte, error) {
	select {
	case l.shells.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, net.ErrClosed
	}
	defer func() { <-l.shells.turn }()
	s, err := l.shell(ctx)
	if err != nil {
		return nil, err
	}
	said, err := s.run(ctx, l, script)
	if err != nil {
		s.end()
		l.shells.open = nil
		return nil, err
	}
	s.idle.Reset(shellIdle)
	return said, nil
}

// shell returns the one that runs, or waits for one that starts.
func (l *Link) shell(ctx context.Context) (*shell, error) {
	if s := l.shells.open; s != nil && s.isRunning() && !s.idle.Stop() {
		s.end()
		l.shells.open = nil
	}
	if l.shells.open == nil {
		s, err := l.startShell(ctx)
		if err != nil {
			return nil, err
		}
		l.shells.open = s
	}
	s := l.shells.open
	select {
	case <-s.ready:
	case <-s.stop:
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.idle.Stop()
	if !s.isRunning() {
		s.end()
		l.shells.open = nil
		return nil, l.noShell(s)
	}
	return s, nil
}

// noShell is why a shell does not run. A channel's end is told before the link's.
func (l *Link) noShell(s *shell) error {
	select {
	case <-l.done:
		return net.ErrClosed
	case <-time.After(l.RoundTrip() + execTick):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &NoShellError{Said: strings.TrimSpace(string(s.words)), Other: s.other, Late: s.late}
}

// startShell asks for one.
func (l *Link) startShell(ctx context.Context) (*shell, error) {
	ch, reqs, err := l.session(ctx)
	if err != nil {
		return nil, err
	}
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	word := rand.Text()
	// In words that sh, csh and fish read alike: no $, no !, no backslash, no line end.
	if err := l.exec(ctx, ch, "exec /bin/sh -c 'echo; echo "+word+"; exec /bin/sh'"); err != nil {
		_ = ch.Close()
		return nil, err
	}
	l.wire.quickack.Store(false)
	s := &shell{ch: ch, ready: make(chan struct{}), pieces: make(chan []byte), idle: time.NewTimer(l.shells.start), stop: make(chan struct{})}
	l.tasks.Go(func() { _, _ = io.Copy(beforeItRuns{s}, ch.Stderr()) })
	l.tasks.Go(func() { s.read(word) })
	l.tasks.Go(func() { l.lookInto(s) })
	l.tasks.Go(func() {
		defer s.idle.Stop()
		select {
		case <-s.idle.C:
			s.mu.Lock()
			s.late = !s.runs
			s.mu.Unlock()
		case <-s.stop:
		case <-l.done:
		}
		s.end() // what reads it may wait for a script to take a line
	})
	return s, nil
}

// lookInto ends a shell that will never run: start-up files may take their time, or have started another shell (exec zsh -l), which
// waits for input. In a second session that one waits, too, ends with its input, and has not run what it was given. So it does in a
// third, whose input stays for longer than the second took: what ends by itself, as where another session has a lock, does not.
func (l *Link) lookInto(s *shell) {
	select {
	case <-time.After(shellLate):
	case <-s.ready:
		return
	case <-s.stop:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.shells.start)
	defer cancel()
	open := shellWaits
	for range 2 {
		word, began := rand.Text(), time.Now()
		said, waits, err := l.run(ctx, "exec /bin/sh -c 'echo; echo "+word+"'", open)
		if err != nil || !waits || bytes.Contains(said, []byte(word)) {
			return
		}
		open = time.Since(began) + shellWaits
	}
	s.mu.Lock()
	s.other = !s.runs
	never := s.other
	s.mu.Unlock()
	if never {
		s.end()
	}
}

// beforeItRuns keeps what is written to it until the shell runs.
type beforeItRuns struct{ *shell }

func (s beforeItRuns) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runs {
		s.words = append(s.words, p[:min(len(p), mostWords-len(s.words))]...)
	}
	return len(p), nil
}

func (s *shell) isRunning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// read reads the shell's output until its end, or until start-up files have said more than they would if they ever ended.
func (s *shell) read(word string) {
	defer close(s.pieces)
	starting := true
	defer func() {
		if starting {
			close(s.ready)
		}
	}()
	before := 0
	for r := bufio.NewReaderSize(s.ch, 16*mostLine); before < maxOutput; {
		piece, err := r.ReadSlice('\n')
		switch {
		case len(piece) == 0:
		case !starting:
			select {
			case s.pieces <- bytes.Clone(piece):
			case <-s.stop:
				return
			}
		case strings.TrimSpace(string(piece)) == word:
			starting = false
			s.mu.Lock()
			s.runs, s.words = true, nil
			s.mu.Unlock()
			close(s.ready)
		default:
			_, _ = beforeItRuns{s}.Write(piece)
			before += len(piece)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// run has the shell run one script. A line of the script's own may have no end.
func (s *shell) run(ctx context.Context, l *Link, script string) (said []byte, err error) {
	word := rand.Text()
	text := fmt.Sprintf("%s\necho\necho %s\n", script, word)
	l.tasks.Go(func() { _, _ = io.WriteString(s.ch, text) })
	for {
		select {
		case piece, more := <-s.pieces:
			switch {
			case !more:
				return nil, l.noShell(s)
			case strings.TrimSpace(string(piece)) == word:
				return bytes.TrimSuffix(said, []byte("\n")), nil
			case len(said) < maxOutput:
				said = append(said, piece...)
			}
		case <-l.done:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// end has the server end the shell, and does not wait for that.
func (s *shell) end() {
	s.ended.Do(func() {
		close(s.stop)
		_ = s.ch.Close()
	})
}
