// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// DefaultRemote is the port on the proxy to which the documentation's nginx hands its requests.
const DefaultRemote = 8080

// Config says what to expose, where. Server is the one field without a default. Its JSON names
// are the arguments of Python's expose().
type Config struct {
	// Server is the proxy, "user@host[:port]" (port 22 unless given; an IPv6 address in
	// brackets), or "tls://user@host[:port]" (443) where SSH is inside TLS: its certificate must be
	// for that host and trusted by this system, and the host key is checked besides. "ssh://…" is taken too, and
	// so is a command line of ssh(1), unless an option of it would be lost. The host may be
	// an alias of SSHConfig; the user may be left out where that names one. A user or a host of 20
	// characters in a row may be a token in the wrong place and is refused, unless the host has its
	// domain or is such an alias, or the user is at most 32 small letters, digits and dashes. Exactly
	// one for now. Required.
	Server Servers `json:"server"`
	// Name is the app's public name on a prepared proxy. "": the account's only one. Names are up to
	// 40 letters (a-z), digits and dashes.
	Name string `json:"name"`
	// Connections is how many links to hold. On a prepared proxy they share the slots, and while one is replaced the
	// others serve all visitors. On a plain proxy, which has one port, the second stands by: it takes the port one round
	// trip after the first is lost. 0: 2.
	Connections int `json:"connections"`
	// Key is the private key to log in with, on the way (Jump) as well: a path or the key's text, in base64
	// too, which the line of an OpenSSH certificate may follow; that of a path is the file beside it,
	// "-cert.pub". No other key is offered then. "": IdentityFile of SSHConfig, then the keys of
	// Agent; without IdentityFile the keys of Agent, then ~/.ssh/id_ed25519, id_ecdsa and id_rsa.
	// At most five are offered. Files are read again for each login.
	Key string `json:"key"`
	// KeyPassphrase opens an encrypted Key. "": Key is not encrypted.
	KeyPassphrase string `json:"key_passphrase"`
	// HostKey is what is known of the proxy's host key: fingerprints ("SHA256:…") in whatever ssh-keygen -l printed around
	// them, a line of its .pub file, lines of known_hosts, or the path of a file with one of these. "": ~/.ssh/known_hosts (UserKnownHostsFile of SSHConfig) and
	// /etc/ssh/ssh_known_hosts. The host key is always checked. Machines on the way (Jump) are
	// looked up in the same lines or file; fingerprints and .pub lines are for Server alone. Files are read again for each connection.
	HostKey string `json:"host_key"`
	// Agent is the socket of an ssh-agent. "": SSH_AUTH_SOCK of this process; "none": no agent is
	// asked. IdentityAgent of SSHConfig wins.
	Agent string `json:"agent"`
	// SSHConfig is the path of an ssh_config(5) file. "": ~/.ssh/config and /etc/ssh/ssh_config;
	// "none": no file. What is given here wins over it. Nothing in it is ever run.
	SSHConfig string `json:"ssh_config"`
	// Jump is a machine to connect through, "user@host[:port]", or several, separated by
	// commas, in the order in which they are passed. "": ProxyJump of SSHConfig; "none": no machine.
	Jump string `json:"jump"`
	// Via is an egress proxy, through which the connection leaves this network:
	// "http://[user:password@]host:port" (CONNECT), the same with https, or socks5; "host:port" is
	// http. The proxy resolves the name of Server, or of the first of Jump. "": what Environment says;
	// "none": no proxy.
	Via string `json:"via"`
	// Environment holds, by their names, the variables that are asked in place of this process's:
	// HTTPS_PROXY, else ALL_PROXY, and NO_PROXY, where the names in lower case win; SSL_CERT_FILE, a
	// file of authorities to trust besides the system's. Nil: this process's.
	Environment map[string]string `json:"environment,omitempty"`
	// Remote is the TCP port to take on the 127.0.0.1 of a plain proxy. 0: what a prepared proxy says
	// of itself, else RemoteSocket or DefaultRemote. A port that a command line as Server asks for by -R is as good as one here.
	Remote int `json:"remote"`
	// RemoteSocket is the path of a unix socket to take on the proxy in place of Remote, for
	// nginx's proxy_pass http://unix:PATH. sshd wants StreamLocalBindUnlink yes for it. In JSON it
	// is a string in the place of remote. "": Remote.
	RemoteSocket string `json:"-"`
	// URL is what visitors open, http or https. "": what a prepared proxy says of itself, else
	// http://HOST/ of Server.
	URL string `json:"url"`
	// Check says who tests, before Expose returns, that URL leads here: CheckURL, CheckLink or CheckOff. "": this
	// machine, and where it does not get there, the proxy. What the tunnel looks at later stays: who has its slots, and who
	// reaches them past nginx.
	Check Check `json:"check"`
	// Target is where the app listens, "host:port". "": there is no app yet; see SetTarget. localhost is 127.0.0.1, and
	// where that is refused ::1; the one that has answered first stays the first. The app is asked for HTTP, not for TLS. To an
	// address of this machine, or localhost, connections are kept; to another one each request has
	// its own.
	// Listen ignores it, and all that follows of visitors.
	Target string `json:"target"`
	// Access says which visitors are admitted. The zero value: those who have the token.
	Access Access `json:"access"`
	// Token admits visitors; at least 128 bits (22 random letters and digits). "": one that is
	// derived from the key that logs in, the server and the slot, the same after each restart; with
	// a key that cannot (an agent's ECDSA key, a security key) a random one.
	Token string `json:"token"`
	// TokenVersion is derived into the token: counting it up makes earlier links invalid. 0: 1.
	TokenVersion int `json:"token_version"`
	// Expires is when the token ends; it is signed into it. In JSON as RFC 3339. Zero: never.
	Expires time.Time `json:"expires,omitzero"`
	// Allow are networks from which visitors may come ("10.0.0.0/8"). They need a proxy that is
	// known to overwrite the visitor's address; with any other it is an error. Nil: all.
	Allow []string `json:"allow"`
	// Raw carries bytes of any kind instead of HTTP. Nobody can be asked for a token then: only
	// with Access.Public.
	Raw bool `json:"raw"`
	// Busy reports that the app's process does nothing at all; visitors are told so. Nil: never.
	Busy func() bool `json:"-"`
	// Opening is called with what is new before Expose returns: how many links there are, and what failed and is tried again, nil if
	// nothing did. Nil: it is not called.
	Opening func(links int, err error) `json:"-"`
	// Log takes changes of state, not attempts. Nil: nothing is logged.
	Log *slog.Logger `json:"-"`
	// Control is called with each socket to the proxy before it connects, as net.Dialer's. Nil: it is not
	// called.
	Control func(network, address string, c syscall.RawConn) error `json:"-"`
}

// Check is who asks whether the URL of a tunnel leads to it.
type Check string

// The checks. Of each, what cannot be told (a login, a firewall or a rule for addresses stands before the tunnel) is no
// error, and Status.Unchecked says what was seen.
const (
	CheckURL  Check = "url"  // this machine alone, as visitors would
	CheckLink Check = "link" // the proxy alone: its own nginx, over the link
	CheckOff  Check = "off"  // nobody
)

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

// plainConfig is Config without its own ways into JSON and out of it.
type plainConfig Config

type jsonConfig struct {
	*plainConfig
	Remote remote `json:"remote"`
}

// MarshalJSON writes what UnmarshalJSON reads.
func (cfg Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonConfig{(*plainConfig)(&cfg), remote{&cfg.Remote, &cfg.RemoteSocket}})
}

// UnmarshalJSON reads a JSON object. An unknown field is an error.
func (cfg *Config) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(&jsonConfig{(*plainConfig)(cfg), remote{&cfg.Remote, &cfg.RemoteSocket}})
}

// ParseConfig reads a Config from a JSON object. An unknown field is an error.
func ParseConfig(text []byte) (Config, error) {
	var cfg Config
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&cfg); err != nil {
		if told, ok := errors.AsType[*fault.Error](err); ok {
			return Config{}, told
		}
		return Config{}, fault.Config("", "it is not understood: %w", fault.JSON(err))
	}
	if d.More() {
		return Config{}, fault.Config("", "it is not understood: something follows the JSON object")
	}
	return cfg, nil
}

// Destination is what cfg says of the way to the proxy.
func (cfg Config) Destination() (destination.Config, error) {
	server := strings.Join(cfg.Server, "")
	if len(cfg.Server) > 1 && server != "" {
		return destination.Config{}, fault.Config(`pass one {server="user@host"}`, "%d servers were given, want one", len(cfg.Server))
	}
	return destination.Config{Server: server, Key: cfg.Key, KeyPassphrase: cfg.KeyPassphrase, HostKey: cfg.HostKey, Agent: cfg.Agent,
		SSHConfig: cfg.SSHConfig, Jump: cfg.Jump, Via: cfg.Via, Environment: cfg.Environment, Log: cfg.Log, Control: cfg.Control}, nil
}

// remote is Remote or RemoteSocket in JSON, of Config and of Status.
type remote struct {
	port   *int
	socket *string
}

func (r remote) MarshalJSON() ([]byte, error) {
	if *r.socket != "" {
		return json.Marshal(*r.socket)
	}
	return json.Marshal(*r.port)
}

func (r remote) UnmarshalJSON(b []byte) error {
	var path string
	if json.Unmarshal(b, &path) != nil {
		return json.Unmarshal(b, r.port)
	}
	if !strings.HasPrefix(path, "/") {
		return fault.Config("", "remote is neither a port nor the path of a socket")
	}
	*r.socket = path
	return nil
}

// Access says whom a tunnel's gate admits. Its fields are those of gate.Access: Access{Public: true} admits
// everybody, Access{Passwords: map[string]string{"ann": "…"}} those who know a password of at least 8
// characters, and the zero value those who have the token. In JSON "token", "public", or an object of users
// and their passwords.
type Access gate.Access

// Request is a request that a tunnel's gate answered.
type Request = gate.Request

// MarshalJSON writes what UnmarshalJSON reads.
func (a Access) MarshalJSON() ([]byte, error) {
	if a.Passwords != nil {
		return json.Marshal(a.Passwords)
	}
	return json.Marshal(a.String())
}

// UnmarshalJSON accepts "token", "public" and {"user": "password"}.
func (a *Access) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) != nil {
		return json.Unmarshal(b, &a.Passwords)
	}
	switch word {
	case "", "token":
		*a = Access{}
	case "public":
		*a = Access{Public: true}
	default:
		return fault.Config(`leave it out, and those are admitted who have the link; {access={{"ann": "at least 8 characters"}}} admits users with passwords, {access="public"} everybody`, `access is none of "token", "public" and users with their passwords`)
	}
	return nil
}

// String is the kind of access, without its secrets.
func (a Access) String() string {
	switch {
	case a.Public:
		return "public"
	case a.Passwords != nil:
		return "password"
	}
	return "token"
}

// GoString is String, for %#v.
func (a Access) GoString() string { return a.String() }

// visitors are the settings that say who is admitted: a gate changes them while it lives.
type visitors struct {
	access  Access
	token   string
	version int
	expires time.Time
	allow   []string
}

func (cfg *Config) visitors() visitors {
	return visitors{cfg.Access, cfg.Token, cfg.TokenVersion, cfg.Expires, cfg.Allow}
}

// changed names the settings, as in JSON, in which two differ.
func (v *visitors) changed(o *visitors) (names []string) {
	for _, one := range []struct {
		name string
		same bool
	}{
		{"access", v.access.Public == o.access.Public && maps.Equal(v.access.Passwords, o.access.Passwords)},
		{"token", v.token == o.token},
		{"token_version", v.version == o.version},
		{"expires", v.expires.Equal(o.expires)},
		{"allow", slices.Equal(v.allow, o.allow)},
	} {
		if !one.same {
			names = append(names, one.name)
		}
	}
	return names
}

// sameToken reports whether two say the same of the token, but for its end.
func (v *visitors) sameToken(o *visitors) bool { return v.token == o.token && v.version == o.version }
