// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

func (r *run) doctor() *cobra.Command {
	c := takes(&cobra.Command{Use: "doctor",
		Short: "look along the chain, and say where it breaks",
		Long: "Looks along the chain from the settings to what visitors see, without opening a tunnel, and says of each step what was seen: the settings and where they came " +
			"from, the way to the proxy, the host key, the login, what the account may do, nginx, and the app, as visitors get it. The first row that FAILs is what " +
			"is wrong; what could not be looked at because of it is skipped. Options and variables are those of taipy-tunnel expose.\n\n" +
			"It harms nothing: it logs in once, and takes the port of a plain proxy for a few seconds, and only if it is free.",
	}, appArgument)
	c.Use = "doctor [" + appArgument[1] + "]"
	exactly := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return exactly(c, args)
	}
	s := settings{c, r.Getenv}
	s.options()
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, _, err := s.config(strings.Join(args, ""))
		if err != nil {
			return err
		}
		cfg.Control = r.Control
		r.notice("looking along the chain")
		rows := r.rows(c, doctor.Look(c.Context(), cfg, s.origin()))
		if err := c.Context().Err(); err != nil {
			return err
		}
		return r.answer(rows, func() { r.Show(Event{Kind: Table, Rows: rows}) })
	}
	return c
}

// origin says where each setting came from.
func (s settings) origin() map[string]string {
	from := map[string]string{}
	s.command.Flags().VisitAll(func(f *pflag.Flag) {
		switch name := strings.ReplaceAll(f.Name, "-", "_"); {
		case f.Changed:
			from[name] = "--" + f.Name
		case s.getenv(variable(name)) != "":
			from[name] = variable(name)
		}
	})
	return from
}

// pointed has an error of the way to the proxy, or there, say who looks further.
func pointed(err error) error {
	e, is := errors.AsType[*fault.Error](err)
	if !is || !slices.Contains([]error{fault.ErrUnreachable, fault.ErrHop, fault.ErrAuth, fault.ErrForward}, e.Class) {
		return err
	}
	told := *e
	if told.Hint != "" {
		told.Hint += "; "
	}
	told.Hint += "taipy-tunnel doctor, with the same options, shows how far it gets"
	return &told
}
