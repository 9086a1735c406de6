// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/secrettest"
)

// lines are command lines with a secret in each place of a command, one at a time.
func lines(c *cobra.Command, path, secret string) (all [][]string) {
	name := strings.Fields(c.CommandPath())[1:]
	const server = "me@127.0.0.1:1"
	var args []string
	for _, word := range strings.Fields(c.Use)[1:] {
		at := path
		switch word {
		case c.Annotations["server"]:
			at = server
		case c.Annotations["target"]:
			at = "127.0.0.1:1"
		}
		args = append(args, at)
	}
	required := map[string][]string{"store": {"--server", server, "--host-key", "SHA256:" + strings.Repeat("A", 43)},
		"expose": {"--server", server, "--timeout", "10ms"}}[c.Name()]
	for i := range len(args) + 1 {
		changed := slices.Clone(args)
		if i == 1 && c.Name() == "render" && filepath.IsAbs(secret) {
			continue // it would be made
		}
		if i < len(args) {
			changed[i] = secret
		} else {
			changed = append(changed, secret)
		}
		all = append(all, slices.Concat(name, required, []string{"--"}, changed), slices.Concat(name, required, changed))
	}
	options := func(f *pflag.Flag) {
		all = append(all, slices.Concat(name, required, args, []string{"--" + f.Name + "=" + secret}))
		if f.Value.Type() != "bool" {
			all = append(all, slices.Concat(name, required, args, []string{"--" + f.Name, secret}))
		}
	}
	c.Flags().VisitAll(options)
	c.InheritedFlags().VisitAll(options)
	return append(all, slices.Concat(name, args, []string{"--" + secret}), slices.Concat(name, args, []string{"-" + secret}),
		slices.Concat([]string{secret}, name, args), slices.Concat(name[:1], []string{secret}), slices.Concat(name, args, []string{"--" + secret + "=x"}),
		[]string{"help", secret}, []string{"completion", secret}, slices.Concat([]string{"__complete"}, name, []string{"--" + secret, ""}), slices.Concat([]string{"__complete", secret}, name),
		slices.Concat([]string{"__complete"}, name, []string{"--" + secret + "="}))
}

// No word of a command line is repeated that may be a secret, whatever place it stands in.
func TestNoWordIsEchoed(t *testing.T) {
	path, _ := described(t)
	workspace := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer workspace.Close()
	n := 0
	for form, secret := range secrettest.Forms(t) {
		var look func(c *cobra.Command)
		look = func(c *cobra.Command) {
			for _, below := range c.Commands() {
				look(below)
			}
			if c.HasSubCommands() || c.Parent() == nil {
				return
			}
			for _, args := range lines(c, path, secret) {
				n++
				t.Chdir(t.TempDir()) // what was made there would be a path that exists
				var events []Event
				face := Face{Show: func(e Event) { events = append(events, e) }, Input: func(context.Context) ([]byte, error) { return []byte(secret), nil },
					Getenv: func(string) string { return secret }, Control: func(string, string, syscall.RawConn) error { return errors.New("no network here") },
					Workspace: databricks.Config{Host: workspace.URL, Token: func(context.Context) (string, error) { return secret, nil }}}
				_ = Run(t.Context(), args, face)
				shown, _ := json.Marshal(events)
				if part := secrettest.Echo(secret, fmt.Sprintf("%s\n%+v", shown, events)); part != "" {
					t.Errorf("%s in a line of %q: %q stands in %.200s", form, c.Name(), part, shown)
				}
			}
		}
		root := (&run{}).root()
		root.InitDefaultHelpCmd()
		root.InitDefaultCompletionCmd()
		look(root)
	}
	if n < 1000 {
		t.Errorf("%d command lines", n)
	}
	t.Logf("%d command lines", n)
}
