// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"net"
)

// Why a server refuses a port to an account that it lets in.

// Forbidden: the server gives this account neither the port nor any other one, nothing more is known.
func Forbidden(port int) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("the proxy refuses port %d to this account, and any free port too", port),
		Hint: Hintf("the admin must allow it: in sshd_config AllowTcpForwarding yes (or remote), and no PermitListen or DisableForwarding "+
			"against it; in authorized_keys no \"no-port-forwarding\", and \"restrict\" only with \"port-forwarding\". A key that may forward one "+
			"port only (permitlisten, which must read \"127.0.0.1:%d\": sshd compares the words) is refused so, too, for any other port, and where "+
			"another account's or key's program has that one", port)}
}

// Taken: somebody listens on the port, and the server gives the account no other one either. forwards: it was seen to give it some.
func Taken(port int, forwards bool) *Error {
	e := &Error{Op: "forward", Class: ErrForward,
		Err: fmt.Errorf("port %d on the proxy is in use, and any other port is refused this account", port),
		Hint: Hintf("either its key may have that port alone (permitlisten, which must read \"%[1]d\" or \"127.0.0.1:%[1]d\"), and another account's or key's program has it, "+
			"or an earlier connection died and sshd has not noticed yet%[2]s (on the proxy, as root: ss -ltnp 'sport = :%[1]d')", port, notices)}
	if !forwards {
		e.Hint += "; or the account may forward no port at all (AllowTcpForwarding)"
	}
	return e
}

// ErrBarred is within an error of a login for which the server will forward nothing, whatever changes: another login may fare better.
var ErrBarred = errors.New("this login forwards no port")

// NoPAMSession: sshd ends each command of a login with status 254 and forwards nothing for it, as where PAM opens it no session
// (do_child in OpenSSH's session.c, auth_restrict_session in auth.c).
func NoPAMSession(user string) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("the proxy ends each command of user %s with status 254, and %w, as sshd does where PAM opens no session", Quote(user), ErrBarred),
		Hint: "either PAM opens one at a time and another login has it, perhaps one that has died (maxlogins in /etc/security/limits.conf), or it opens none " +
			"(pam_access, pam_time, pam_limits in /etc/pam.d/sshd): the log of sshd on the proxy says which (" + sshLog + ")"}
}

// OneSession: the server runs commands for one link of a user, and ends those of a further one as where PAM opens no session.
func OneSession(user string) *Error {
	return &Error{Op: "link", Class: ErrForward,
		Err: fmt.Errorf("the proxy ends each command of a further connection of user %s with status 254, as sshd does where PAM opens one session at a time: that forwards nothing, "+
			"so when the first one is lost the app is away until another has logged in", Quote(user)),
		Hint: "the admin permits the account more than one session at a time (on the proxy, as root: grep -rE 'maxlogins|maxsyslogins' /etc/security; pam_limits is in /etc/pam.d/sshd); " +
			"or pass {connections=1}, by which nothing is lost here"}
}

// notices is how long sshd takes for a connection that says nothing (sshd_config(5)).
const notices Hint = ": that takes ClientAliveInterval x ClientAliveCountMax seconds, or with an interval of 0, as it is unless somebody has set it, until TCP " +
	"itself gives up, which is never while nobody sends"

// NoForwarding: the server does not understand what asks it to listen.
func NoForwarding(addr, version string) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err:  fmt.Errorf("%s (%q) does not know port forwarding: it does not understand the request", addr, Clip(version)),
		Hint: "a server that forwards ports is needed there: OpenSSH, or Dropbear (TinySSH forwards none)"}
}

// IPv6Alone: the server gives the account ports of ::1 and none of 127.0.0.1.
func IPv6Alone(port int) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("the proxy's sshd listens on ::1 for this account, and not on 127.0.0.1, where port %d is asked for", port),
		Hint: "the admin sets AddressFamily any in the proxy's sshd_config, where it is inet6 in most cases, and restarts sshd " +
			"(on the proxy, as root: sshd -T | grep -iE 'addressfamily|permitlisten')"}
}

// OtherWords: the server lets the account listen on localhost, not on 127.0.0.1, where nobody has the port.
func OtherWords(port int) *Error {
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("the proxy lets this account listen on \"localhost:%d\", and not on \"127.0.0.1:%d\": sshd compares the words", port, port),
		Hint: Hintf("write permitlisten=\"127.0.0.1:%d\" before the key in authorized_keys, or PermitListen 127.0.0.1:%d in sshd_config "+
			"(\"localhost\" may be ::1 alone, where nginx does not look)", port, port)}
}

// PasswordExpired: the server lets the account in, and lets it do nothing but choose another password.
func PasswordExpired(user, addr, said string) *Error {
	host, port, _ := net.SplitHostPort(addr)
	return &Error{Op: "forward", Class: ErrForward, Permanent: true,
		Err: fmt.Errorf("the password of user %q on %s has expired, so that its key may do nothing there: it says %q", user, addr, Clip(said)),
		Hint: Hintf("log in by hand and choose another one: ssh -t -p %s %s; or the admin has it never expire, as root: "+
			"chage -d \"$(date +%%F)\" -M -1 %s", port, ShellWord(user+"@"+host), ShellWord(user))}
}
