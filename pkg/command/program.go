// SPDX-License-Identifier: Apache-2.0

package command

import (
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
	endsIn    = 1500 * time.Millisecond // after Ctrl-C, until what is left of it is killed
)

// program is `run -- PROGRAM`: it starts an app's program, and shows the app as long as that runs.
func (r *run) program() *cobra.Command {
	c := takes(&cobra.Command{Use: "run",
		Short: "start a program, and show its app to visitors until it ends",
		Long: "Opens a tunnel as expose does, starts PROGRAM with its ARGUMENTs, and shows the app at whose port it answers HTTP, wherever that is and also if it is " +
			"started again at another one. The program has the terminal, and what the tunnel tells goes to standard error. It is not told any TAIPY_TUNNEL_* variable. " +
			"Signals pass to it, and its exit status is that of this command; what is left of it 1.5 s after Ctrl-C is killed.",
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
		cfg.Control = r.Control
		r.Terminal, r.aside = false, true // which the program has
		r.Show(Event{Kind: Notice, Text: "connecting"})
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		t, err := tunnel.Expose(ctx, cfg)
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
		tasks.Go(func() { look(life, tasks.Go, found) })
	}
	tasks.Go(func() {
		for s := range t.Watch(life) {
			select {
			case changes <- s:
			case <-life.Done():
			}
		}
	})
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
			p.drain()
			r.code = status(state)
			return p.why
		case <-given:
			given = nil
			p.end(nil, passedOn(c.Context()))
		case <-p.kill:
			killAll(process.Pid)
		case s := <-signals:
			_ = process.Signal(s)
		case apps := <-found:
			p.found(apps)
		case s := <-changes:
			p.changed(s)
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

	told string           // of the tunnel's state
	seen []string         // where it answered when last looked
	why  error            // the program is ended
	kill <-chan time.Time // when what is left of it is killed
}

// end has the program end: by a signal, nil where it has it already.
func (p *beside) end(why error, how os.Signal) {
	if p.kill != nil {
		return
	}
	p.why, p.kill = why, time.After(endsIn)
	p.start(p.drain)
	if how != nil {
		_ = p.process.Signal(how)
	}
}

// drain lets the requests that are under way end.
func (p *beside) drain() {
	ctx, cancel := context.WithTimeout(p.life, drainFor)
	defer cancel()
	_ = p.tunnel.Shutdown(ctx)
}

// found takes what was seen near by. What the program answers at counts when it is seen twice: one that opens several ports may open one after
// the other. Its app stays where it is as long as it answers there.
func (p *beside) found(apps []tunnel.Near) {
	var at []string
	tree := append(descendants(p.process.Pid), p.process.Pid)
	for _, app := range apps {
		if slices.Contains(tree, app.PID) && !slices.Contains(at, app.Addr) {
			at = append(at, app.Addr)
		}
	}
	again := slices.Equal(at, p.seen)
	p.seen = at
	switch {
	case !again || len(at) == 0 || slices.Contains(at, p.tunnel.Status().Target):
	case len(at) == 1:
		_ = p.tunnel.SetTarget(at[0])
	default:
		p.end(fault.Config(fault.Hintf("say which one visitors are to see: {target=%q}", at[0]), "the program answers HTTP at several ports: %s", strings.Join(at, ", ")), os.Interrupt)
	}
}

// changed tells the tunnel's state. The program goes on whatever becomes of that.
func (p *beside) changed(s tunnel.Status) {
	if line := brief(s); line != p.told {
		p.told = line
		p.run.changed(s, line, p.words)
	}
}

// look finds the web apps near by, again and again.
func look(ctx context.Context, start func(func()) bool, found chan<- []tunnel.Near) {
	var near tunnel.Neighbours
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

// killAll kills a process and those that it has started, which are seen on Linux alone.
func killAll(pid int) {
	for _, one := range append(descendants(pid), pid) {
		if p, err := os.FindProcess(one); err == nil {
			_ = p.Kill()
		}
	}
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
		_, rest, _ := strings.Cut(string(text), ") ") // of its name, which may have anything else
		var state string
		var parent int
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
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
