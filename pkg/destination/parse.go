// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshconfig"
)

// parse reads "[user@]host[:port]", after "tls://", "ssh://" or neither; what is left out is "" or 0, but the
// port of TLS. name is the argument's. A server may be a command line of ssh(1) as well.
func parse(name, text string) (Destination, error) {
	text = userfile.Pasted(text)
	rest, inTLS := cutScheme(text, tlsScheme)
	if inTLS && name == "server" && isCommand(rest) { // whose port would be sshd's, not that of TLS
		return Destination{}, fault.Config(`write {server="tls://user@host"}, or "tls://user@host:port" if TLS is spoken at another port than 443`, "server is an ssh command after tls://")
	}
	if name == "server" && isCommand(text) {
		return parseCommand(text)
	}
	if plain, is := cutScheme(rest, "ssh://"); is && !inTLS { // as ssh(1) takes it
		rest = plain
	}
	if cut, is := cutScheme(text, "tls:"); is && !inTLS && strings.Contains(cut, "@") { // not quoted: of a user "tls" a password may follow
		return Destination{}, fault.Config(overTLS(name)+", with the two slashes, if TLS is meant", `%s begins with "tls:"`, name)
	}
	if cut, is := cutScheme(rest, "ssh:"); is && !inTLS && strings.Contains(cut, "@") { // or of a user "ssh"
		return Destination{}, fault.Config(written(name)+`, or "ssh://user@host" with the two slashes`, `%s begins with "ssh:"`, name)
	}
	if scheme.MatchString(rest) { // not quoted: it may hold a password
		return Destination{}, fault.Config(written(name)+` or "user@host:port"; what visitors open is {url}`, "%s is a URL, and no name of an account and a machine", name)
	}
	s, err := parsePlain(name, rest)
	if err == nil && inTLS {
		s.tls = &egress.TLS{}
		if s.Port == 0 {
			s.Port = tlsPort // that of ssh's configuration is for SSH alone
		}
	}
	return s, err
}

// cutScheme is strings.CutPrefix for the scheme of a URL, in letters of any case (RFC 3986, section 3.1), and without a slash at the end.
func cutScheme(text, scheme string) (rest string, found bool) {
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return text, false
	}
	return strings.TrimSuffix(text[len(scheme):], "/"), true
}

func parsePlain(name, text string) (Destination, error) {
	if strings.Contains(text, ",") { // no account has a comma in its name. Not quoted: it may be a password's
		return severalMachines(name, "a comma")
	}
	if parts := strings.FieldsFunc(text, func(r rune) bool { return r == ';' || unicode.IsSpace(r) }); len(parts) > 1 &&
		!slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(part, "@") }) {
		return severalMachines(name, "a blank or a semicolon")
	}
	at := strings.LastIndex(text, "@")
	if at == 0 {
		return badServer(name, text, "names no user")
	}
	s := Destination{User: text[:max(at, 0)], Host: text[at+1:]}
	if strings.Contains(s.User, ":") {
		return Destination{}, s.check(name, text)
	}
	if host, port, err := net.SplitHostPort(s.Host); err == nil {
		if number, path, found := strings.Cut(port, "/"); found && strings.Trim(number, "0123456789") == "" {
			return badServer(name, fault.Part(strings.TrimSuffix(text, "/"+path), text), "is followed by a path, and a server has none")
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 { // not quoted: it may be a password
			return badServer(name, fault.Part(strings.TrimSuffix(text, ":"+port), text), "is followed by a port that is not a number from 1 to 65535")
		}
		s.Host, s.Port = host, int(n)
	} else if inner, ok := strings.CutPrefix(s.Host, "["); ok && strings.HasSuffix(inner, "]") {
		s.Host = strings.TrimSuffix(inner, "]")
	} else if strings.Count(s.Host, ":") == 1 || strings.ContainsAny(s.Host, "[]") {
		return badServer(name, text, "has no valid port")
	}
	return s, s.check(name, text)
}

func severalMachines(name, between string) (Destination, error) {
	return Destination{}, fault.Config(written(name)+", one machine alone; machines on the way to it are {jump}", "%s holds %s, as between two machines", name, between)
}

// written is how a machine is given, as the server or on the way to it.
func written(name string) fault.Hint {
	if name == "jump" {
		return `write {jump="user@host"}`
	}
	return `write {server="user@host"}`
}

// overTLS is how it is given where SSH is inside TLS.
func overTLS(name string) fault.Hint {
	return fault.Hintf("write {%s=%q}", name, tlsScheme+"user@host")
}

func badServer(name, text, why string) (Destination, error) {
	return Destination{}, unquoted(name, fault.Quote(text)+" "+why)
}

// unquoted is badServer's error for a text that may hold a password, however short it is.
func unquoted(name, why string) error {
	return fault.Config(written(name)+` or "user@host:port", with an IPv6 address in brackets`, "%s %s", name, why)
}

// check refuses names that no machine or account has, wherever they come from.
func (s Destination) check(name, text string) (err error) {
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/"'<>`, r) // <PROXY> stands in pages
	}
	noHost := func(r rune) bool { // what a shell, a page or a chat leaves at a name's end
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.:%", r)
	}
	switch {
	case strings.Contains(s.User, ":"): // not quoted: what follows may be a password
		err = fault.Config(written(name)+` and log in with a key; passwords are not used`, "%s holds a colon in the user's name", name)
	case s.Host == "":
		_, err = badServer(name, text, "names no host")
	case strings.ContainsFunc(s.User+s.Host, odd), strings.ContainsFunc(s.Host, noHost) && !strings.HasPrefix(s.Host, "-"): // DOMAIN\user is an account of winbind's or sssd's. Not quoted: what follows a blank may be a password
		err = unquoted(name, "holds a character that no user or host name has")
	case strings.Contains(s.Host, ":") && net.ParseIP(strings.SplitN(s.Host, "%", 2)[0]) == nil: // host:port:password
		err = unquoted(name, "has more than one colon after the user, and no IPv6 address")
	case strings.HasPrefix(s.Host, "-"), strings.HasPrefix(s.User, "-"):
		_, err = badServer(name, text, "begins a name with a dash")
	}
	return err
}

// account is the form of names that are longer than a token's least: those of tenants (proxyhost) have up
// to 32 characters.
var account = regexp.MustCompile(`^[a-z_][a-z0-9]*([-_][a-z0-9]+)+$`)

// keylike refuses what may be a key or a token in the wrong place, before it is looked up and so sent to
// what answers for names.
func (s Destination) keylike(name, text string) error {
	if fault.KeylikeName(s.Host) || fault.KeylikeName(s.User) && (len(s.User) > 32 || !account.MatchString(s.User)) {
		return fault.Config(written(name)+`; a host name as long as that with its domain, or as a Host of ~/.ssh/config`,
			"%s %s looks like a key or a token", name, fault.Quote(text))
	}
	return nil
}

// maxJumps is how many machines may be on the way.
const maxJumps = 8

// configured completes s with what ssh's configuration says of it. jump is the way there as it was
// given, "" if it was not; depth is how many machines this one is on the way to.
func (s Destination) configured(name string, files *sshconfig.Files, jump string, depth int) (Destination, error) {
	text := s.Host
	if s.User != "" {
		text = s.User + "@" + s.Host
	}
	h, err := files.Host(s.Host, s.User, s.Port)
	if err != nil {
		return Destination{}, err
	}
	if err := (Destination{User: s.User, Host: h.HostName}).keylike(name, text); err != nil {
		return Destination{}, err
	}
	s.ssh, s.User, s.Host, s.Port = h, h.User, h.HostName, h.Port
	if s.Port == 0 {
		s.Port = 22
	}
	if s.User == "" {
		return badServer(name, text, "names no user, nor does ssh's configuration for it")
	}
	if err := s.check(name, text); err != nil {
		return Destination{}, err
	}
	if jump == "" {
		if jump = h.ProxyJump; h.ProxyCommand != "" {
			hint := fault.Hint(`pass {jump="user@bastion"} (ProxyJump in the file), or {jump="none"} to connect directly`)
			if speaksTLS.MatchString(h.ProxyCommand) {
				hint = overTLS(name) + " with the machine's address, of which the file says nothing: that command speaks TLS, and so does this"
			}
			return Destination{}, fault.Config(hint,
				"ssh's configuration has a ProxyCommand for %s %s, and commands are not run", name, fault.Quote(text))
		}
	}
	s.jumps, err = parseJumps(jump, files, depth)
	return s, err
}

// parseJumps reads a chain of machines on the way. For the first one ssh's configuration may name
// others before it, as for ssh(1).
func parseJumps(chain string, files *sshconfig.Files, depth int) (jumps []Destination, err error) {
	if chain == "" || strings.EqualFold(chain, "none") {
		return nil, nil
	}
	for _, text := range strings.Split(chain, ",") { // before another one is quoted, which may be the first part of a token
		d, err := parse("jump", text)
		if err == nil {
			err = d.keylike("jump", text)
		}
		if err != nil && fault.Keylike(text) {
			return nil, err
		}
	}
	for i, text := range strings.Split(chain, ",") {
		if depth+len(jumps) >= maxJumps {
			return nil, fault.Config("check {jump}, and ProxyJump in ~/.ssh/config for a circle", "more than %d machines are on the way", maxJumps)
		}
		s, err := parse("jump", text)
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
