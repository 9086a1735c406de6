// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

const (
	lookAgain = 500 * time.Millisecond  // for what the program listens at
	lookLong  = 10 * time.Second        // until that nothing is seen is told
	lookLeft  = 50 * time.Millisecond   // for what it has left, once it has ended
	endsIn    = 1500 * time.Millisecond // after Ctrl-C, until what is left of it is killed
)

// program is `run -- PROGRAM`: it starts an app's program, and shows the app as long as that runs.
func (r *run) program() *cobra.Command {
	c := takes(&cobra.Command{Use: "run",
		Short: "start a program, and show its app to visitors until it ends",
		Long: "Opens a tunnel as expose does, starts PROGRAM with its ARGUMENTs, and shows the app at whose port it answers HTTP, wherever that is and also if it is " +
			"started again at another one. The program has the terminal, and what the tunnel tells goes to standard error. It sees none of the TAIPY_TUNNEL_* variables. " +
			"Signals pass to it, and its exit status is that of this command, or 1 if it ended well after the tunnel had ended; what is left of it 1.5 s after Ctrl-C is killed.",
		Example: "  taipy-tunnel run --server me@proxy.example.com -- streamlit run app.py",
	}, [2]string{"", "-- PROGRAM [ARGUMENT...]"})
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{"PROGRAM is missing: taipy-tunnel run -- streamlit run app.py"}
		}
		return nil
	}
	c.Flags().SetInterspersed(false) // the options that follow are the program's
	s := settings{c, r.Getenv}
	s.options()
	c.Flags().String("app", "", "the `PORT` or HOST:PORT where the program's app listens; default: where it answers HTTP, which is seen on Linux alone")
	c.RunE = func(c *cobra.Command, args []string) error {
		r.inLine = true
		app, err := s.app()
		if err != nil {
			return err
		}
		cfg, timeout, err := s.config(app)
		if err != nil {
			return err
		}
		r.Terminal, r.aside = false, true // which the program has
		t, err := r.open(c.Context(), cfg, timeout)
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		if r.inJSON {
			r.json(map[string]string{"url": t.URL()})
		} else {
			r.Show(Event{Kind: Notice, Text: "visitors open " + t.URL()})
		}
		return r.beside(c, t, args, app == "")
	}
	return c
}

// app is where the program listens, "" if that is to be seen.
func (s settings) app() (string, error) {
	app := s.text("app")
	if app == "" && runtime.GOOS != "linux" {
		return "", &usageError{"--app is missing: where a program listens is seen on Linux alone"}
	}
	return app, nil
}

// beside runs a program beside its tunnel until it ends. find: its app is looked for.
func (r *run) beside(c *cobra.Command, t *tunnel.Tunnel, args []string, find bool) error {
	if c.Context().Err() != nil {
		return c.Context().Err()
	}
	process, err := r.Start(args)
	if err != nil {
		return fault.Config("check how it is called, and PATH", "%s cannot be started: %w", fault.Quote(args[0]), fault.Reason(err))
	}
	var tasks guard.Group
	defer tasks.Wait()
	life, end := context.WithCancel(context.WithoutCancel(c.Context()))
	defer end()
	p := beside{run: r, tunnel: t, process: process, words: words(c), start: tasks.Go, life: life}
	exited, found, changes := make(chan *os.ProcessState, 1), make(chan []tunnel.Near), make(chan tunnel.Status)
	tasks.Go(func() {
		state, err := process.Wait()
		if err != nil { // it was waited for elsewhere
			state = nil
		}
		exited <- state
	})
	if find {
		tasks.Go(func() { look(life, process.Pid, tasks.Go, found) })
	}
	tasks.Go(func() { watch(life, t, changes) })
	var signals <-chan os.Signal
	if r.Signals != nil {
		var over func()
		signals, over = r.Signals()
		defer over()
	}
	given := c.Context().Done()
	for {
		select {
		case state := <-exited:
			p.exited(state)
		case <-given:
			given = nil
			p.end(nil, passedOn(c.Context()), context.Cause(c.Context()))
		case <-p.kill:
			p.killAll()
		case s := <-signals:
			p.signal(s)
		case apps := <-found:
			p.found(apps)
		case s := <-changes:
			p.changed(s)
		case <-p.look:
		}
		if p.ended && !p.leaves() {
			p.drain()
			if p.why == nil && r.code == OK {
				return p.lost
			}
			return p.why
		}
	}
}

func watch(ctx context.Context, t *tunnel.Tunnel, changes chan<- tunnel.Status) {
	for s := range t.Watch(ctx) {
		select {
		case changes <- s:
		case <-ctx.Done():
		}
	}
}

// beside is a program that runs, and its tunnel.
type beside struct {
	*run
	tunnel  *tunnel.Tunnel
	process *os.Process
	words   func(name, value string) string
	start   func(func()) bool
	life    context.Context

	told   string           // of the tunnel's state
	lost   error            // the tunnel has ended by itself
	begun  time.Time        // when it was looked at first
	hinted bool             // that nothing was seen was told
	seen   []string         // where it answered when last looked
	more   []string         // where it was seen to answer beside its app
	why    error            // the program is ended
	given  bool             // it is
	ended  bool             // the first process of it has
	tree   []int            // the processes that it had when it was given up
	many   int              // signals that give up
	kill   <-chan time.Time // when what is left of it is killed
	look   <-chan time.Time // when it is looked whether something is left
}

// end has the program end: by a signal, nil where it has it already. Only after SIGTERM it has the time that it takes.
func (p *beside) end(why error, how os.Signal, cause error) {
	if p.given {
		return
	}
	p.given, p.why, p.tree = true, why, descendants(p.process.Pid)
	if given, is := errors.AsType[Interrupt](cause); !is || given.By != syscall.SIGTERM {
		p.kill, p.look = time.After(endsIn), time.Tick(lookLeft)
	}
	p.start(p.drain)
	if how != nil {
		_ = p.process.Signal(how)
	}
}

// exited takes what its first process has ended with. What that has left behind, after it was given up, has to end as well.
func (p *beside) exited(state *os.ProcessState) {
	p.ended, p.code = true, status(state)
	if p.leaves() {
		signalAll(p.tree, syscall.SIGTERM)
	}
}

// leaves reports whether processes of a program that was given up are still there, which are waited for until they are killed.
func (p *beside) leaves() bool {
	p.tree = slices.DeleteFunc(p.tree, isGone)
	return p.kill != nil && len(p.tree) > 0
}

func signalAll(pids []int, s os.Signal) {
	for _, pid := range pids {
		if one, err := os.FindProcess(pid); err == nil {
			_ = one.Signal(s)
		}
	}
}

// signal passes a signal on. The first of those that give up comes by the context; the second one ends what is left at once.
func (p *beside) signal(s os.Signal) {
	if s != os.Interrupt && s != syscall.SIGTERM {
		_ = p.process.Signal(s)
		return
	}
	if p.many++; p.many > 1 {
		p.killAll()
	}
}

// killAll kills the program and what it has started, which is seen on Linux alone.
func (p *beside) killAll() {
	tree := append(descendants(p.process.Pid), p.tree...)
	_ = p.process.Kill() // first, or it starts them again
	signalAll(tree, os.Kill)
	p.tree = nil
}

// drain lets the requests that are under way end.
func (p *beside) drain() {
	ctx, cancel := context.WithTimeout(p.life, drainFor)
	defer cancel()
	_ = p.tunnel.Shutdown(ctx)
}

// found takes where the program answers. What is seen twice counts: one that opens several ports may open one after the other. Its app stays where
// it is as long as it answers there, and moves to no port that was seen beside it.
func (p *beside) found(apps []tunnel.Near) {
	var at []string
	for _, app := range apps {
		if !slices.Contains(at, app.Addr) {
			at = append(at, app.Addr)
		}
	}
	again, target := slices.Equal(at, p.seen), p.tunnel.Status().Target
	if p.seen = at; p.begun.IsZero() {
		p.begun = time.Now()
	}
	beside := slices.DeleteFunc(slices.Clone(at), func(addr string) bool { return addr == target || slices.Contains(p.more, addr) })
	switch {
	case !again:
	case len(at) == 0:
		if p.hinted || target != "" || time.Since(p.begun) < lookLong {
			return
		}
		p.hinted = true
		p.notice("nothing of the program answers HTTP so far; where its app listens can be said by --app")
	case target != "" && slices.Contains(at, target):
		for _, addr := range beside {
			p.more = append(p.more, addr)
			p.notice("the program also answers at " + addr + "; to show that, pass --app " + addr)
		}
	case len(beside) == 1:
		_ = p.tunnel.SetTarget(beside[0])
		p.notice("the app is at " + beside[0])
	case len(beside) > 1 && target == "":
		p.end(fault.Config(fault.Hintf("say which one visitors are to see: {target=%q}", at[0]), "the program answers HTTP at several ports: %s", strings.Join(at, ", ")), os.Interrupt, nil)
	}
}

// notice tells a line, to people alone.
func (p *beside) notice(text string) {
	if !p.inJSON {
		p.Show(Event{Kind: Notice, Text: text})
	}
}

// changed tells the tunnel's state. The program goes on whatever becomes of that.
func (p *beside) changed(s tunnel.Status) {
	line := brief(s)
	if line == p.told {
		return
	}
	p.told = line
	p.run.changed(s, line, p.words)
	if s.State == tunnel.Failed || s.State == tunnel.Replaced {
		p.lost = ended(s)
		if hint := fault.From(p.lost).Hint.In(p.words); hint != "" {
			p.notice(hint)
		}
	}
}

// look finds where a process and those that it has started answer, again and again.
func look(ctx context.Context, pid int, start func(func()) bool, found chan<- []tunnel.Near) {
	near := tunnel.Neighbours{Of: pid}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		select {
		case found <- near.Look(ctx, nil, start):
		case <-ctx.Done():
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// Interrupt is the cause of a context that a signal has ended.
type Interrupt struct {
	// By is that signal; nil: a program that was started has it already, as from a terminal's Ctrl-C.
	By os.Signal
}

// Error is in no message.
func (i Interrupt) Error() string { return "interrupted" }

// passedOn is the signal that the program is to have as well.
func passedOn(ctx context.Context) os.Signal {
	if given, is := errors.AsType[Interrupt](context.Cause(ctx)); is {
		return given.By
	}
	return os.Interrupt
}

// status is what a program has ended with, as a shell has it.
func status(ended *os.ProcessState) int {
	if ended == nil {
		return Failed
	}
	if how, is := ended.Sys().(syscall.WaitStatus); is && how.Signaled() {
		return 128 + int(how.Signal())
	}
	return ended.ExitCode()
}

// isGone reports whether a process has ended, or is a zombie.
func isGone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.HasPrefix(afterName(text), "Z")
}

// afterName is what follows the name in proc_pid_stat(5), in which anything may be.
func afterName(stat []byte) string {
	return strings.TrimSpace(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// descendants are the processes below one, by proc_pid_stat(5).
func descendants(pid int) (below []int) {
	parents := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var state string
		var parent int
		if _, err := fmt.Sscan(afterName(text), &state, &parent); err != nil {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			parents[parent] = append(parents[parent], child)
		}
	}
	below = parents[pid]
	for i := 0; i < len(below); i++ {
		below = append(below, parents[below[i]]...)
	}
	return below
}
