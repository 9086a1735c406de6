// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The server's host key: nothing was sent that is secret.

// HostKeyUnknown: nothing is known of the server's key. seen is "SHA256:…"; notes are what else was seen in the lines, each "" for nothing.
func HostKeyUnknown(addr, algorithm, seen string, notes ...string) *Error {
	all := ""
	for _, note := range notes {
		if note != "" {
			all += "; " + note
		}
	}
	return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
		Err:  &UnknownKey{addr, algorithm, seen, showKeys(algorithm), all},
		Hint: Hintf("compare with what the proxy machine says itself: %s; if it is the same, pass {host_key=%q}", showKeys(algorithm), seen)}
}

// UnknownKey is that nothing is known of a server's key.
type UnknownKey struct {
	Addr, Algorithm string
	Seen            string // its fingerprint, "SHA256:…"
	ShownBy         string // the command that shows it on the machine
	notes           string
}

// Error implements error.
func (u *UnknownKey) Error() string {
	return fmt.Sprintf("the key of %s is not known; it shows %s %s%s", u.Addr, u.Algorithm, u.Seen, u.notes)
}

// HostKeyChanged: the server shows another key than the known ones.
func HostKeyChanged(addr, algorithm, seen string, known []string) *Error {
	return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
		Err: &changed{addr: addr, shows: []string{algorithm + " " + seen}, known: known},
		Hint: Hintf("nothing was sent. Ask the proxy's admin; compare with what the machine says itself: %s; only if it is the same, pass {host_key=%q}",
			showKeys(algorithm), seen)}
}

// changed is that none of the keys that a server shows is a known one.
type changed struct {
	addr         string
	shows, known []string
}

func (c *changed) Error() string {
	return fmt.Sprintf("THE KEY OF %s IS NOT THE KNOWN ONE: it shows %s, known is %s; somebody may be in between, the machine was reinstalled, or the known one was copied wrong or is another machine's",
		c.addr, strings.Join(c.shows, " and "), strings.Join(c.known, " or "))
}

// AlsoShows is HostKeyChanged for a server that was asked for keys of several kinds, and has more than one: of which kind the known one is, a
// fingerprint does not tell.
func AlsoShows(before, now error) *Error {
	e := *From(before)
	was, one := errors.AsType[*changed](before)
	is, other := errors.AsType[*changed](now)
	if one && other {
		e.Err = &changed{was.addr, slices.Concat(was.shows, is.shows), was.known}
	}
	return &e
}

// HostKeyRevoked: the key is marked @revoked in known_hosts.
func HostKeyRevoked(addr, seen string) *Error {
	return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
		Err:  fmt.Errorf("the key of %s, %s, is marked as revoked", addr, seen),
		Hint: "nothing was sent. Ask the proxy's admin for its new key"}
}

// HostCertificate: the server's certificate is signed by a known authority but not good for it.
func HostCertificate(addr, authority string, why error) *Error {
	return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
		Err:  fmt.Errorf("the host certificate of %s, signed by %s, is not valid: %w", addr, authority, why),
		Hint: "nothing was sent. Ask the proxy's admin to have it signed again for this name (on the proxy: ssh-keygen -L -f /etc/ssh/ssh_host_…-cert.pub)"}
}

// HostKeyNone: the server has no key of the algorithms that are known of it. shows are those that it has.
func HostKeyNone(addr string, known, shows []string, err error) *Error {
	if SHA1Alone(known, shows) {
		hint := Hint("nothing was sent. If that is the key you know, its admin has to update sshd: OpenSSH signs with SHA-2 from 7.2 on, Dropbear from 2020.79 on")
		if slices.Contains(shows, "ssh-ed25519") {
			hint += untilThen()
		} else {
			hint += "; if it is not, ask for its present host key and pass it as {host_key}"
		}
		return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
			Err:  bare{fmt.Sprintf("%s signs with its RSA host key by SHA-1 alone, which is not accepted here", addr), err},
			Hint: hint}
	}
	return &Error{Op: "host key", Class: ErrHostKey, Permanent: true,
		Err:  fmt.Errorf("%s shows no key of the known kind (%s): %w", addr, strings.Join(known, ", "), err),
		Hint: "nothing was sent. Ask the proxy's admin for its present host key and pass it as {host_key}"}
}

// SHA1Alone reports whether an RSA key was asked for, and a server has one with which it signs by SHA-1 alone: ssh-rsa
// (RFC 4253, section 6.6), and none of RFC 8332.
func SHA1Alone(asked, shows []string) bool {
	return slices.Contains(shows, "ssh-rsa") && slices.Contains(asked, "rsa-sha2-256")
}

// OrSHA1 is HostKeyChanged where the server has an RSA key besides that could not be compared.
func OrSHA1(changed error) *Error {
	e := *From(changed)
	e.Hint += "; its RSA key could not be compared, for it signs by SHA-1 alone. If that is the one you know, its admin has to update sshd (OpenSSH 7.2 or newer)" + untilThen()
	return &e
}

func untilThen() Hint {
	return Hintf("; until then, pass that of its other key as {host_key}: %s on the proxy", showKeys("ssh-ed25519"))
}

func showKeys(algorithm string) string {
	kind := "ed25519"
	for _, k := range []string{"rsa", "ecdsa"} {
		if strings.Contains(algorithm, k) {
			kind = k
		}
	}
	return "ssh-keygen -lf /etc/ssh/ssh_host_" + kind + "_key.pub"
}
