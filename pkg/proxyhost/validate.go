// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Everything that a Host says is checked here before a template sees it, against alphabets in which
// no character means anything to sshd_config, nginx, tmpfiles.d, the shell or YAML.

var (
	// tenantPattern begins with a letter: chown(1) takes figures for a number. Without "--", so that
	// the name NAME--TENANT can be taken apart in one way only.
	tenantPattern    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	labelPattern     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	pathPattern      = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$`)
	principalPattern = regexp.MustCompile(`^[A-Za-z0-9._@+:-]{1,128}$`)
	headerPattern    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	urlPattern       = regexp.MustCompile(`^https?://[A-Za-z0-9._~:/@%\[\]?=&-]+$`)
)

const (
	tenantMost  = 32  // characters; useradd(8) takes no more
	hostMost253 = 253 // RFC 1035, section 2.3.4
	socketMost  = 107 // bytes of a socket's path (unix(7))
	countMost   = 1000
)

// reserved are accounts that any system has or may get. The script takes no account that it did not make.
var reserved = map[string]bool{"root": true, "nobody": true, "daemon": true, "www-data": true, "nginx": true, "sshd": true, "all": true, "none": true}

// bad is a setting that cannot be used.
func bad(what, value string, hint fault.Hint) error {
	return fault.Config(hint, "%s %s cannot be used", what, fault.Quote(value))
}

// CheckTenant returns an error of class ErrConfig unless an account may have that name.
func CheckTenant(name string) error {
	if !tenantPattern.MatchString(name) || len(name) > tenantMost || reserved[name] {
		return bad("tenant", name, "it becomes an account: up to 32 letters (a-z), digits and single dashes, a letter first")
	}
	return nil
}

func checkName(name string) error {
	if !NamePattern.MatchString(name) {
		return bad("the app's name", name, "up to 40 letters (a-z), digits and dashes")
	}
	return nil
}

// checkDNS takes a name as it is sent, in small letters.
func checkDNS(what, name string) error {
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if len(name) > hostMost253 || !labelPattern.MatchString(label) {
			return bad(what, name, "a DNS name in small letters, such as sales.example.com, without scheme, port or path; others than ASCII as xn--…")
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return bad(what, name, "neither a DNS name nor an address")
	}
	return nil
}

// checkHost takes a DNS name or an address.
func checkHost(what, host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || a.String() != host || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return bad(what, host, "an address as visitors write it, without brackets, zone or port")
		}
		return nil
	}
	return checkDNS(what, host)
}

func checkPath(what, p string) error {
	if !pathPattern.MatchString(p) || path.Clean(p) != p || len(p) > 200 || strings.Contains(p, "..") {
		return bad(what, p, "an absolute path of letters, digits, dots, dashes and underscores")
	}
	return nil
}

func checkPort(what string, port int) error {
	if port < 1 || port > 65535 {
		return fault.Config("a port is between 1 and 65535", "%s %d cannot be used", what, port)
	}
	return nil
}

func checkURL(what, text string) error {
	u, err := url.Parse(text)
	if err != nil || !urlPattern.MatchString(text) || u.Hostname() == "" || u.User != nil || len(text) > 500 {
		return bad(what, text, "an http or https URL without name and password")
	}
	return nil
}

// checkNetworks gives the networks in the form that nginx takes without a word.
func checkNetworks(what string, list []string) ([]string, error) {
	var found []string
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, e := netip.ParseAddr(text); e == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, bad(what, text, "an address or a network, such as 192.0.2.0/24")
		}
		p = p.Masked()
		if p.Addr().IsLoopback() {
			return nil, bad(what, text, "this machine itself is never trusted: what its tenants ask comes from there")
		}
		found = append(found, p.String())
	}
	return found, nil
}

// checkKeys gives public keys as sshd reads them, written anew: options and comments are not taken over.
func checkKeys(what string, lines []string) ([]string, error) {
	var found []string
	for n, line := range lines {
		what := fmt.Sprintf("%s number %d", what, n+1)
		if strings.ContainsAny(strings.TrimSpace(line), "\r\n") || len(line) > 16<<10 {
			return nil, fault.Config("one key, one line", "%s is not one line", what)
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case strings.Contains(line, "PRIVATE KEY"):
			return nil, fault.Config("the public half is in the file that ends in .pub; make a new pair, since this one was shown", "%s is a private key", what)
		case err != nil:
			return nil, fault.Config("the line of a file that ends in .pub: ssh-ed25519 AAAA…", "%s is not a public key", what)
		case len(options) > 0:
			return nil, fault.Config("leave them out: the account's own restrictions are stricter", "%s has options", what)
		}
		if _, is := key.(*ssh.Certificate); is {
			return nil, fault.Config("give the authority's key in user_ca, and its certificates need not be listed", "%s is a certificate", what)
		}
		text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		if strings.HasPrefix(text, "ssh-dss ") {
			return nil, fault.Config("make an ed25519 key", "%s is of a kind that sshd does not accept any more (ssh-dss)", what)
		}
		found = append(found, text)
	}
	return found, nil
}
