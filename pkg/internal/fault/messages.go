// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"
)

// Configuration: nothing was sent anywhere.

// Config is a setting that cannot be used. The hint names a remedy.
func Config(hint Hint, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	if e := limited("configuration", err); e != nil { // of a file that could not be opened
		return e
	}
	return &Error{Op: "configuration", Err: err, Hint: hint, Class: ErrConfig, Permanent: true}
}

// The way to the server. addr is "host:port".

// Resolve: the server's name has no address.
func Resolve(host string, err error) *Error {
	// Without a descriptor Go's resolver reads no file, opens no socket, and says "no such host".
	if e := limited("resolve", full()); e != nil {
		return e
	}
	return unconnected("resolve", fmt.Errorf("name %q does not resolve: %w", host, Reason(err)),
		"check the spelling of {server}; a name that only your laptop knows does not resolve on this machine, an address does")
}

// Connect: no TCP connection.
func Connect(addr string, err error) *Error {
	err = fmt.Errorf("no connection to %s: %w", addr, Reason(err))
	if e := limited("connect", err); e != nil {
		return e
	}
	return unconnected("connect", err,
		"check that sshd (for tls:// what takes the TLS off, such as nginx) listens there and that no firewall between this machine and the proxy refuses the port")
}

// NoAnswer: what is sent there is dropped without a word.
func NoAnswer(addr string, waited time.Duration) *Error {
	return unconnected("connect", fmt.Errorf("no connection to %s: no answer at all within %v", addr, waited.Round(100*time.Millisecond)),
		"a firewall drops it (a network often lets nothing out but port 443, or a proxy's connections), or the machine is down: "+
			`try {server="tls://user@host:443"}, or {via="http://host:port"}; the proxy machine's own firewall must let the port in, too`)
}

// NoBanner: the connection stands but the server says nothing.
func NoBanner(addr string, waited time.Duration) *Error {
	return unreachable("banner", fmt.Errorf("%s accepted the connection but sent no SSH banner within %v", addr, waited.Round(100*time.Millisecond)),
		"a firewall or load balancer may answer in place of sshd, or sshd is overloaded; check it with: ssh-keyscan -p PORT HOST")
}

// Dropped: the server closed the connection before login was over.
func Dropped(addr string, err error) *Error {
	return unreachable("handshake", fmt.Errorf("%s ended the connection before login: %w", addr, Reason(err)),
		"sshd's own log on the proxy says why ("+sshLog+")")
}

// DroppedAtOnce: the server closed the connection without a word.
func DroppedAtOnce(addr string, err error) *Error {
	e := Dropped(addr, err)
	e.Hint += `; if SSH is inside TLS there, write {server="tls://user@host:port"}`
	return e
}

// NotSSH: something else answers on the port. first is the beginning of what it said.
func NotSSH(addr, first string) *Error {
	return unreachable("banner", fmt.Errorf("%s is not an SSH server: it answers %q", addr, Clip(first)),
		`give the port that sshd listens on: {server="user@host:port"}`)
}

func unreachable(op string, err error, hint Hint) *Error {
	return &Error{Op: op, Err: err, Hint: hint, Class: ErrUnreachable}
}

// Login: what a key alone cannot do.

// KeysNotEnough: the server wants something else than a key, or something more. banner is what it said meanwhile.
func KeysNotEnough(user, addr, banner string, wants []string) *Error {
	return &Error{Op: "login", Class: ErrAuth, Permanent: true,
		Err:  fmt.Errorf("%s does not let user %q in with a key alone, it wants %q%s", addr, user, Clip(strings.Join(wants, ", ")), says(banner)),
		Hint: "the admin must allow it for this account: in sshd_config PubkeyAuthentication yes, and no AuthenticationMethods that wants more than publickey"}
}

// Certificate: that of a key cannot be used now; why begins with "expired at" or the like.
func Certificate(name string, why error) *Error {
	return &Error{Op: "login", Class: ErrAuth, Permanent: true,
		Err:  fmt.Errorf("the certificate of %s %w", name, why),
		Hint: "have a new one signed and put it in the place of the old (ssh-keygen -L -f CERTIFICATE shows it); it is read again at each login"}
}

// The slot: the address on the proxy, a port of TCP or the path of a unix socket.

func named(slot net.Addr) string {
	if tcp, ok := slot.(*net.TCPAddr); ok {
		return fmt.Sprintf("port %d", tcp.Port)
	}
	return "socket " + Quote(slot.String())
}

// Busy: another listener holds the port on the proxy, nothing more is known.
func Busy(port int) *Error {
	return &Error{Op: "forward", Class: ErrForward,
		Err: fmt.Errorf("port %d on the proxy is in use", port),
		Hint: Hintf("either another app is live there (then take another port: {remote}, with its own nginx site), "+
			"or an earlier connection died and sshd has not noticed yet%s (on the proxy: ss -ltnp 'sport = :%d')", notices, port)}
}

// BusyBy: a tunnel with another key holds the slot.
func BusyBy(slot net.Addr, key string, since time.Time) *Error {
	return &Error{Op: "forward", Class: ErrForward,
		Err: fmt.Errorf("%s on the proxy is in use by another tunnel, exposed at %s with key SHA256:%s",
			named(slot), since.UTC().Format("2006-01-02 15:04:05 UTC"), Clip(key)),
		Hint: "close that one, or take another slot ({remote}, with its own nginx site)"}
}

// NewestWins is what a tunnel's owner can do whose visitors another one has.
const NewestWins Hint = "the newest tunnel wins; expose this one again to have it back (in a notebook: run its cell again)"

// Replaced: another tunnel has the slot since then; zero: nobody knows since when.
func Replaced(slot net.Addr, since time.Time) *Error {
	how := "which answers in its place"
	if !since.IsZero() {
		how = since.UTC().Format("exposed at 2006-01-02 15:04:05 UTC with the same key")
	}
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err:  fmt.Errorf("%w on %s, %s", ErrReplaced, named(slot), how),
		Hint: NewestWins}
}

// Ceded: a newer tunnel has the slot while it is checked.
func Ceded(slot net.Addr) *Error {
	return &Error{Op: "forward", Class: ErrForward,
		Err:  fmt.Errorf("a newer tunnel with the same key has asked for %s, and has it while it is checked", named(slot)),
		Hint: "if that one fails, this one goes on; otherwise this one is replaced"}
}

// Described: what a prepared proxy says of itself cannot be used.
func Described(addr string, err error) *Error {
	return &Error{Op: "description", Class: ErrConfig, Permanent: true, Err: fmt.Errorf("what %s says of itself in /proxy.json cannot be used: %w", addr, Reason(err)),
		Hint: "have the proxy's admin run the set-up script again; with {remote=8080} the file is passed over"}
}

// Undescribed: it is not known whether a proxy describes itself, for it did not say.
func Undescribed(addr string, err error) *Error {
	return unreachable("description", fmt.Errorf("%s did not say whether it is a prepared proxy: %w", addr, Reason(err)),
		"if it is a plain one, pass {remote=8080} (the port to which nginx sends visitors): then it is not asked. "+
			"What keeps it from answering may be a start-up file of the account that starts another program (exec zsh in .bashrc)")
}

// DescriptionChanged: what a prepared proxy says of itself is not what it said before.
func DescriptionChanged(addr string) *Error {
	return &Error{Op: "description", Class: ErrConfig, Permanent: true, Err: fmt.Errorf("%s has another address or other slots for this app than before", addr),
		Hint: "expose the app again (in a notebook: run its cell again), and give visitors the new address"}
}

// NoSuchName: a prepared proxy has no app of the name that was given, or several and none was given.
func NoSuchName(addr string, err error) *Error {
	return &Error{Op: "description", Class: ErrConfig, Permanent: true, Err: fmt.Errorf("%w (on %s)", err, addr),
		Hint: "pass {name}, or have the proxy's admin add the app"}
}

// Exposed: the slot's port answers at all addresses of the proxy.
func Exposed(port int) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("port %d is bound to all addresses of the proxy: anyone who can connect to it bypasses nginx, its TLS and its rules", port),
		Hint: "the admin sets GatewayPorts no (or clientspecified) in the proxy's sshd_config and reloads sshd, and then expose the app again; " +
			`or expose it to those who have the link or a password, not with {access="public"} (which {raw} needs)`}
}

// Privileged: ports below 1024 are for root.
func Privileged(port int, user string) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err:  fmt.Errorf("port %d on the proxy is refused: ports below 1024 are for root, and the login is %q", port, user),
		Hint: "leave {remote} at 8080, or choose a port from 1024 up, and let nginx listen on the low one"}
}

// ForwardFailed: the request for the port got no answer.
func ForwardFailed(port int, err error) *Error {
	return &Error{Op: "forward", Class: ErrUnreachable,
		Err: fmt.Errorf("no answer to the request for port %d: %w", port, err)}
}

// SocketRefused: the server does not listen on a unix socket, nothing more is known.
func SocketRefused(path string) *Error {
	return &Error{Op: "forward", Class: ErrForward,
		Err: fmt.Errorf("socket %s on the proxy is refused", Quote(path)),
		Hint: "either it is in use or was left behind by a connection that ended (the admin sets StreamLocalBindUnlink yes in sshd_config, " +
			"or the file is removed), or the account may not write to its directory, or AllowStreamLocalForwarding forbids it"}
}

// SocketLeft: the server does not listen on the path of a socket because there is a file already,
// which it neither replaces nor removes by itself.
func SocketLeft(path string) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("socket %s on the proxy is there already, and its sshd does not replace it", Quote(path)),
		Hint: "the admin sets StreamLocalBindUnlink yes in sshd_config; without it each connection leaves its file behind, to be removed " +
			"by hand once nobody listens there any more (on the proxy: ss -lx)"}
}

// SocketFailed: the request for the socket got no answer.
func SocketFailed(path string, err error) *Error {
	return &Error{Op: "forward", Class: ErrUnreachable, Err: fmt.Errorf("no answer to the request for socket %s: %w", Quote(path), err)}
}

// Machines on the way.

// Hop: the connection to a machine on the way failed, or ended. That its host key or our login is
// refused keeps its class.
func Hop(addr string, err error) *Error {
	e := *From(err)
	if strings.HasPrefix(e.Op, "via") { // the egress proxy before it
		e.Class = ErrHop
		return &e
	}
	if strings.HasPrefix(e.Op, "jump ") {
		return &e // by the machine before it
	}
	if e.Op == "resolve" && e.Class == ErrUnreachable {
		e.Hint = "check the spelling of {jump}; a name that only your laptop knows does not resolve on this machine, an address does"
	}
	e.Op = "jump " + e.Op
	e.Err = fmt.Errorf("on the way, at %s: %w", addr, e.Err)
	switch e.Class {
	case ErrUnreachable:
		e.Class = ErrHop
	case ErrLimit:
		return From(err)
	case ErrHostKey:
		e.Hint = "compare with what that machine says itself (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub); then put its known_hosts line, " +
			"[host]:port type key, into ~/.ssh/known_hosts, or pass {host_key} as such lines, one for each machine: a fingerprint is for {server} alone"
	}
	return &e
}

// HopForbidden: the machine on the way lets nobody through for this account.
func HopForbidden(addr, to string, err error) *Error {
	return &Error{Op: "jump forward", Class: ErrHop, Permanent: true,
		Err:  fmt.Errorf("%s does not forward to %s: %w", addr, to, err),
		Hint: "the admin of that machine must allow it: in sshd_config AllowTcpForwarding yes (or local), and no PermitOpen or DisableForwarding against it; in authorized_keys no \"restrict\" without \"port-forwarding\", and no permitopen for others"}
}

// HopConnect: the machine on the way has no connection to the next one.
func HopConnect(addr, to string, err error) *Error {
	return unreachable("jump connect", fmt.Errorf("no connection to %s from %s: %w", to, addr, err),
		"check that sshd listens there, and that the name and the port are right as seen from that machine")
}

// The tunnel itself.

// Expired: the token that admits visitors has ended.
func Expired(at time.Time) *Error {
	return &Error{Op: "access", Class: ErrConfig, Permanent: true,
		Err:  fmt.Errorf("the link ended at %s, and admits nobody", at.UTC().Format("2006-01-02 15:04:05 UTC")),
		Hint: "expose the app again with a later {expires}"}
}

// TooSoon: the set-up was given up before the first attempt to connect had ended.
func TooSoon(server string) *Error {
	return unreachable("connect", fmt.Errorf("there was no time to hear from %s", server), "allow it more time, such as 30 s: {timeout}")
}

// Timeout: the set-up did not succeed in time; last is the newest cause.
func Timeout(last *Error, after time.Duration) *Error {
	e := *last
	e.Err = fmt.Errorf("%w (gave up after %v)", last.Err, after.Round(100*time.Millisecond))
	return &e
}

// Closed: the tunnel was closed while somebody still asked something of it.
func Closed() *Error {
	return &Error{Op: "tunnel", Class: ErrClosed, Err: errors.New("it is closed"), Permanent: true}
}

// Internal is a defect of ours.
func Internal(err error) *Error {
	return &Error{Op: "internal", Class: ErrInternal, Err: err, Permanent: true,
		Hint: "this is a defect of taipy-tunnel; please report it with what the tunnel logged (in Python: tunnel.logs())"}
}

// Clip makes a foreign text fit for a message: one line, 80 characters. %q escapes the rest.
func Clip(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		s = s[:i]
	}
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return s
}

// Printable is a text of somebody else's in one line, without what a terminal would take for an order, or show
// in another place than it stands.
func Printable(line string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, strings.ToValidUTF8(line, "\uFFFD"))
}
