// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"net"
	"strings"
)

// The whole chain.

// What answers in another scheme than the URL has.
const (
	SpeaksHTTP  = "plain HTTP, where the URL says https"
	SpeaksHTTPS = "HTTPS, where the URL says http"
)

// AnothersURL: the public URL leads to another tunnel, which has a slot of its own.
func AnothersURL(url string, slot net.Addr, raw bool) *Error {
	instead := Hint("; to put this app in the other's place, pass the port of that one as {remote}")
	if slot.Network() == "unix" {
		instead = ""
	}
	return &Error{Op: "check", Class: ErrForward,
		Err:  fmt.Errorf("%s leads to another tunnel, and not to this one", url),
		Hint: "if that one is of no use any more, close it; otherwise pass this app's own address as {url}, which nginx on the proxy hands to this tunnel: " + proxyPass(slot, raw) + instead}
}

// proxyPass is what nginx says to have a slot's requests. raw: the app's bytes are carried as they are, and it may speak TLS.
func proxyPass(slot net.Addr, raw bool) Hint {
	to := slot.String()
	if slot.Network() == "unix" {
		to = "unix:" + to
	}
	line := Hintf("proxy_pass http://%s", to)
	if raw {
		line += Hintf(" (https://%s if the app speaks TLS)", to)
	}
	return line
}

// GateAskedInTLS: the public URL leads to this tunnel, but in TLS, and the gate takes HTTP.
func GateAskedInTLS(url, answer string, slot net.Addr) *Error {
	return &Error{Op: "check", Class: ErrForward,
		Err:  fmt.Errorf("%s answers %q, and a connection that reached the tunnel meanwhile spoke TLS: the tunnel takes plain HTTP", url, Clip(answer)),
		Hint: "have nginx on the proxy say " + proxyPass(slot, false) + ", and not https:// there: SSH protects what it sends"}
}

// NotOurs: the public URL answers, but the request did not come through this tunnel. raw: as of proxyPass.
func NotOurs(url, answer string, slot net.Addr, raw bool) *Error {
	if scheme, found := map[string]string{SpeaksHTTP: "http", SpeaksHTTPS: "https"}[answer]; found {
		_, rest, _ := strings.Cut(url, ":")
		return &Error{Op: "check", Class: ErrForward, Err: fmt.Errorf("%s answers %q", url, answer), Hint: Hintf("write {url=%q}", scheme+":"+rest)}
	}
	var other Hint = "; if nginx already hands it to another port, pass that port as {remote}"
	if slot.Network() == "unix" {
		other = ""
	}
	if strings.HasPrefix(answer, "404 ") {
		other += "; if nginx serves /.well-known/ itself, as for certificates, /.well-known/taipy-tunnel must still go to the tunnel"
	}
	return &Error{Op: "check", Class: ErrForward,
		Err: fmt.Errorf("%s answers %q, but not from this tunnel", url, Clip(answer)),
		Hint: "nginx on the proxy must hand that address to the tunnel: " + proxyPass(slot, raw) + other + "; " +
			`if visitors open another address, pass it as {url}; if that answer is from a login or firewall that lets visitors through, skip this check with {check="off"}`}
}

// PageElsewhere: the check is led here, and visitors of the page are not.
func PageElsewhere(url, answer string, slot net.Addr) *Error {
	return &Error{Op: "check", Class: ErrForward,
		Err:  fmt.Errorf("visitors of %s get %q, which is not from this tunnel, although /.well-known/taipy-tunnel below it leads here", url, answer),
		Hint: "have nginx on the proxy hand the page to the tunnel as well: in its location, " + proxyPass(slot, false) + "; if a login or firewall answers so, that lets visitors through, skip this check with {check=\"off\"}"}
}

// OtherHost: what is sent to a host arrives here with another one, as a visitor's requests would.
func OtherHost(sent, arrived string) *Error {
	return &Error{Op: "check", Class: ErrForward,
		Err: fmt.Errorf("the web server in front of the tunnel says that visitors ask for %s, not %s", Clip(arrived), Clip(sent)),
		Hint: "have nginx say \"proxy_set_header Host $http_host;\", and what is in front of that pass the host on: until then visitors who open the app at another address than {url} may be refused, " +
			"and some apps refuse their own page"}
}

// NotOpened: a URL that is to take the place of one that works can be opened neither here nor on the proxy.
func NotOpened(url, answer string) *Error {
	return &Error{Op: "check", Class: ErrForward, Permanent: true,
		Err:  fmt.Errorf("%s cannot be opened: %s", url, Clip(answer)),
		Hint: "write {url} as visitors open it; if they can open it although this check cannot, skip it with {check=\"off\"}"}
}

// WantsPassword ends an answer that asks for user and password by HTTP.
const WantsPassword = ", for user and password"

// WithinTLS ends an answer that may be the app's own.
const WithinTLS = ", within TLS that the tunnel carries as it is"

// Unchecked is why it could not be told whether the public URL leads to the tunnel: something stands before it
// (guarded), or it could not be opened. access is whom the tunnel admits: a login by user and password (RFC 7617) and the tunnel's
// passwords are sent in one header.
func Unchecked(answer string, guarded bool, access string) string {
	switch {
	case !guarded:
		return "it cannot be opened: " + answer
	case access == "password" && strings.HasSuffix(answer, WantsPassword):
		return fmt.Sprintf("it answers %q: %s; leave one of the two out", Clip(answer), bothSent)
	case strings.HasSuffix(answer, WithinTLS):
		return fmt.Sprintf("it answers %q, so that no question of a check is seen in it: that may be the app's own answer", Clip(answer))
	}
	return fmt.Sprintf("it answers %q, as a login, a firewall or an address rule in front of the tunnel might; visitors may still get through", Clip(answer))
}

// UncheckedWithoutApp is Unchecked for an answer within TLS while there is no app that could have given it.
func UncheckedWithoutApp(answer string) string {
	return fmt.Sprintf("it answers %q, so that no question of a check is seen in it, and the app is not up: whether it leads here can be told then", Clip(answer))
}

// bothSent is why no visitor gets past two passwords (RFC 7617).
const bothSent = "that login and the passwords of this tunnel are both sent as Authorization, so visitors get past both only where user and password are the same"

// TwoLogins: something before the tunnel asks visitors for user and password, and so does the tunnel.
func TwoLogins(url string) *Error {
	return &Error{Op: "check", Class: ErrForward,
		Err:  fmt.Errorf("something in front of the tunnel asks visitors of %s for user and password: %s", url, bothSent),
		Hint: "leave one of the two out: {access} here, or auth_basic in nginx"}
}
