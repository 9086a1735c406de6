// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Ways out of the network: egress proxies, and SSH inside TLS. A proxy is named without its password.

// ErrPassword marks those errors in which an egress proxy refuses the login: it is not asked again.
var ErrPassword = errors.New("wants a password")

const directly = `{via="none"} connects directly`

// Via: an egress proxy cannot be reached. name is "http://host:port". It may serve a whole network, and log what it refuses:
// an attempt is not free, as a connect to the server is (ErrUnconnected).
func Via(name string, err error) *Error {
	if errors.Is(err, ErrLimit) {
		return From(err)
	}
	e := *From(err)
	e.Op, e.Class = "via "+e.Op, ErrHop
	cause := e.Err
	if m, ok := cause.(marked); ok {
		cause = m.error
	}
	e.Err = fmt.Errorf("on the way, at the proxy %s: %w", name, cause)
	switch e.Op {
	case "via resolve", "via connect":
		e.Hint = "check {via}, or HTTPS_PROXY and ALL_PROXY in the environment; " + directly
	}
	return &e
}

func via(err error, permanent bool, hint Hint) *Error {
	return &Error{Op: "via", Class: ErrHop, Err: err, Hint: hint, Permanent: permanent}
}

// ViaPassword: an egress proxy wants a login, or another one than was given. other are the kinds that it
// takes, if the one that is spoken here is not among them.
func ViaPassword(name string, given bool, other string) *Error {
	hint := Hint(`pass {via="http://user:password@host:port"} (in a password %40 for @ and so on)`)
	if strings.HasPrefix(name, "socks") {
		hint = `pass {via="socks5://user:password@host:port"} (in a password %40 for @ and so on)`
	}
	switch {
	case other != "":
		return via(fmt.Errorf("the proxy %s %w in a way that is not spoken here, %q", name, ErrPassword, Clip(other)), true,
			"only Basic is spoken; ask who runs the proxy for an address that takes it, or one that asks for no password; "+directly)
	case given:
		return via(fmt.Errorf("the proxy %s %w, and refuses the one that was given", name, ErrPassword), true, hint)
	default:
		return via(fmt.Errorf("the proxy %s %w", name, ErrPassword), true, hint+"; "+directly)
	}
}

// ViaPage: an egress proxy shows a page in place of the server.
func ViaPage(name, addr, answer string) *Error {
	return via(fmt.Errorf("the proxy %s answers with a page, as for a login in a browser, and not with a connection to %s: %q", name, addr, Clip(answer)), true,
		"ask who runs the proxy to let this machine through without a page; "+directly)
}

// ViaForbidden: an egress proxy makes no connection there.
func ViaForbidden(name, addr, answer string) *Error {
	return via(fmt.Errorf("the proxy %s refuses a connection to %s: %q", name, addr, Clip(answer)), true,
		`many proxies let port 443 through and no other: have the machine accept SSH inside TLS there, {server="tls://user@host:443"}; `+
			"or who runs the proxy must allow it; "+directly)
}

// ViaNoProxy: something else answers where the egress proxy should.
func ViaNoProxy(name, answer string) *Error {
	return via(fmt.Errorf("%s is not such a proxy: it answers %q", name, Clip(answer)), true,
		"check the port and the kind (http, https or socks5) in {via}, or in HTTPS_PROXY and ALL_PROXY; "+directly)
}

// ViaConnect: an egress proxy has no connection to the server.
func ViaConnect(name, addr, answer string) *Error {
	return unreachable("via connect", fmt.Errorf("no connection to %s from the proxy %s: %q", addr, name, Clip(answer)),
		"check that sshd listens there, and that the name and the port are right as seen from that proxy; "+directly)
}

// ViaSilent: an egress proxy does not answer.
func ViaSilent(name, addr string, waited time.Duration) *Error {
	return via(fmt.Errorf("the proxy %s gave no connection to %s, and no other answer, within %v", name, addr, waited.Round(100*time.Millisecond)), false,
		"it may be of another kind (http, https or socks5), overloaded, or what it sends to that machine is dropped: try port 443 there; "+directly)
}

// ViaEnded: an egress proxy ended the connection without an answer.
func ViaEnded(name, addr string, err error) *Error {
	return via(fmt.Errorf("the proxy %s gave no connection to %s: %w", name, addr, Reason(err)), false,
		"check the port and the kind (http, https or socks5) of the proxy; "+directly)
}

// NotSSHInTLS: TLS is spoken there, but something else than SSH inside it.
func NotSSHInTLS(addr, first string) *Error {
	e := NotSSH(addr, first)
	e.Hint = "TLS is spoken there, but what it carries does not go to sshd: in nginx a stream block, and not an http one, must listen on the port"
	return e
}

// NotSSHButTLS: TLS is spoken there.
func NotSSHButTLS(addr string) *Error {
	return unreachable("banner", fmt.Errorf("%s is not an SSH server: it speaks TLS", addr),
		`if SSH is inside TLS there, write {server="tls://user@host:port"}; otherwise give the port that sshd listens on`)
}

// NotTLS: the server does not speak TLS. first is the beginning of what it said.
func NotTLS(addr, first string) *Error {
	e := &Error{Op: "tls", Class: ErrUnreachable, Permanent: true,
		Err:  fmt.Errorf("%s does not speak TLS: it answers %q", addr, Clip(first)),
		Hint: "give the port on which TLS is spoken"}
	switch {
	case strings.HasPrefix(first, "SSH-"):
		e.Hint = `it speaks SSH without TLS: drop the tls://, {server="user@host:port"}`
	case strings.HasPrefix(first, "<"), strings.HasPrefix(first, "HTTP/"):
		e.Hint = "a web server without TLS, or a proxy's login page, answers in its place: check the port, or try {via}"
	}
	return e
}

const foreignCA = "Where the organisation's own authority signs (or a proxy looks into TLS), name its file in SSL_CERT_FILE"

// CertificateUntrusted: nobody known vouches for the certificate.
func CertificateUntrusted(addr string, why error) *Error {
	return &Error{Op: "tls", Class: ErrUnreachable, Permanent: true,
		Err:  fmt.Errorf("the TLS certificate of %s is not trusted: %w", addr, why),
		Hint: "nothing was sent. " + foreignCA}
}

// CertificateName: the certificate is for other names.
func CertificateName(addr, host string, names []string) *Error {
	if len(names) == 0 { // RFC 9525, section 6.3: what is in the subject is no name of a host
		return &Error{Op: "tls", Class: ErrUnreachable, Permanent: true,
			Err:  fmt.Errorf("the TLS certificate of %s names no host: it may have one in its subject, which does not count", addr),
			Hint: Hintf("nothing was sent. Have one made with a subjectAltName for %s", host)}
	}
	return &Error{Op: "tls", Class: ErrUnreachable, Permanent: true,
		Err:  fmt.Errorf("the TLS certificate of %s is not for %q but for %q", addr, host, Clip(strings.Join(names, ", "))),
		Hint: "nothing was sent. Write the name that is in the certificate, or have one made for this name"}
}

// CertificateTime: the certificate has expired, or its time has not come.
func CertificateTime(addr string, from, until time.Time) *Error {
	const form = "2006-01-02 15:04 UTC"
	return &Error{Op: "tls", Class: ErrUnreachable, Permanent: true,
		Err:  fmt.Errorf("the TLS certificate of %s has expired, or is not valid yet: it is from %s to %s", addr, from.UTC().Format(form), until.UTC().Format(form)),
		Hint: "nothing was sent. The admin must renew it; or this machine's clock is wrong"}
}

// TLSSilent: the connection stands, but no TLS handshake comes about.
func TLSSilent(addr string, waited time.Duration) *Error {
	return unreachable("tls", fmt.Errorf("%s accepted the connection but did not answer the TLS handshake within %v", addr, waited.Round(100*time.Millisecond)),
		"a firewall or load balancer may answer in its place, or it waits for something else than TLS on this port")
}

// TLSFailed: no TLS handshake, for a reason of the server's.
func TLSFailed(addr string, err error) *Error {
	return unreachable("tls", fmt.Errorf("no TLS handshake with %s: %w", addr, Reason(err)),
		"the error log of what speaks TLS there says why (nginx: /var/log/nginx/error.log)")
}
