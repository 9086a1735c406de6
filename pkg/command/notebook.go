// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strconv"
	"strings"
)

// What a person is told to write in a notebook, in Python.

// made is a proxy machine that was set up. Zero: it is none any more.
type made struct {
	HostKey string   `json:"host_key,omitempty"`
	Tenants []tenant `json:"tenants,omitempty"`
	Rows    []Row    `json:"rows,omitempty"` // of what visitors open
}

type tenant struct {
	Server string   `json:"server"`
	Names  []string `json:"names"` // "": an account that has one app
	Free   bool     `json:"free"`  // the account may choose names
	URLs   []string `json:"urls"`  // of the declared apps
}

func (m made) lines() []string {
	lines := []string{"The proxy is ready. Its host key: " + m.HostKey}
	for _, t := range m.Tenants {
		lines = append(lines, "", "Notebooks of "+account(t.Server)+":")
		call := fmt.Sprintf("    taipy_tunnel.expose(server=%q, host_key=%q", t.Server, m.HostKey)
		for _, name := range t.Names {
			if name != "" {
				name = ", name=" + strconv.Quote(name)
			}
			lines = append(lines, call+name+")")
		}
		if t.Free {
			lines = append(lines, call+`, name="…")  # any name`)
		}
		login := t.Server + " --host-key " + m.HostKey
		lines = append(lines, "or, for all notebooks of a Databricks workspace:", "    taipy-tunnel databricks store --server "+login,
			"whether all is there:", "    taipy-tunnel proxy check "+login)
		if len(t.URLs) > 0 {
			lines = append(lines, "visitors open:", "    "+strings.Join(t.URLs, "\n    "))
		}
	}
	return lines
}

// inNotebooks is how notebooks of a workspace find what was stored in a secret scope.
func inNotebooks(scope string) string {
	if scope == defaultScope {
		return "Then, in a notebook of the workspace: import taipy_tunnel; taipy_tunnel.expose()"
	}
	return fmt.Sprintf("Then, in a notebook of the workspace: expose(…, key='secret:%s/key')", scope)
}

// call is what a notebook says after a quickstart.
func (d started) call() string {
	var arguments []string
	if d.Key != "" {
		arguments = append(arguments, fmt.Sprintf("server=%q, host_key=%q, key=%q", d.Server, d.HostKey, d.Key))
	}
	if d.App != "" {
		arguments = append(arguments, fmt.Sprintf("name=%q", d.App))
	}
	return "taipy_tunnel.expose(" + strings.Join(arguments, ", ") + ")"
}
