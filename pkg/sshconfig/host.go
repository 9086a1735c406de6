// SPDX-License-Identifier: Apache-2.0

package sshconfig

import (
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

// Host is what ssh_config files say of one host, with ssh_config(5)'s names. "" and nil:
// nothing.
type Host struct {
	HostName     string
	User         string
	Port         int
	HostKeyAlias string
	// ProxyJump is a comma-separated chain of user@host:port; "" for "none".
	ProxyJump string
	// ProxyCommand is set where ssh would run a command to get there; it is never run here.
	ProxyCommand string
	// IdentityFiles, Certificates and KnownHosts are paths, their tokens replaced.
	IdentityFiles  []string
	Certificates   []string
	KnownHosts     []string
	IdentitiesOnly bool
	// IdentityAgent is the socket of an ssh-agent, or "none".
	IdentityAgent string
}

// Host returns what the files say of a host, by the name that the owner gave. user and port are
// what he said himself, "" and 0 if nothing: that wins.
func (c *Files) Host(alias, user string, port int) (Host, error) {
	h := Host{HostName: alias, User: user, Port: port}
	c = c.about(alias)
	if name := c.first(alias, "HostName"); name != "" {
		h.HostName, _ = tokens(name, map[byte]string{'h': alias})
	}
	if h.User == "" {
		h.User = c.first(alias, "User")
	}
	if p := c.first(alias, "Port"); h.Port == 0 && p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return h, fault.Config("mend it in ~/.ssh/config", "the ssh configuration has Port %q for %s, want 1 to 65535", p, fault.Quote(alias))
		}
		h.Port = int(n)
	}
	h.HostKeyAlias = c.first(alias, "HostKeyAlias")
	if jump := c.first(alias, "ProxyJump"); jump != "" && !strings.EqualFold(jump, "none") {
		h.ProxyJump = jump
	} else if command := c.first(alias, "ProxyCommand"); jump == "" && !strings.EqualFold(command, "none") {
		h.ProxyCommand = command
	}
	h.IdentitiesOnly = strings.EqualFold(c.first(alias, "IdentitiesOnly"), "yes")
	known := c.tokensOf(alias, h)
	h.IdentityFiles = c.paths("IdentityFile", c.all(alias, "IdentityFile"), known)
	h.Certificates = c.paths("CertificateFile", c.all(alias, "CertificateFile"), known)
	h.KnownHosts = c.paths("UserKnownHostsFile", words(c.first(alias, "UserKnownHostsFile")), known)
	if agent := c.first(alias, "IdentityAgent"); agent == "none" {
		h.IdentityAgent = agent
	} else if name, ok := strings.CutPrefix(agent, "$"); ok && !strings.HasPrefix(name, "{") {
		h.IdentityAgent = os.Getenv(name)
	} else if agent != "SSH_AUTH_SOCK" {
		h.IdentityAgent = strings.Join(c.paths("IdentityAgent", []string{agent}, known), "")
	}
	for _, key := range []string{"LocalCommand", "RemoteCommand", "KnownHostsCommand"} {
		if c.first(alias, key) != "" {
			c.log.Debug("the ssh configuration wants a command, which is not run", "keyword", key)
		}
	}
	return h, nil
}

// tokensOf are the tokens of ssh_config(5) that paths may hold.
func (c *Files) tokensOf(alias string, h Host) map[byte]string {
	home := userfile.Home()
	me := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	port := h.Port
	if port == 0 {
		port = 22
	}
	known := map[byte]string{'d': home, 'h': h.HostName, 'n': alias, 'p': strconv.Itoa(port), 'r': h.User, 'u': me}
	for token, value := range known {
		if value == "" {
			delete(known, token)
		}
	}
	return known
}

// paths replaces the tokens and variables in paths. One that holds another is left out, and so is "none"; nil is for
// nothing said.
func (c *Files) paths(key string, paths []string, known map[byte]string) (out []string) {
	if len(paths) > 0 {
		out = []string{}
	}
	for _, path := range paths {
		filled, set := variables(path)
		if full, ok := tokens(filled, known); !ok || !set {
			c.log.Warn("a path of the ssh configuration is passed over", "keyword", key, "path", path)
		} else if !strings.EqualFold(full, "none") {
			out = append(out, full)
		}
	}
	return out
}

var variable = regexp.MustCompile(`\$\{([^{}]*)\}`)

// variables replaces ${NAME} by the environment's value (ssh_config(5), ENVIRONMENT VARIABLES; OpenSSH 8.4); false: one
// is not set.
func variables(text string) (filled string, set bool) {
	set = true
	filled = variable.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := os.LookupEnv(name[2 : len(name)-1])
		set = set && ok
		return strings.ReplaceAll(value, "%", "%%")
	})
	return filled, set && !strings.Contains(filled, "${")
}

// tokens replaces %x by what is known of x; false if nothing is.
func tokens(text string, known map[byte]string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return text, false
		}
		value, ok := known[text[i]]
		if text[i] == '%' {
			value, ok = "%", true
		}
		if !ok {
			return text, false
		}
		b.WriteString(value)
	}
	return b.String(), true
}
