// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// DefaultRemote is the port on the proxy to which the documentation's nginx hands its requests.
const DefaultRemote = 8080

// Config says what to expose, where. Server is the one field without a default. Its JSON names
// are the arguments of Python's expose().
type Config struct {
	// Server is the proxy, "user@host[:port]" (port 22 unless given; an IPv6 address in
	// brackets). Exactly one for now. Required.
	Server Servers `json:"server"`
	// Key is the private key to log in with: a path or the key's text. "": ~/.ssh/id_ed25519,
	// id_ecdsa and id_rsa, those of them that exist.
	Key string `json:"key"`
	// KeyPassphrase opens an encrypted Key. "": Key is not encrypted.
	KeyPassphrase string `json:"key_passphrase"`
	// HostKey is what is known of the proxy's host key: "SHA256:…", a known_hosts line, or the
	// path of a known_hosts file. "": ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts. The host
	// key is always checked.
	HostKey string `json:"host_key"`
	// Remote is the TCP port to take on the proxy's 127.0.0.1. 0: DefaultRemote.
	Remote int `json:"remote"`
	// URL is what visitors open, http or https. "": http://HOST/ of Server.
	URL string `json:"url"`
	// Target is where the app listens, "host:port". "": there is no app yet; see SetTarget.
	// Listen ignores it.
	Target string `json:"target"`
	// Log takes changes of state, not attempts. Nil: nothing is logged.
	Log *slog.Logger `json:"-"`
	// Control is called with each socket to the proxy before it connects, as net.Dialer's. Nil:
	// nobody is.
	Control func(network, address string, c syscall.RawConn) error `json:"-"`
}

// Servers is a list that may be written in JSON as one string.
type Servers []string

// UnmarshalJSON accepts "user@host" and ["user@host"].
func (s *Servers) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = Servers{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// ParseConfig reads a Config from a JSON object. An unknown field is an error.
func ParseConfig(text []byte) (Config, error) {
	var cfg Config
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&cfg); err != nil {
		// err may name a field, never its value: encoding/json quotes types and offsets.
		return Config{}, fault.Config("", "the configuration is not understood: %w", err)
	}
	if d.More() {
		return Config{}, fault.Config("", "the configuration is not understood: something follows the JSON object")
	}
	return cfg, nil
}

// server is Config.Server, taken apart.
type server struct {
	user, host string
	port       int
}

func (s server) String() string { return s.user + "@" + net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// parseServer reads "user@host[:port]".
func parseServer(text string) (server, error) {
	bad := func(why string) (server, error) {
		return server{}, fault.Config(`write server="user@host" or "user@host:port", with an IPv6 address in brackets`, "server %q %s", text, why)
	}
	at := strings.LastIndex(text, "@")
	if at <= 0 {
		return bad("names no user")
	}
	s := server{user: text[:at], host: text[at+1:], port: 22}
	if strings.Contains(s.user, ":") { // not quoted: what follows may be a password
		return server{}, fault.Config(`write server="user@host" and log in with a key; passwords are not used`, "server holds a colon in the user's name")
	}
	if host, port, err := net.SplitHostPort(s.host); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad("has a port that is not a number from 1 to 65535")
		}
		s.host, s.port = host, int(n)
	} else if inner, ok := strings.CutPrefix(s.host, "["); ok && strings.HasSuffix(inner, "]") {
		s.host = strings.TrimSuffix(inner, "]")
	} else if strings.Count(s.host, ":") == 1 || strings.ContainsAny(s.host, "[]") {
		return bad("has no valid port")
	}
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/\"'`, r)
	}
	switch {
	case s.host == "":
		return bad("names no host")
	case strings.ContainsFunc(text, odd):
		return bad("holds a character that no user or host name has")
	case strings.Contains(s.host, ":") && net.ParseIP(strings.SplitN(s.host, "%", 2)[0]) == nil:
		return bad("names no valid host")
	case strings.HasPrefix(s.host, "-"), strings.HasPrefix(s.user, "-"):
		return bad("begins a name with a dash")
	}
	return s, nil
}

// resolve validates cfg and fills in what it leaves to defaults.
func (cfg *Config) resolve() (server, error) {
	if strings.Join(cfg.Server, "") == "" {
		return server{}, fault.Config(`pass server="user@host", or set TAIPY_TUNNEL_SERVER`, "no server was given")
	}
	if len(cfg.Server) > 1 {
		return server{}, fault.Config(`pass one server="user@host"`, "%d servers were given, want one", len(cfg.Server))
	}
	s, err := parseServer(cfg.Server[0])
	if err != nil {
		return server{}, err
	}
	if cfg.Remote == 0 {
		cfg.Remote = DefaultRemote
	}
	if cfg.Remote < 1 || cfg.Remote > 65535 {
		return server{}, fault.Config("leave remote= at 8080, or choose from 1024 to 65535", "remote %d is not a TCP port", cfg.Remote)
	}
	if cfg.URL == "" {
		cfg.URL = (&url.URL{Scheme: "http", Host: bracket(s.host), Path: "/"}).String()
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return server{}, fault.Config(`write url="https://host/", without a user or password`, "url is not an http or https address")
	}
	return s, checkTarget(cfg.Target)
}

// checkTarget accepts "" and "host:port".
func checkTarget(addr string) error {
	if addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
		return fault.Config(`write "127.0.0.1:5000"`, "target %q is not host:port", addr)
	}
	return nil
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
