// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key exchange: both speak SSH.

// Handshake: both speak SSH but do not understand each other.
func Handshake(addr string, err error) *Error {
	return unreachable("handshake", fmt.Errorf("no SSH handshake with %s: %w", addr, err),
		"something in between may change what is sent, or the server is not one that people log in to; its own log may say more")
}

// usual are the algorithms that every OpenSSH since 6.5 has, and that we know, by what is agreed on.
var usual = map[string][2]string{
	"key exchange": {"KexAlgorithms", "curve25519-sha256"},
	"cipher":       {"Ciphers", "aes256-gcm@openssh.com"},
	"MAC":          {"MACs", "hmac-sha2-256-etm@openssh.com"},
}

// NoCommon: the server allows none of the algorithms that we know. what is "key exchange", "client to server cipher" or the like,
// allows what it allows.
func NoCommon(addr, what string, allows []string, err error) *Error {
	hint := Hint("the proxy's OpenSSH may be too old: any from 6.5 on will do")
	for kind, of := range usual {
		if !strings.HasSuffix(what, kind) {
			continue
		}
		option, add := of[0], of[1]
		if option == "KexAlgorithms" {
			add += " (or, with OpenSSH 9.9 or newer, mlkem768x25519-sha256, which is post-quantum as well)"
		}
		hint = Hintf("its admin adds %s to %s in sshd_config (on the proxy, as root: sshd -T | grep -i %s); "+
			"an OpenSSH older than 6.5 does not have it, and has to be renewed", add, option, strings.ToLower(option))
	}
	allows = slices.DeleteFunc(slices.Clone(allows), func(name string) bool {
		return strings.HasPrefix(name, "ext-info-") || strings.HasPrefix(name, "kex-strict-")
	})
	e := unreachable("handshake", bare{fmt.Sprintf("%s offers no %s that is supported here, only: %s", addr, what, Clip(strings.Join(allows, ", "))), err}, hint)
	e.Permanent = true
	return e
}

// HandshakeSilent: the server said that it speaks SSH, and then nothing.
func HandshakeSilent(addr string, waited time.Duration) *Error {
	return unreachable("handshake", fmt.Errorf("%s did not answer the key exchange within %v", addr, waited.Round(100*time.Millisecond)),
		"its machine is overloaded, or something in between lets only small packets through (MTU of a VPN)")
}

// Login. banner is what the server said during it, "": nothing.

// LoginSilent: the server did not say whether it lets the user in.
func LoginSilent(user, addr string, waited time.Duration, banner string) *Error {
	return unreachable("login", fmt.Errorf("%s did not answer the login of user %q within %v%s", addr, user, waited.Round(100*time.Millisecond), says(banner)),
		"most likely what sshd asks takes long: a directory service (LDAP, SSSD: id USER on the proxy shows it), an AuthorizedKeysCommand, "+
			"PAM, or a name for our address (UseDNS). Allow it more time ({timeout}), or have the admin look why")
}

// LoginDropped: the server ended the connection in place of an answer to the login.
func LoginDropped(user, addr, banner string, err error) *Error {
	if strings.Contains(banner, "account has expired") { // pam_unix(8)
		return &Error{Op: "login", Class: ErrAuth, Permanent: true, Err: fmt.Errorf("%s does not let user %q in%s", addr, user, says(banner)),
			Hint: Hintf("the admin extends the account, as root on the proxy: chage -E -1 %s (for ever), or usermod -e YYYY-MM-DD %[1]s", ShellWord(user))}
	}
	return unreachable("login", fmt.Errorf("%s ended the connection during the login of user %q: %w%s", addr, user, Reason(err), says(banner)),
		"sshd's own log on the proxy says why ("+sshLog+"): the account may have expired, PAM may not let it in (/etc/nologin, "+
			"access.conf), or LoginGraceTime has passed")
}

// sshLog shows the log of sshd, whose unit is called ssh, sshd or ssh@….
const sshLog = "journalctl -u 'ssh*'"

func says(banner string) string {
	if banner = Clip(banner); banner == "" {
		return ""
	}
	return fmt.Sprintf("; it says %q", banner)
}

// LoginRefused: the server takes none of the keys. banner is what it said meanwhile, public holds the keys' authorized_keys
// lines, notes what else is to be known of them. sshd tells nobody why, so the causes are possible ones, the likeliest first.
func LoginRefused(user, addr, banner string, public []string, err error, notes ...string) *Error {
	return &Error{Op: "login", Class: ErrAuth, Permanent: true,
		Err: bare{fmt.Sprintf("%s refused user %q with %d key(s)%s%s", addr, user, len(public), strings.Join(append([]string{""}, notes...), "; "), says(banner)), err},
		Hint: Hintf("sshd does not say why. Look, in this order, whether the user name is right; whether ~%s/.ssh/authorized_keys on the proxy, "+
			"a prepared one's keys of the tenant, holds this line: %s ; %s. As root on the proxy: sshd -T -C user=%s,host=x,addr=192.0.2.1 | "+
			"grep -iE 'authorizedkeys|pubkeyacc|requiredrsa|strictmodes|allow|deny|rootlogin' (if Match blocks go by address, put the one in sshd's log for 192.0.2.1), and its log: "+sshLog,
			user, strings.Join(public, "  or  "), strings.Join(causes(user, public), "; "), ShellWord(user))}
}

// NotSigned: the server takes a key, and the ssh-agent, which has its private half, does not sign with it. banner and notes are as in
// LoginRefused.
func NotSigned(user, addr, banner string, err error, permanent bool, notes ...string) *Error {
	when := ""
	if IsTimeout(err) {
		when, permanent = " in time", false
	}
	return &Error{Op: "login", Class: ErrAuth, Permanent: permanent,
		Err: bare{fmt.Sprintf("%s takes a key of user %q, with which the ssh-agent does not sign%s%s%s", addr, user, when, strings.Join(append([]string{""}, notes...), "; "), says(banner)), err},
		Hint: "the agent may ask its owner for each signature (ssh-add -c), want a security key to be touched, or be locked (ssh-add -X); " +
			"or give a private key that no agent is asked for: {key}"}
}

// causes are why sshd may refuse a user a key whose line it has, the likeliest first.
func causes(user string, public []string) []string {
	all := []string{
		"whether somebody else may write to that file, to ~/.ssh or to the home directory (ls -ld; StrictModes refuses the key then)",
		"whether options before the key in that line shut this machine out (from=) or have ended (expiry-time=)",
		"whether the account may log in at all (AllowUsers, AllowGroups, a shell that does not exist, a locked account)",
	}
	kinds, at := "whether sshd takes keys of this kind at all (PubkeyAcceptedAlgorithms", 1
	for _, doubt := range doubts {
		if slices.ContainsFunc(public, func(line string) bool { return strings.HasPrefix(line, doubt.kind) }) {
			kinds += "; " + doubt.why
		}
	}
	isLong := func(line string) bool { return strings.HasPrefix(line, rsa) && len(line) >= len(rsa)+longRSA }
	isOther := func(line string) bool { return !strings.HasPrefix(line, rsa) }
	switch {
	case slices.ContainsFunc(public, isOther):
	case slices.ContainsFunc(public, isLong):
		at = len(all)
	default:
		at = 0
	}
	all = slices.Insert(all, at, kinds+")")
	if user == "root" {
		all = slices.Insert(all, 0, "whether root may log in (PermitRootLogin)")
	}
	return all
}

const (
	rsa = "ssh-rsa "
	// longRSA is how many characters the base64 of an RSA key of 3072 bits has (RFC 4253, section 6.6). Where RequiredRSASize is
	// set it asks for 2048 or 3072 in most cases, as the policies of RHEL do.
	longRSA = (4 + 7 + 4 + 3 + 4 + 1 + 3072/8) * 4 / 3
)

// doubts are what sshd is known to have against keys of a kind.
var doubts = []struct{ kind, why string }{
	{rsa, "RequiredRSASize may want a longer RSA key"},
	{"ssh-ed25519 ", "in FIPS mode it has no ed25519"},
	{"ecdsa-", "some guides for hardening leave ecdsa out"},
	{"sk-", "before OpenSSH 8.2 it has no security keys"},
}
