// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	storeTimeout = time.Minute
	defaultScope = databricks.DefaultScope // where expose() looks
)

func (r *run) databricks() *cobra.Command {
	g := group("databricks", "a Databricks workspace")
	g.AddCommand(r.store())
	return g
}

func (r *run) store() *cobra.Command {
	var cfg databricks.StoreConfig
	var hostKey, key, profile string
	c := takes(&cobra.Command{Use: "store",
		Short: "store address, host key and login key for all notebooks",
		Long: "Stores the proxy's address, its host key and a private key to log in with in a secret scope of a Databricks workspace, once. Notebooks of the " +
			"workspace then need no argument: taipy_tunnel.expose(). The workspace is that of your Databricks profile or environment (databricks auth login).",
	})
	f := c.Flags()
	f.StringVar(&cfg.Server, "server", "", "the proxy machine, and the account there, `USER@HOST[:PORT]`")
	f.StringVar(&hostKey, "host-key", "", "the proxy's host `KEY`, as the machine itself shows it (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), or a file of "+
		"known_hosts lines; it is never taken from the network")
	f.StringVar(&key, "key", "", "a private key without passphrase, a `FILE`; default: that of the scope, else a new one")
	f.BoolVar(&cfg.NewKey, "new-key", false, "make a new key though the scope has one")
	f.StringVar(&cfg.Scope, "scope", defaultScope, "the secret `SCOPE`; expose() looks in the default one")
	f.StringVar(&cfg.Group, "group", "users", "who may read it, a `GROUP` or a user; the default one is everybody in the workspace")
	f.StringVar(&profile, "profile", "", "a `PROFILE` of ~/.databrickscfg; default: as Databricks' own tools choose")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := wants(c, "server", "host-key"); err != nil {
			return err
		}
		if cfg.HostKey, err = textOrFile(c.Context(), "--host-key", hostKey); err != nil {
			return err
		}
		if key != "" {
			text, err := read(c.Context(), "--key", key)
			if err != nil {
				return err
			}
			cfg.Key = databricks.Value(text)
		}
		w, err := r.workspace(profile)
		if err != nil {
			return err
		}
		defer w.Close()
		ctx, cancel := context.WithTimeout(c.Context(), storeTimeout)
		defer cancel()
		stored, err := w.Store(ctx, cfg)
		if err != nil {
			return err
		}
		server, _, err := destination.Given(cfg.Server)
		if err != nil {
			return err
		}
		return r.answer(stored, func() { r.text(told(stored, account(server))...) })
	}
	return c
}

// workspace is that of a profile; "": the one that is asked where none is named.
func (r *run) workspace(profile string) (*databricks.Workspace, error) {
	at := r.Workspace
	if profile != "" {
		at = databricks.Config{Profile: profile}
	}
	return databricks.Open(at)
}

// told is what is to be done after something was stored.
func told(stored databricks.StoreResult, account string) []string {
	lines := []string{fmt.Sprintf("Stored in secret scope %s; %s may read it.", fault.Quote(stored.Scope), fault.Quote(stored.Group))}
	if stored.KeyKept {
		lines = append(lines, "The key that the scope had was kept; --new-key makes another.")
	}
	if stored.PublicKey != "" {
		lines = append(lines, "", "On the proxy machine this line belongs into ~"+account+"/.ssh/authorized_keys; on a prepared one",
			"into the tenant's keys, in the file that taipy-tunnel proxy setup is then run with again:", "", stored.PublicKey)
	}
	scope := stored.Scope
	if fault.Keylike(scope) {
		scope = "SCOPE"
	}
	return append(lines, "", inNotebooks(scope))
}

// account is the user of a server, as destination.Given has it.
func account(server string) string {
	user := server[:max(strings.LastIndex(server, "@"), 0)]
	return user[strings.LastIndex(user, "/")+1:]
}
