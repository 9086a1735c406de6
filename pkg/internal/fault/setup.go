// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"strconv"
	"strings"
)

// Setting up a proxy machine. host and port are the machine's.

// NotRoot: the account is not root, and sudo does not make it root without a password.
func NotRoot(user, host string, port int) *Error {
	return &Error{Op: "set-up", Class: ErrAuth, Permanent: true,
		Err: fmt.Errorf("user %q on %s is not root, and sudo lets it do nothing without a password, which is asked for at a terminal alone", user, host),
		Hint: Hintf("log in as root, or as an account to which sudo gives root without a password (NOPASSWD in sudoers); or do it by hand: %s",
			byHand(user, host, port))}
}

// PasswordRefused: sudo takes none of the passwords that were typed, or does not let the account become root.
func PasswordRefused(user, host string, port int, said string) *Error {
	if said = Clip(said); said != "" {
		said = fmt.Sprintf("; it says %q", said)
	}
	return &Error{Op: "set-up", Class: ErrAuth, Permanent: true,
		Err:  fmt.Errorf("sudo on %s does not make %q root: it took none of the passwords, or does not let the account%s", host, user, said),
		Hint: Hintf("the password is that of %s on the machine; see what it says there: ssh -t %s sudo true", user, account(user, host, port))}
}

// NoCommands: the account runs no commands of ours.
func NoCommands(user, host string, port int, err error) *Error {
	return &Error{Op: "set-up", Class: ErrAuth, Permanent: true,
		Err:  fmt.Errorf("user %q on %s runs no commands: %w", user, host, err),
		Hint: Hintf("log in as root or as an account that may use sudo, not as a tenant; or do it by hand: %s", byHand("ADMIN", host, port))}
}

// byHand is for a shell; sudo asks for its password at the second ssh's terminal.
func byHand(user, host string, port int) string {
	to := account(user, host, port)
	return fmt.Sprintf("taipy-tunnel proxy script FILE | ssh %s 'cat >proxy.sh' && ssh -t %s sudo sh proxy.sh", to, to)
}

// account is one as ssh(1) takes it.
func account(user, host string, port int) string {
	to := ShellWord(user + "@" + host)
	if port != 22 {
		to = "-p " + strconv.Itoa(port) + " " + to
	}
	return to
}

// ScriptFailed: the script ended with another status than 0, or with none.
func ScriptFailed(host string, status int, err error) *Error {
	how := fmt.Errorf("the script on %s failed with status %d", host, status)
	if err != nil {
		how = fmt.Errorf("the script on %s failed: %w", host, err)
	}
	return &Error{Op: "set-up", Class: ErrConfig, Permanent: true, Err: how,
		Hint: "its last lines say why; what sshd or nginx refuse it has taken back. Mend that and run it again, which does no harm"}
}

// ScriptLost: the link ended before the script did.
func ScriptLost(host string, err error) *Error {
	e := *From(err)
	e.Op, e.Err = "set-up", fmt.Errorf("%w, before the script on %s had ended", e.Err, host)
	e.Hint = "it is hung up there, and takes back what it has changed, unless it was done. Run it again, which does no harm"
	return &e
}

// ShutOut: the server ends the connection as soon as the account has logged in, as sshd does where it cannot shut it in its directory
// (session.c, safely_chroot), or root who may run no command of its own (auth.c, auth_root_allowed). server is "user@host:port".
func ShutOut(server string) *Error {
	e := &Error{Op: "description", Class: ErrUnreachable,
		Err: fmt.Errorf("%s: the connection ends after the login", server),
		Hint: "what sshd says of it is in " + sshLog + ". On a prepared proxy the account's directory is missing, or others than root may write to it or to one " +
			"above it: have its admin run systemd-tmpfiles --create as root, or taipy-tunnel proxy setup again. On another one so may be the ChrootDirectory of sshd_config"}
	if strings.HasPrefix(strings.TrimPrefix(server, "tls://"), "root@") { // no prepared proxy's
		e.Hint = "most likely PermitRootLogin is forced-commands-only: log in as another user, or have it be prohibit-password. What sshd says of it is in " + sshLog
	}
	return e
}

// Outdated: an older version has prepared the proxy. stamps: nginx tells when it first passed a request on; endsStale: what sshd
// keeps of silent links is ended. One of them is missing.
func Outdated(addr string, stamps, endsStale bool) *Error {
	var missing []string
	if !stamps {
		missing = append(missing, "a request that another tunnel has begun may run twice")
	}
	if !endsStale {
		missing = append(missing, "visitors wait for a minute when a link goes silent")
	}
	return &Error{Op: "description", Class: ErrConfig, Err: fmt.Errorf("an older version has set %s up: %s", addr, strings.Join(missing, ", and ")),
		Hint: "have the proxy's admin run taipy-tunnel proxy setup again, and then expose the app again"}
}
