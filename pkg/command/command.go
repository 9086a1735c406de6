// SPDX-License-Identifier: Apache-2.0

// Package command is the command taipy-tunnel, for whatever shows what it says: the program at a terminal (cmd/taipy-tunnel), and the
// wheel's command, by the C interface. It takes the words of a command line and tells events; it writes to no stream.
//
//	code := command.Run(ctx, []string{"proxy", "check", "sales@proxy.example.com"}, command.Face{Show: show, Input: input})
//
// Whatever is on a command line may be a secret in the wrong place, so no error repeats a word of it that may be one.
package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// What a command ends with, as a shell has it.
const (
	OK          = 0   // it is done, and nothing that was looked at fails
	Failed      = 1   // it is not, and a Failure says why; or a Table has a row that fails
	Usage       = 2   // the command line is not understood; nothing was done
	Interrupted = 130 // ctx was canceled
)

// Face is who a command talks to, and what it cannot know by itself.
type Face struct {
	// Show is called with each event, one after the other.
	Show func(Event)
	// Input is all of standard input. It is asked where a file is "-", and may be left behind when ctx ends.
	Input func(context.Context) ([]byte, error)
	// Ask asks a person, who types a line; hidden: it is not shown. Nil: there is no terminal.
	Ask func(ctx context.Context, text string, hidden bool) (string, error)
	// Terminal: a person looks on, and is shown what goes on as a View.
	Terminal bool
	// Version is of the program.
	Version string
	// Getenv is os.Getenv, or what is in its place where the environment of this process is an old one. Nil: os.Getenv.
	Getenv func(string) string
	// Workspace is the Databricks workspace that is asked where no profile is named. Zero: as Databricks' own tools choose.
	Workspace databricks.Config
	// Start starts a program, its name first, with the streams of the process and without its Variables.
	Start func(args []string) (*os.Process, error)
	// Signals are those that pass to a program which a command has started, until the function that comes with them is called. The first one that
	// gives the command up (os.Interrupt, SIGTERM) is the cause of ctx as well, as an Interrupt. Nil: there are none.
	Signals func() (<-chan os.Signal, func())
	// Control is called with each socket of SSH's (net.Dialer). Nil: nothing is.
	Control func(network, address string, c syscall.RawConn) error
}

// run is one command line.
type run struct {
	Face
	help   bytes.Buffer // and what a shell asks for completion
	inJSON bool
	inLine bool // each value is a line of JSON, for others follow it
	aside  bool // standard output is a program's
	code   int
}

// Run runs a command line, without the program's name, and returns what it ends with. When ctx ends it returns soon.
func Run(ctx context.Context, args []string, face Face) (code int) {
	r := &run{Face: face}
	if r.Getenv == nil {
		r.Getenv = os.Getenv
	}
	root := r.root()
	if completes(args) && !completable(args[1:]) { // cobra would say why on standard error
		r.text(noCompletion)
		return OK
	}
	root.SetArgs(append([]string{}, args...)) // nil would be those of this process
	ran, err := root.ExecuteContextC(ctx)
	if r.help.Len() > 0 {
		r.text(r.help.String())
	}
	if err == nil {
		return r.code
	}
	if ctx.Err() == context.Canceled {
		return Interrupted
	}
	if e, is := errors.AsType[*fault.Error](err); is {
		r.fail(failed(e, words(ran)))
		return Failed
	}
	if errors.Is(err, context.DeadlineExceeded) {
		r.fail(failure{Class: "unreachable", Message: "it was not done in the time that it may take", Hint: "run it again, which does no harm"})
		return Failed
	}
	usage, is := errors.AsType[*usageError](err)
	if !is { // cobra's, which repeats what was given
		usage = &usageError{"there are words that the command does not take"}
	}
	r.inJSON = r.inJSON || slices.Contains(args, "--json") // which may stand behind what is not understood
	r.fail(failure{Class: "usage", Message: usage.text, Hint: "see " + ran.CommandPath() + " --help"})
	return Usage
}

const noCompletion = ":0" // cobra's ShellCompDirectiveDefault, and no word

// completes reports whether a shell asks for what may follow a command line.
func completes(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completable reports whether the words before the last one are understood, and its option is one if it has a value.
func completable(args []string) bool {
	if len(args) == 0 {
		return false
	}
	c, rest, err := (&run{Face: Face{Getenv: os.Getenv}}).root().Find(args[:len(args)-1])
	if err != nil {
		return false
	}
	if option, _, is := strings.Cut(args[len(args)-1], "="); is && strings.HasPrefix(option, "-") && c.Flags().Lookup(strings.TrimLeft(option, "-")) == nil {
		return false
	}
	err = c.ParseFlags(rest)
	_, wanting := errors.AsType[*pflag.ValueRequiredError](err) // the last word is its value
	return err == nil || wanting
}

// failure is why a command has failed.
type failure struct {
	Class   string `json:"class"` // as Python's errors have it, or "usage"
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func failed(e *fault.Error, setting func(name, value string) string) (f failure) {
	if text, err := json.Marshal(e); err == nil {
		_ = json.Unmarshal(text, &f)
	}
	f.Hint = e.Hint.In(setting)
	return f
}

func (r *run) fail(f failure) {
	if r.inJSON {
		r.json(map[string]failure{"error": f})
		return
	}
	r.Show(Event{Kind: Failure, Text: f.Message, Hint: f.Hint})
}

// answer shows what a command has found: value where JSON is wanted, else what show shows.
func (r *run) answer(value any, show func()) error {
	if r.inJSON {
		r.json(value)
		return nil
	}
	show()
	return nil
}

func (r *run) json(value any) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if !r.inLine {
		e.SetIndent("", "  ")
	}
	if err := e.Encode(value); err != nil {
		panic(err) // they are types of ours
	}
	if r.aside {
		r.Show(Event{Kind: Notice, Text: strings.TrimSuffix(text.String(), "\n")})
		return
	}
	r.Show(Event{Kind: Text, Text: text.String()})
}

// ask asks a person.
func (r *run) ask(ctx context.Context, text string, hidden bool) (string, error) {
	answer, err := r.Ask(ctx, text, hidden)
	if err != nil && ctx.Err() == nil {
		return "", fault.Config("run it again, and answer what it asks", "no answer was given")
	}
	return answer, err
}

func (r *run) text(lines ...string) { r.Show(Event{Kind: Text, Text: strings.Join(lines, "\n")}) }

const helpWidth = 80 // columns

const exits = `
Exit status:
  0    done; nothing that was looked at FAILs
  1    an error, which says what to do, or a row that FAILs
  2    the command line is not understood; nothing was done
  130  interrupted (Ctrl-C)
`

func (r *run) root() *cobra.Command {
	root := group("taipy-tunnel", "Shows an app to visitors of a proxy machine, and sets up what that needs.")
	root.SetOut(&r.help) // before the command of completion is made, which keeps it
	root.SetErr(io.Discard)
	root.Version = r.Version
	root.SetVersionTemplate("taipy-tunnel {{.Version}}\n")
	usage := strings.ReplaceAll(root.UsageTemplate(), "Flags.FlagUsages", fmt.Sprintf("Flags.FlagUsagesWrapped %d", helpWidth))
	usage = strings.ReplaceAll(usage, `Use "{{.CommandPath}} [command] --help" for more information about a command.`, "See {{.CommandPath}} COMMAND --help.")
	root.SetUsageTemplate(usage + exits)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(optionError)
	root.PersistentFlags().BoolVar(&r.inJSON, "json", false, "answer in JSON, errors too, for programs")
	root.AddCommand(r.databricks(), r.doctor(), r.expose(), r.program(), r.proxy(), r.quickstart(), r.status())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE, c.SuggestionsMinimumDistance = cobra.ArbitraryArgs, noSuchCommand, 2
			for _, shell := range c.Commands() {
				takes(shell)
			}
		}
	}
	return root
}

// group is a command that has others below it, and does nothing itself.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2, RunE: noSuchCommand}
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{"a command is missing"}
	}
	return &usageError{"there is no command " + fault.Quote(args[0]) + didYouMean(c.SuggestionsFor(args[0]))}
}
