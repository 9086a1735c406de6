// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// A check cannot log in, solve a firewall's riddle or come from an address that is let in. What stops it there may let
// visitors pass, so it is no proof that the URL leads elsewhere.

// pageMost is how much of an answer is read. Pages that ask for a password have that field in their first few KiB.
const pageMost = 64 << 10

// challenges are headers of firewalls that ask a browser to prove itself: Cloudflare's and AWS WAF's.
var challenges = []string{"Cf-Mitigated", "X-Amzn-Waf-Action"}

// firewallPages are words in the pages that firewalls answer with 200: F5 BIG-IP ASM, Imperva, Anubis.
var firewallPages = [][]byte{[]byte("The requested URL was rejected. Please consult with your administrator"), []byte("_Incapsula_Resource"), []byte("anubis_challenge")}

// plainHTTP are words of servers (nginx, Go, Apache) that speak TLS on a port that was asked without. No visitor gets past that.
var plainHTTP = [][]byte{[]byte("plain HTTP request was sent to HTTPS port"), []byte("HTTP request to an HTTPS server"), []byte("speaking plain HTTP to an SSL-enabled server port")}

// clientCertificate is in the title of nginx's page for a visitor without one.
var clientCertificate = []byte("No required SSL certificate was sent")

// guarded reports whether an answer that is not the tunnel's may be that of something that stands before it, and what was seen of that.
func guarded(q Question, resp *http.Response, page []byte) (seen string, is bool) {
	if Challenged(0, resp.Header) {
		return ", a firewall that examines browsers", true
	}
	switch status := resp.StatusCode; {
	case status == http.StatusBadRequest && containsAny(page, plainHTTP):
		return "", false
	case status == http.StatusBadRequest && bytes.Contains(page, clientCertificate):
		return ", it wants a client certificate", true
	case status == http.StatusNotFound: // visitors get the same, in most cases
		return "", false
	case WantsPassword(status, resp.Header):
		return fault.WantsPassword, true
	case status/100 == 4:
		return "", true
	case status == http.StatusNetworkAuthenticationRequired:
		return ", the page by which a network admits its users", true
	case status/100 == 3:
		return to(resp), true
	case status/100 != 2:
		return "", false
	case containsAny(page, firewallPages):
		return ", a page of a firewall", true
	case asksForPassword(page):
		return ", a page that asks for a password", true
	case moved(q, resp.Request.URL):
		return ", after a redirect to another page of that host", true
	}
	return "", false
}

// Challenged reports whether an answer is that of a firewall that examines browsers, or of a network that admits its users by a page.
func Challenged(status int, answer http.Header) bool {
	return status == http.StatusNetworkAuthenticationRequired || slices.ContainsFunc(challenges, func(name string) bool { return answer.Get(name) != "" })
}

// WantsPassword reports whether an answer has the browser ask for user and password (RFC 7617); a login by a page or a cookie may answer 401, too.
func WantsPassword(status int, answer http.Header) bool {
	return status == http.StatusUnauthorized && slices.ContainsFunc(answer.Values("WWW-Authenticate"), func(scheme string) bool { return strings.HasPrefix(strings.ToLower(scheme), "basic") })
}

func containsAny(page []byte, words [][]byte) bool {
	for _, w := range words {
		if bytes.Contains(page, w) {
			return true
		}
	}
	return false
}

// to names the host to which a redirect leads; what follows it may be a secret.
func to(resp *http.Response) string {
	if at, err := resp.Location(); err == nil && at.Hostname() != "" {
		return ", to " + at.Hostname()
	}
	return ""
}

// asksForPassword reports whether a page has an input for a password (HTML, section 4.10.5.1.6).
func asksForPassword(page []byte) bool {
	text := strings.ToLower(string(page))
	return strings.Contains(text, "<input") && (strings.Contains(text, `type="password"`) || strings.Contains(text, "type='password'") || strings.Contains(text, "type=password"))
}

// moved reports whether redirects have led to another path than was asked.
func moved(q Question, at *url.URL) bool {
	asked, err := url.Parse(q.URL)
	return err == nil && strings.TrimSuffix(asked.Path, "/") != strings.TrimSuffix(at.Path, "/")
}
