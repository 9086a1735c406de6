// SPDX-License-Identifier: Apache-2.0

// Command taipy-tunnel shows an app to visitors of a proxy machine, and sets up what that needs: taipy-tunnel --help says how. What it does is in package command;
// here it meets a terminal.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
)

// version is set by the linker, to that of the Python package.
var version = "unknown"

func main() {
	cobra.MousetrapHelpText = "" // which would keep who clicks on it on Windows waiting for nothing
	ctx := givenUp()
	terminal := runtime.GOOS != "windows" && term.IsTerminal(int(os.Stdout.Fd())) // older consoles show what moves the cursor
	s := screen{out: bufio.NewWriter(os.Stdout), err: os.Stderr}
	face := command.Face{Show: s.show, Input: input, Version: version, Terminal: terminal, Start: start, Signals: passed}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		face.Ask = s.ask
	}
	code := command.Run(ctx, os.Args[1:], face)
	switch {
	case code == command.Interrupted && s.givenUp != "":
		s.notice(s.givenUp)
	case s.failed != nil:
		s.notice("standard output: " + s.failed.Error())
		code = command.Failed
	}
	os.Exit(code)
}

// givenUp is ended by a signal, which is its cause. A second one ends this process, whatever it does, unless it runs a program.
func givenUp() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		signal.Stop(signals)
		if s == os.Interrupt && foreground() { // a program that is run has it, too
			s = nil
		}
		cancel(command.Interrupt{By: s})
	}()
	return ctx
}

// passed are the signals that pass to a program which is run.
func passed() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, passing...)
	signal.Notify(make(chan os.Signal, 1), stays...) // who reads on or not is no end of the program's
	return signals, func() { signal.Stop(signals) }
}

// start starts a program with the streams of this process, and without the variables that begin with command.Variables.
func start(args []string) (*os.Process, error) {
	path, err := exec.LookPath(args[0])
	if e, is := errors.AsType[*exec.Error](err); is {
		return nil, e.Err // without the word, which may be a secret
	}
	if err != nil {
		return nil, err
	}
	environment := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, command.Variables) })
	return os.StartProcess(path, args, &os.ProcAttr{Env: environment, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
}

func input(context.Context) ([]byte, error) { return io.ReadAll(os.Stdin) }

// ask writes a question to standard error, and reads a line. What is typed hidden is shown again if the command is given up meanwhile.
func (s *screen) ask(ctx context.Context, text string, hidden bool) (string, error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return "", err
	}
	type typed struct {
		line string
		err  error
	}
	got := make(chan typed, 1)
	_, _ = fmt.Fprint(s.err, text)
	go func() {
		if hidden {
			line, err := term.ReadPassword(stdin)
			got <- typed{string(line), err}
			return
		}
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		got <- typed{line, err}
	}()
	select {
	case t := <-got:
		if hidden {
			_, _ = fmt.Fprintln(s.err)
		}
		return t.line, t.err
	case <-ctx.Done():
		_, _ = fmt.Fprintln(s.err)
		return "", errors.Join(ctx.Err(), term.Restore(stdin, before))
	}
}

// screen shows events as python/taipy_tunnel/_cli/command.py does.
type screen struct {
	out     *bufio.Writer
	err     io.Writer
	givenUp string
	drawn   int   // lines of the view that stands at the end
	failed  error // the first one of writing to out
}

func (s *screen) show(e command.Event) {
	if e.Kind != command.View {
		s.drawn = 0 // it stays where it is
	}
	switch e.Kind {
	case command.View:
		s.view(strings.Split(e.Text, "\n"))
	case command.Text:
		s.answer(e.Text)
	case command.Table:
		for _, row := range e.Rows {
			s.answer(drawn(row))
		}
	case command.Notice:
		_, _ = fmt.Fprintln(s.err, e.Text)
	case command.Failure:
		s.notice(e.Text)
		if e.Hint != "" {
			_, _ = fmt.Fprintln(s.err, e.Hint)
		}
	case command.GivenUp:
		s.givenUp = e.Text
	}
}

// view draws lines in the place of those before.
func (s *screen) view(lines []string) {
	columns, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || columns < 1 {
		columns = width
	}
	if s.drawn > 0 {
		_, _ = fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
	}
	for _, line := range lines {
		if text := []rune(line); len(text) >= columns {
			line = string(text[:columns-1])
		}
		_, _ = s.out.WriteString(line + "\n")
	}
	s.flush()
	s.drawn = len(lines)
}

func (s *screen) answer(text string) {
	_, _ = s.out.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	s.flush()
}

// flush writes what bufio.Writer has, which keeps its first error.
func (s *screen) flush() {
	if err := s.out.Flush(); err != nil && s.failed == nil {
		s.failed = err
	}
}

func (s *screen) notice(text string) { _, _ = fmt.Fprintln(s.err, "taipy-tunnel: "+text) }
