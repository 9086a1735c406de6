// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// What people have of a server before they have this: a URL, or the command with which they log in.

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// Given is a server, in any form that Config.Server may have, as "[tls://][user@]host[:port]", without a port that is the usual
// one; and the port that a command line of ssh asks for by -R, 0 for none or the documentation's. It asks no configuration of ssh.
func Given(server string) (short string, remote int, err error) {
	d, err := given(server)
	return d.short(), d.Remote, err
}

// Canonical is Given for what keeps no port: a command line that asks for one is refused.
func Canonical(server string) (string, error) {
	d, err := given(server)
	if err == nil && d.Remote != 0 {
		err = d.commandOptions([]fault.Hint{fault.Hintf("{remote=%d}", d.Remote)})
	}
	return d.short(), err
}

func given(server string) (Destination, error) {
	d, err := parseServer(server)
	if err == nil {
		err = d.keylike("server", server)
	}
	return d, err
}

func parseServer(text string) (Destination, error) {
	if text == "" {
		return Destination{}, fault.Config(`pass {server="user@host"}, or set TAIPY_TUNNEL_SERVER`, "no server was given")
	}
	return parse("server", text)
}

// short is String with what was given alone.
func (d Destination) short() string {
	usual := sshPort
	text := d.URLHost()
	if d.tls != nil {
		usual, text = tlsPort, tlsScheme+text
	}
	if d.User != "" {
		text = strings.Replace(text, d.URLHost(), d.User+"@"+d.URLHost(), 1)
	}
	if d.Port != 0 && d.Port != usual {
		text += ":" + strconv.Itoa(d.Port)
	}
	return text
}

const (
	withValue  = "BbcDEeFIiJLlmOoPpQRSWw"  // letters of ssh(1) that a value follows
	flags      = "46AaCfGgKkMNnqsTtVvXxYy" // and those that none does
	documented = 8080                      // the port on the proxy that the documentation's nginx asks
)

// elsewhere are ssh's options that say where or how to log in, and the arguments for them.
var elsewhere = map[string]fault.Hint{
	"i": `{key="PATH"}`, "identityfile": `{key="PATH"}`, "certificatefile": `{key="PATH"}, beside which the certificate is`,
	"J": `{jump="user@host"}`, "proxyjump": `{jump="user@host"}`, "proxycommand": `{jump="user@host"} or {via="http://host:port"}`,
	"F": "what that file says in ~/.ssh/config", "userknownhostsfile": `{host_key="PATH"}`, "hostname": `that host in {server}`,
}

// speaksTLS is in commands that carry SSH inside TLS: of OpenSSL, GnuTLS, Nmap and socat.
var speaksTLS = regexp.MustCompile(`(?i)\bopenssl(\.exe)?\s+s_client\b|\bgnutls-cli\b|\bncat\b.*\s--ssl\b|\bsocat\b.*\b(openssl|ssl):`)

// overTLSTo is where such a command connects to: -connect %h:443, --ssl %h 443, OPENSSL:%h:443.
var overTLSTo = regexp.MustCompile(`(?i)(?:-connect|--ssl|openssl:|ssl:)\s*([^\s:,]+)[:\s]\s*(\d+|%p)\b`)

// command is what a command line of ssh(1) says of a server.
type command struct {
	server, user, port string
	tls                string       // its ProxyCommand, if that speaks TLS, else ""
	remotes            []int        // ports of -R, each once; 0: a socket
	missing            []fault.Hint // arguments in place of its options
}

// isCommand reports whether a text is that of a command, or of words for one: "ssh -R … me@host", "me@host -p 2222".
func isCommand(text string) bool {
	words := commandWords(text)
	return len(words) > 1 && (isSSH(words[0]) || isOther(words[0]) || slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }))
}

// assignment is a variable that is given to a command: SSHPASS=SECRET ssh ….
var assignment = regexp.MustCompile(`^[A-Za-z_]\w*=`)

// commandWords are those of a command line from ssh on, be it run by another program: sudo, nohup, sshpass -p SECRET. A secret before it
// may have an "@" in it.
func commandWords(text string) []string {
	words := shellWords(text)
	for len(words) > 1 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	if at := slices.IndexFunc(words, isSSH); at > 0 && !strings.HasPrefix(words[0], "-") && !strings.Contains(words[0], "@") {
		return words[at:]
	}
	return words
}

// shellWords splits a command line as a shell does, without its prompt.
func shellWords(text string) (words []string) {
	var word strings.Builder
	quote, begun := rune(0), false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range strings.ReplaceAll(text, "\\\n", " ") {
		switch {
		case quote == 0 && unicode.IsSpace(r):
			end()
			continue
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case r == quote:
			quote = 0
		default:
			word.WriteRune(r)
		}
		begun = true
	}
	end()
	if len(words) > 0 && slices.Contains([]string{"$", "#", "%"}, words[0]) {
		words = words[1:]
	}
	if len(words) > 0 {
		words[0] = strings.TrimPrefix(words[0], "!") // of a notebook's cell
	}
	return words
}

func isSSH(word string) bool {
	return !strings.Contains(word, "://") && slices.Contains([]string{"ssh", "autossh", "ssh.exe"}, program(word))
}

// isOther reports whether a word is a program whose options are not ssh's.
func isOther(word string) bool {
	return slices.Contains([]string{"plink", "putty", "mosh", "sftp", "scp", "telnet"}, strings.TrimSuffix(program(word), ".exe"))
}

// program is the name of a program in its path, of Windows as well.
func program(file string) string { return path.Base(strings.ReplaceAll(file, `\`, "/")) }

// parseCommand takes the server out of a command line. -N, -T, -v and whatever says nothing of where to log in is
// passed over, and so is what would switch the check of the host key off.
func parseCommand(text string) (Destination, error) {
	var c command
	words := commandWords(text)
	if isOther(words[0]) {
		return Destination{}, fault.Config(written("server"), "server is a command of another program than ssh")
	}
	if !c.read(words) {
		return Destination{}, fault.Config(written("server"), "server is a command with an option that ssh does not have")
	}
	if c.server == "" {
		return Destination{}, fault.Config(written("server"), "server is an ssh command that names no host")
	}
	d, err := parse("server", c.server)
	if err != nil {
		return d, err
	}
	if d.User == "" {
		d.User = c.user
	}
	if c.tls != "" {
		to := overTLSTo.FindStringSubmatch(c.tls)
		if to == nil || to[1] != "%h" && to[1] != d.Host {
			return Destination{}, fault.Config(overTLS("server")+`, or "tls://user@host:port" if TLS is spoken at another port than 443`, "server is an ssh command whose ProxyCommand speaks TLS")
		}
		if d.tls = (&egress.TLS{}); to[2] != "%p" {
			d.Port, c.port = 0, to[2]
		} else if c.port == "" && d.Port == 0 {
			d.Port = sshPort
		}
	}
	if c.port != "" && d.Port == 0 {
		n, err := strconv.ParseUint(c.port, 10, 16)
		if err != nil || n == 0 {
			return badServer("server", fault.Part(c.server, c.server+" "+c.port), "is given with a port that is not a number from 1 to 65535")
		}
		d.Port = int(n)
	}
	switch {
	case len(c.remotes) > 1 || slices.Contains(c.remotes, 0): // of several the one for the app is not known
		c.missing = append(c.missing, "and the port that nginx asks for the app, or the socket, as {remote}")
	case len(c.remotes) == 1 && c.remotes[0] != documented:
		d.Remote = c.remotes[0]
	}
	if err := d.check("server", c.server); err != nil || len(c.missing) == 0 && c.tls == "" {
		return d, err
	}
	if d.Remote != 0 {
		c.missing = append(c.missing, fault.Hintf("{remote=%d}", d.Remote))
	}
	return Destination{}, d.commandOptions(c.missing)
}

// commandOptions is the error for a command line with options in place of which there are arguments.
func (d Destination) commandOptions(arguments []fault.Hint) error {
	hint := written("server")
	if short := d.short(); fault.Showable(short) {
		hint = fault.Hintf("write {server=%q}", short)
	}
	for _, a := range arguments {
		hint += ", " + a
	}
	return fault.Config(hint, "server is an ssh command with options that have arguments of their own here")
}

// read reads the words of a command; false: an option is none of ssh's.
func (c *command) read(words []string) bool {
	valued := withValue
	if isSSH(words[0]) {
		if program(words[0]) == "autossh" {
			valued += "M"
		}
		words = words[1:]
	}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if !strings.HasPrefix(word, "-") {
			if c.server != "" {
				return true // a command for the other side
			}
			c.server = word
			continue
		}
		for i, letter := range word[1:] {
			if !strings.ContainsRune(valued, letter) {
				if !strings.ContainsRune(flags, letter) {
					return false
				}
				continue
			}
			value := word[i+2:]
			if value == "" && len(words) > 0 {
				value, words = words[0], words[1:]
			}
			c.option(string(letter), value)
			break
		}
	}
	return true
}

func (c *command) option(name, value string) {
	if at := strings.IndexAny(value, "= "); name == "o" && at > 0 {
		name, value = strings.ToLower(value[:at]), strings.Trim(value[at:], "= ")
	}
	switch name {
	case "p", "port":
		c.port = value
	case "l", "user":
		c.user = value
	case "R", "remoteforward":
		value, _, _ = strings.Cut(value, " ")
		if n := remotePort(value); !slices.Contains(c.remotes, n) {
			c.remotes = append(c.remotes, n)
		}
	default:
		hint := elsewhere[name]
		switch {
		case name == "proxycommand" && speaksTLS.MatchString(value):
			c.tls = value
			return
		case hint == elsewhere["J"] && fault.Showable(value) && !slices.ContainsFunc(strings.Split(value, ","), isNoJump): // which may hold a password
			hint = fault.Hintf("{jump=%q}", value)
			if slices.ContainsFunc(strings.Split(value, ","), func(hop string) bool { return !strings.Contains(hop, "@") && hop != "none" }) {
				hint += " with an account before each machine, user@host, unless ~/.ssh/config has it"
			}
		}
		if hint != "" && !slices.Contains(c.missing, hint) {
			c.missing = append(c.missing, hint)
		}
	}
}

func isNoJump(text string) bool {
	_, err := parse("jump", text)
	return err != nil
}

// remotePort is the port on the proxy in the value of -R (ssh(1)), "[bind:]port[:…]"; 0: it is none.
func remotePort(spec string) int {
	if bound, rest, ok := strings.Cut(spec, "]:"); ok && strings.HasPrefix(bound, "[") { // an IPv6 address
		spec = rest
	}
	parts := strings.SplitN(spec, ":", 3)
	for _, part := range parts[:min(len(parts), 2)] { // the first may be the address to bind
		if n, err := strconv.ParseUint(part, 10, 16); err == nil {
			return int(n)
		}
		if strings.HasPrefix(part, "/") {
			return 0
		}
	}
	return 0
}
