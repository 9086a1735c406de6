// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyadmin"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

const (
	setUpTimeout = time.Hour        // packages may come slowly
	checkTimeout = 10 * time.Minute // each step ends within 10 s
)

// Arguments, as the help shows them, after the settings of expose() that they are.
var (
	serverArgument    = [2]string{"server", "USER@MACHINE[:PORT]"}
	fileArgument      = [2]string{"", "FILE"}
	directoryArgument = [2]string{"", "DIRECTORY"}
)

const fileHelp = "\n\nFILE describes the machine, in JSON (docs/proxy.md); -: standard input."

func (r *run) proxy() *cobra.Command {
	g := group("proxy", "the proxy machine")
	g.AddCommand(r.setup(), r.check(), r.rendered("script", "a script that the machine's administrator runs (sudo sh)", proxyhost.Script),
		r.rendered("cloud-init", "user data of cloud-init", proxyhost.CloudInit), r.render())
	return g
}

func (r *run) setup() *cobra.Command {
	var to login
	remove := false
	c := takes(&cobra.Command{Use: "setup",
		Short: "set a machine up through SSH, or bring it up to date",
		Long: "Runs the script of a prepared proxy (proxy script) on a Debian or Ubuntu machine, as root, and prints what its tenants' notebooks need. " +
			"What the machine says meanwhile comes on standard error. Run it again after a change of FILE; what sshd or nginx refuse is taken back. " +
			"Ctrl-C ends it, and takes back too.\n\nUSER is root, or an account with sudo, whose password is asked for at a terminal; MACHINE may be an alias of ~/.ssh/config." + fileHelp,
	}, serverArgument, fileArgument)
	to.options(c)
	c.Flags().BoolVar(&remove, "remove", false, "remove what was made; packages stay")
	c.RunE = func(c *cobra.Command, args []string) error {
		host, err := r.machine(c.Context(), args[1])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), setUpTimeout)
		defer cancel()
		m, err := r.change(ctx, r.destination(to, args[0]), host, remove)
		if err != nil {
			return err
		}
		if remove {
			return r.answer(made{}, func() { r.text("The machine is no proxy any more.") })
		}
		told := made{HostKey: m.HostKey}
		urls, err := host.URLs()
		if err != nil {
			return err
		}
		var all []string
		for _, t := range host.Tenants {
			told.Tenants = append(told.Tenants, tenant{m.Server(t.Name), t.Names(), t.SelfService != "", urls[t.Name]})
			all = append(all, urls[t.Name]...)
		}
		r.notice("looking from here at what visitors open")
		seen, err := reloaded(ctx, 2*time.Second, func() ([]probe.Checked, error) {
			return doctor.Visitors(ctx, r.destination(to, args[0]), all)
		})
		if err != nil {
			return err
		}
		told.Rows = r.mild(c, seen)
		return r.answer(told, func() {
			r.Show(Event{Kind: Table, Rows: told.Rows})
			r.text(told.lines()...)
		})
	}
	return c
}

// change has a machine be what a description says, or nothing of that any more. A person sees what the script says.
func (r *run) change(ctx context.Context, to destination.Config, host *proxyhost.Host, remove bool) (*proxyadmin.Machine, error) {
	script, err := proxyhost.Script(*host)
	if err != nil {
		return nil, err
	}
	const givenUp = "given up; the script there is hung up, and takes back what it did"
	c := proxyadmin.Change{Script: script, Remove: remove, Said: func(line string) { r.Show(Event{Kind: Notice, Text: line}) }}
	if r.Ask != nil {
		c.Password = func(ctx context.Context) (string, error) {
			r.Show(Event{Kind: GivenUp})
			password, err := r.ask(ctx, "Password for sudo on the machine: ", true)
			r.Show(Event{Kind: GivenUp, Text: givenUp})
			return password, err
		}
	}
	r.Show(Event{Kind: GivenUp, Text: givenUp})
	m, err := proxyadmin.SetUp(ctx, to, c)
	if err == nil {
		r.Show(Event{Kind: GivenUp})
	}
	return m, err
}

func (r *run) check() *cobra.Command {
	var to login
	c := takes(&cobra.Command{Use: "check",
		Short: "look at a machine as one of its tenants, and say what is missing",
		Long: "Logs in as a tenant of a prepared proxy would and looks at the live machine, without a change: the account, what it may do and should not, " +
			"nginx, the apps' addresses and certificates. Open tunnels do not notice. Ends with 0 if nothing FAILs, 1 otherwise.\n\n" +
			"USER is the tenant; MACHINE may be an alias of ~/.ssh/config.",
	}, serverArgument)
	to.options(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), checkTimeout)
		defer cancel()
		checked, err := doctor.Machine(ctx, r.destination(to, args[0]), "")
		if err != nil {
			return err
		}
		rows := r.rows(c, checked)
		return r.answer(rows, func() { r.Show(Event{Kind: Table, Rows: rows}) })
	}
	return c
}

// mild are rows of which none is a failure of the command: who sets a machine up may be where its visitors do not get.
func (r *run) mild(c *cobra.Command, checked []probe.Checked) []Row {
	for i := range checked {
		checked[i].OK, checked[i].Warn = true, checked[i].Warn || !checked[i].OK
	}
	return r.rows(c, checked)
}

// rows are what was looked at; one that fails has the command fail.
func (r *run) rows(c *cobra.Command, checked []probe.Checked) []Row {
	rows := []Row{}
	for _, s := range checked {
		row := Row{OK: s.OK, Warn: s.Warn, Skipped: s.Skipped, Step: s.Step, Seen: s.Seen, Hint: s.Hint.In(words(c))}
		if !row.OK && !row.Skipped {
			r.code = Failed
		}
		rows = append(rows, row)
	}
	return rows
}

// rendered is a command that prints a text made of a machine's description.
func (r *run) rendered(name, what string, render func(proxyhost.Host) (string, error)) *cobra.Command {
	c := takes(&cobra.Command{Use: name,
		Short: "print " + what,
		Long: fmt.Sprintf("Prints %s, which makes a machine a prepared proxy: its tenants' accounts can do nothing but serve their apps. "+
			"It can be run again after a change, and undoes itself (sh FILE remove).", what) + fileHelp,
	}, fileArgument)
	c.RunE = func(c *cobra.Command, args []string) error {
		host, err := r.machine(c.Context(), args[0])
		if err != nil {
			return err
		}
		text, err := render(*host)
		if err != nil {
			return err
		}
		return r.answer(map[string]string{"text": text}, func() { r.text(text) })
	}
	return c
}

func (r *run) render() *cobra.Command {
	c := takes(&cobra.Command{Use: "render",
		Short: "write the files that the machine needs below a directory",
		Long: "Writes the files of a prepared proxy below a directory, which is made if it is not there, to be read, or put in place by other means than " +
			"the script. Accounts, and the directories below /run, are in none of them." + fileHelp,
	}, fileArgument, directoryArgument)
	c.RunE = func(c *cobra.Command, args []string) error {
		host, err := r.machine(c.Context(), args[0])
		if err != nil {
			return err
		}
		files, err := proxyhost.Render(*host)
		if err != nil {
			return err
		}
		if err := write(args[1], files); err != nil {
			return err
		}
		var paths []string
		for _, f := range files {
			paths = append(paths, f.Path)
		}
		return r.answer(map[string][]string{"files": paths}, func() {
			r.text(fmt.Sprintf("%d files written below that directory:", len(paths)), "    "+strings.Join(paths, "\n    "))
		})
	}
	return c
}

// login is what options say of the way to a machine.
type login struct{ hostKey, key, jump, via string }

func (l *login) options(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.hostKey, "host-key", "", "the machine's host `KEY`, \"SHA256:…\", a known_hosts line or file; default: the known_hosts files. It is always checked")
	f.StringVar(&l.key, "key", "", "a private key to log in with, a `FILE` ("+passphrase+" opens it); default: as for ssh, the agent's, then ~/.ssh/id_*")
	f.StringVar(&l.jump, "jump", "", "machines on the way, `USER@BASTION`; default: ProxyJump of ~/.ssh/config")
	f.StringVar(&l.via, "via", "", "the `URL` of an egress proxy, http, https or socks5; default: HTTPS_PROXY, ALL_PROXY")
}

func (r *run) destination(l login, server string) destination.Config {
	to := destination.Config{Server: server, HostKey: l.hostKey, Key: l.key, Jump: l.jump, Via: l.via, Control: r.Control}
	if l.key != "" {
		to.KeyPassphrase = r.Getenv(passphrase)
	}
	return to
}
