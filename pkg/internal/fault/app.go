// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// ErrTLS is what an app that was seen to speak TLS is to who wants HTTP of it.
var ErrTLS = errors.New("it speaks TLS")

// AppRefused: nothing listens where the app should, or it speaks TLS, or this process cannot tell.
func AppRefused(target string, err error) *Error {
	if errors.Is(err, ErrTLS) {
		return &Error{Op: "app", Class: ErrApp, Err: fmt.Errorf("%s speaks TLS, and is asked for HTTP", target), Hint: withoutTLS}
	}
	if e := limited("app", fmt.Errorf("no connection to %s: %w", target, Reason(err))); e != nil {
		return e
	}
	return &Error{Op: "app", Class: ErrApp,
		Err:  fmt.Errorf("nothing answers on %s: %w", target, Reason(err)),
		Hint: `start the app; if it listens elsewhere, name that: {target="127.0.0.1:5000"}`}
}

const withoutTLS Hint = "start the app without its certificate: what it says stays on this machine, SSH protects it to the proxy, and nginx's https to the visitors; " +
	`or carry its bytes as they are, {raw=true} with {access="public"}, where nginx passes TLS on: a server of its stream module, or proxy_pass https://`

// AppAskedInClear: the bytes of an app are carried as they are, and the web server before it sends HTTP where it wants TLS.
func AppAskedInClear(target string) *Error {
	return &Error{Op: "app", Class: ErrApp, Permanent: true,
		Err: fmt.Errorf("%s speaks TLS, and the web server in front of the tunnel asks it for HTTP: visitors would get no page", target),
		Hint: `have nginx on the proxy speak TLS to it, "proxy_pass https://" in place of "proxy_pass http://"; where visitors' own TLS reaches it, write {url="https://host/"}; ` +
			"or start the app without its certificate, and leave {raw} out"}
}

// AppAskedInTLS: the bytes of an app are carried as they are, and the web server before it speaks TLS, which the app does not.
func AppAskedInTLS(target string, slot net.Addr) *Error {
	return &Error{Op: "app", Class: ErrApp,
		Err:  fmt.Errorf("%s speaks plain HTTP, and a connection that came to it through the tunnel spoke TLS: visitors would get no page", target),
		Hint: "have nginx on the proxy say " + proxyPass(slot, false) + ", and not https:// there: SSH protects what it sends"}
}

// TargetTLS: the address of an app says that it speaks TLS.
func TargetTLS(target string) *Error {
	return Config(withoutTLS, "target %s is an app that speaks TLS, and apps are asked for HTTP", Quote(target))
}

// TargetAccount: the address of an app names a user, and perhaps a password: nothing of it is shown.
func TargetAccount() *Error {
	return Config(`write {target="127.0.0.1:5000"}`, "target names an account, and an app's address has none")
}

// WebsocketRefused: the app has answered a websocket's handshake with a 403. url is where visitors open it.
func WebsocketRefused(url string) *Error {
	_, host, _ := strings.Cut(url, "://")
	host, _, _ = strings.Cut(host, "/")
	return &Error{Op: "app", Class: ErrApp,
		Err: fmt.Errorf("the app refuses the websockets of its page at %s (403 Forbidden): the page may load and then not respond", url),
		Hint: Hintf("most likely it accepts them only for addresses that it was told: for Panel and Bokeh set BOKEH_ALLOW_WS_ORIGIN=%s "+
			"in its environment before it starts, or start it with --allow-websocket-origin=%[1]s", host)}
}
