// SPDX-License-Identifier: Apache-2.0

// Package destination makes of what a person says of a proxy one resolved way there: the user, host and
// port, the machines on the way, the egress proxy, and the keys to log in with.
//
//	d, err := destination.Resolve(destination.Config{Server: "me@203.0.113.7", HostKey: "SHA256:…"})
//	ssh, err := d.SSH()
//	link, err := sshlink.Dial(ctx, ssh)
//
// Promises. It opens no connection, resolves no name and runs nothing of ssh_config(5): it reads files and
// the environment. What may be a key or a token in the wrong place is refused, and no error quotes it.
// Every error is a *tunnel.Error.
package destination

import (
	"crypto/x509"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshconfig"
)

// Config says where to log in and how. Its fields are those of tunnel.Config, where they are described, by
// the same names; Server is the one without a default.
type Config struct {
	Server        string            // "[user@]host[:port]", "ssh://…", a command line of ssh(1), or "tls://…" where SSH is inside TLS
	Key           string            // a private key or its path; "": those of SSHConfig, the agent and ~/.ssh
	KeyPassphrase string            // of Key; "": it is not encrypted
	HostKey       string            // "SHA256:…", a .pub line, known_hosts lines, or the path of such a file; "": the usual files
	Agent         string            // the socket of an ssh-agent; "": SSH_AUTH_SOCK; "none": no agent
	SSHConfig     string            // the path of an ssh_config(5) file; "": the usual ones; "none": no file
	Jump          string            // machines on the way, with commas; "": ProxyJump of SSHConfig; "none": no machine
	Via           string            // an egress proxy; "": what Environment says; "none": no proxy
	Environment   map[string]string // variables in place of this process's; nil: this process's
	Log           *slog.Logger      // nil: nothing is logged
	// Control is called with each socket before it connects, as net.Dialer's. Nil: it is not called.
	Control func(network, address string, c syscall.RawConn) error
}

// Destination is a proxy and the way there. Keys and host keys are read by SSH.
type Destination struct {
	User, Host string // after ssh's configuration
	Port       int
	Remote     int    // the port on it that a command line as Config.Server asks for by -R; 0: none, or the documentation's 8080
	Given      string // Config.Server as the function Given has it; "" of jumps

	tls   *egress.TLS    // SSH is inside TLS; nil: it is not
	via   *egress.Via    // the egress proxy before the first machine; nil: none
	ssh   sshconfig.Host // what ssh's configuration says of it
	jumps []Destination  // machines to connect through, in that order
	cfg   *Config        // nil of jumps
}

// tlsScheme is written before a server where SSH is inside TLS.
const (
	tlsScheme = "tls://"
	tlsPort   = 443
	sshPort   = 22
)

// Resolve validates cfg and completes it with what it leaves to ssh's configuration, the environment and
// defaults.
func Resolve(cfg Config) (*Destination, error) {
	d, err := parseServer(cfg.Server)
	if err != nil {
		return nil, err
	}
	d.Given = d.short()
	files, err := sshconfig.Read(cfg.SSHConfig, cfg.Log)
	if err != nil {
		return nil, err
	}
	if d, err = d.configured("server", files, cfg.Jump, 0); err != nil {
		return nil, err
	}
	d.cfg = &cfg
	if err := cfg.route(&d); err != nil {
		return nil, err
	}
	return &d, nil
}

// String is "user@host:port", after "tls://" where SSH is inside TLS.
func (d Destination) String() string {
	text := d.User + "@" + d.addr()
	if d.tls != nil {
		text = tlsScheme + text
	}
	return text
}

func (d Destination) addr() string { return net.JoinHostPort(d.Host, strconv.Itoa(d.Port)) }

// ServerFor is Config.Server for another account of the same machine: "account@host", with the port unless
// it is the usual one.
func (d Destination) ServerFor(account string) string {
	host, scheme, usual := d.URLHost(), "", sshPort
	if d.tls != nil {
		scheme, usual = tlsScheme, tlsPort
	}
	if d.Port != usual {
		host = d.addr()
	}
	return scheme + account + "@" + host
}

// URLHost is Host as URLs have it, an IPv6 address in brackets.
func (d Destination) URLHost() string {
	if strings.Contains(d.Host, ":") {
		return "[" + d.Host + "]"
	}
	return d.Host
}

// Direct reports whether the way leads past no other machine and no egress proxy.
func (d Destination) Direct() bool { return len(d.jumps) == 0 && d.via == nil }

// Roots are the system's authorities and those of SSL_CERT_FILE; nil where that adds none.
func (d Destination) Roots() *x509.CertPool { return d.cfg.roots() }
