// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// server is a machine to log in to: Config.Server or one of Config.Jump, taken apart.
type server struct {
	user, host string
	port       int
	tls        *sshlink.TLS         // SSH is inside TLS; nil: it is not
	via        *sshlink.Via         // by way of which the first machine is reached
	ssh        sshlink.HostSettings // what ssh's configuration says of it
	jumps      []server             // by way of which to connect, in that order
}

func (s server) String() string {
	text := s.user + "@" + s.addr()
	if s.tls != nil {
		text = tlsScheme + text
	}
	return text
}

// tlsScheme is written before a server where SSH is inside TLS.
const (
	tlsScheme = "tls://"
	tlsPort   = 443
)

// parseServer reads "[user@]host[:port]", after "tls://" or not; what is left out is "" or 0, but the
// port of TLS. name is the argument's.
func parseServer(name, text string) (server, error) {
	rest, inTLS := strings.CutPrefix(text, tlsScheme)
	s, err := parsePlain(name, rest)
	if err == nil && inTLS {
		s.tls = &sshlink.TLS{}
		if s.port == 0 {
			s.port = tlsPort // that of ssh's configuration is for SSH alone
		}
	}
	return s, err
}

func (s server) addr() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

func parsePlain(name, text string) (server, error) {
	at := strings.LastIndex(text, "@")
	if at == 0 {
		return badServer(name, text, "names no user")
	}
	s := server{user: text[:max(at, 0)], host: text[at+1:]}
	if strings.Contains(s.user, ":") { // not quoted: what follows may be a password
		return server{}, fault.Config("write "+name+`="user@host" and log in with a key; passwords are not used`, "%s holds a colon in the user's name", name)
	}
	if host, port, err := net.SplitHostPort(s.host); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return badServer(name, text, "has a port that is not a number from 1 to 65535")
		}
		s.host, s.port = host, int(n)
	} else if inner, ok := strings.CutPrefix(s.host, "["); ok && strings.HasSuffix(inner, "]") {
		s.host = strings.TrimSuffix(inner, "]")
	} else if strings.Count(s.host, ":") == 1 || strings.ContainsAny(s.host, "[]") {
		return badServer(name, text, "has no valid port")
	}
	return s, s.check(name, text)
}

func badServer(name, text, why string) (server, error) {
	return server{}, fault.Config("write "+name+`="user@host" or "user@host:port", with an IPv6 address in brackets`, "%s %s %s", name, fault.Quote(text), why)
}

// check refuses names that nobody has, whoever gave them.
func (s server) check(name, text string) (err error) {
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/\"'`, r)
	}
	switch {
	case s.host == "":
		_, err = badServer(name, text, "names no host")
	case strings.ContainsFunc(s.user+s.host, odd):
		_, err = badServer(name, text, "holds a character that no user or host name has")
	case strings.Contains(s.host, ":") && net.ParseIP(strings.SplitN(s.host, "%", 2)[0]) == nil:
		_, err = badServer(name, text, "names no valid host")
	case strings.HasPrefix(s.host, "-"), strings.HasPrefix(s.user, "-"):
		_, err = badServer(name, text, "begins a name with a dash")
	}
	return err
}

// account is the form of names that are longer than a token's least: those of tenants (proxyhost) have up
// to 32 characters.
var account = regexp.MustCompile(`^[a-z_][a-z0-9]*([-_][a-z0-9]+)+$`)

// keylike refuses what may be a key or a token in the wrong place, before it is looked up and so sent to
// what answers for names.
func (s server) keylike(name, text string) error {
	if fault.Keylike(s.host) || fault.Keylike(s.user) && (len(s.user) > 32 || !account.MatchString(s.user)) {
		return fault.Config("write "+name+`="user@host"; a host name as long as that with its domain, or as a Host of ~/.ssh/config`,
			"%s %s looks like a key or a token", name, fault.Quote(text))
	}
	return nil
}

// maxJumps is how many machines may be on the way.
const maxJumps = 8

// configured completes s with what ssh's configuration says of it. jump is the way there as it was
// given, "" if it was not; depth is how many machines this one is on the way to.
func (s server) configured(name string, files *sshlink.SSHConfig, jump string, depth int) (server, error) {
	text := s.host
	if s.user != "" {
		text = s.user + "@" + s.host
	}
	h, err := files.Host(s.host, s.user, s.port)
	if err != nil {
		return server{}, err
	}
	if err := (server{user: s.user, host: h.HostName}).keylike(name, text); err != nil {
		return server{}, err
	}
	s.ssh, s.user, s.host, s.port = h, h.User, h.HostName, h.Port
	if s.port == 0 {
		s.port = 22
	}
	if s.user == "" {
		return badServer(name, text, "names no user, nor does ssh's configuration for it")
	}
	if err := s.check(name, text); err != nil {
		return server{}, err
	}
	if jump == "" {
		if jump = h.ProxyJump; h.ProxyCommand != "" {
			return server{}, fault.Config(`pass jump="user@bastion" (ProxyJump in the file), or jump="none" to connect directly`,
				"ssh's configuration has a ProxyCommand for %s %s, and commands are not run", name, fault.Quote(text))
		}
	}
	s.jumps, err = parseJumps(jump, files, depth)
	return s, err
}

// parseJumps reads a chain of machines on the way. For the first one ssh's configuration may name
// others before it, as for ssh(1).
func parseJumps(chain string, files *sshlink.SSHConfig, depth int) (jumps []server, err error) {
	if chain == "" || strings.EqualFold(chain, "none") {
		return nil, nil
	}
	for i, text := range strings.Split(chain, ",") {
		if depth+len(jumps) >= maxJumps {
			return nil, fault.Config("check jump=, and ProxyJump in ~/.ssh/config for a circle", "more than %d machines are on the way", maxJumps)
		}
		text = strings.TrimPrefix(strings.TrimSpace(text), "ssh://") // as ssh_config(5) permits
		s, err := parseServer("jump", text)
		if err != nil {
			return nil, err
		}
		before := "none"
		if i == 0 {
			before = ""
		}
		if s, err = s.configured("jump", files, before, depth+1); err != nil {
			return nil, err
		}
		jumps, s.jumps = append(jumps, s.jumps...), nil
		jumps = append(jumps, s)
	}
	return jumps, nil
}

// agent returns the socket of the ssh-agent, "" for none.
func (cfg *Config) agent(h sshlink.HostSettings) string {
	socket := cfg.Agent
	if h.IdentityAgent != "" {
		socket = h.IdentityAgent
	} else if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket == "none" {
		return ""
	}
	return socket
}
