// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

func (r *run) status() *cobra.Command {
	var to login
	c := takes(&cobra.Command{Use: "status",
		Short: "say which apps of an account are up, and since when",
		Long: "Logs in as a tenant of a prepared proxy would and asks there which of the account's apps are up: those that the admin has declared, and those of the " +
			"account's own choice. No tunnel notices.\n\nUSER is the tenant; MACHINE may be an alias of ~/.ssh/config.",
	}, serverArgument)
	to.options(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := doctor.Status(c.Context(), r.destination(to, args[0]))
		if err != nil {
			return err
		}
		return r.answer(a, func() { r.text(table(a)...) })
	}
	return c
}

// table is an account's apps, in columns.
func table(a *doctor.Account) []string {
	wide := len("NAME")
	for _, app := range a.Apps {
		wide = max(wide, len(app.Name))
	}
	line := func(name, state, since, url string) string {
		return fault.Printable(fmt.Sprintf("%-*s  %-5s  %-19s  %s", wide, name, state, since, url))
	}
	lines := []string{line("NAME", "STATE", "SINCE (UTC)", "VISITORS OPEN")}
	for _, app := range a.Apps {
		state, since := "away", "-"
		if app.Up {
			state = "up"
		}
		if !app.Since.IsZero() {
			since = app.Since.UTC().Format(time.DateTime)
		}
		lines = append(lines, line(app.Name, state, since, app.URL))
	}
	return append(lines, "", fmt.Sprintf("You log in as %s, with key %s.", a.Server, a.Key))
}
