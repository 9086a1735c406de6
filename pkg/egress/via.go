// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// viaTimeout bounds what is said to an egress proxy, its own connect to the server included.
const viaTimeout = 10 * time.Second

// Via is an egress proxy, by way of which connections leave this network. It asks the proxy to
// connect, which resolves the server's name itself.
type Via struct {
	scheme         string // "http", "https" or "socks5"
	host           string
	port           int
	user, password string
	login          bool   // user and password were given
	source         string // "via", or the variable that names it
	tls            *TLS   // to the proxy itself; nil: in clear
	proven         atomic.Bool
}

var viaPorts = map[string]int{"http": 80, "https": 443, "socks5": 1080} // as net/http has them

// ParseVia reads "http://[user:password@]host[:port]", the same with https or socks5 (socks5h is
// the same), or "host:port" for http. source says where it stood, for errors; they quote nothing
// of the text, since it may hold a password. tls checks the certificate of an https proxy.
func ParseVia(source, text string, tls *TLS) (*Via, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		if !strings.ContainsAny(text, ".:") { // a password alone would be looked up as a host
			return nil, badVia(source, "is not the address of a proxy")
		}
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || fault.KeylikeName(u.Hostname()) || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, badVia(source, "is not the address of a proxy")
	}
	v := &Via{scheme: strings.ToLower(u.Scheme), host: u.Hostname(), source: source}
	if v.scheme == "socks5h" {
		v.scheme = "socks5"
	}
	if v.scheme == "https" {
		v.tls = tls
	}
	var known bool
	if v.port, known = viaPorts[v.scheme]; !known {
		return nil, badVia(source, "names a kind of proxy that is none of http, https and socks5")
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, badVia(source, "has a port that is not a number from 1 to 65535")
		}
		v.port = int(n)
	}
	if u.User != nil {
		v.login, v.user = true, u.User.Username()
		v.password, _ = u.User.Password()
	}
	if max(len(v.user), len(v.password)) > 255 { // RFC 1929, section 2; and a head should not grow for it
		return nil, badVia(source, "has a user name or a password of more than 255 bytes")
	}
	return v, nil
}

func badVia(source, why string) error {
	return fault.Config(`write {via="http://user:password@host:port"} (or https, socks5), in a password %40 for @, %2F for /, %3A for : and so on; `+
		`{via="none"} connects directly`, "%s %s", source, why)
}

// ViaFromEnvironment returns the egress proxy that variables name for the server at addr
// ("host:port"): HTTPS_PROXY, else ALL_PROXY, unless NO_PROXY names the server (its rules are those
// of golang.org/x/net/http/httpproxy). The lower-case variables win, as for curl. Loopback is
// never proxied. Nil: there is none.
func ViaFromEnvironment(getenv func(string) string, addr string, tls *TLS) (*Via, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := strings.TrimSpace(getenv(name)); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	name, text := first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
	_, except := first("no_proxy", "NO_PROXY")
	if text == "" {
		return nil, nil
	}
	rules := httpproxy.Config{HTTPSProxy: "http://proxy", NoProxy: except}
	if by, err := rules.ProxyFunc()(&url.URL{Scheme: "https", Host: addr}); err != nil || by == nil {
		return nil, nil
	}
	return ParseVia(name, text, tls)
}

// String leaves out the user and the password.
func (v *Via) String() string {
	text := v.scheme + "://" + v.addr()
	if v.source != "via" {
		text += " (" + v.source + ")"
	}
	return text
}

func (v *Via) addr() string { return net.JoinHostPort(v.host, strconv.Itoa(v.port)) }

// Hide takes the password out of what a proxy said: it may repeat what it was sent.
func (v *Via) Hide(text string) string {
	if v == nil || v.password == "" {
		return text
	}
	return strings.NewReplacer(v.basic(), "…", v.password, "…", url.QueryEscape(v.password), "…").Replace(text)
}

// basic is the user and the password as the Basic scheme has them (RFC 7617).
func (v *Via) basic() string {
	return base64.StdEncoding.EncodeToString([]byte(v.user + ":" + v.password))
}

// connect has the proxy connect to addr.
func (v *Via) connect(ctx context.Context, c *Dialer, addr string) (net.Conn, error) {
	begin := time.Now()
	conn, err := c.tcp(ctx, v.host, v.port)
	if err != nil {
		return nil, fault.Via(v.String(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, viaTimeout)
	defer cancel()
	if v.tls != nil {
		if conn, err = v.tls.Over(ctx, conn, v.host, v.addr()); err != nil {
			return nil, fault.Via(v.String(), err)
		}
	}
	if err := v.negotiate(ctx, conn, addr); err != nil {
		_ = conn.Close()
		return nil, v.classify(err, addr, time.Since(begin))
	}
	v.proven.Store(true)
	return conn, nil
}

// negotiate asks for the connection to addr. ctx has a deadline.
func (v *Via) negotiate(ctx context.Context, conn net.Conn, addr string) error {
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	ask := v.ask
	if v.scheme == "socks5" {
		ask = v.socks
	}
	if err := ask(ctx, conn, addr); err != nil {
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	return conn.SetDeadline(time.Time{})
}

// classify tells what came between the connection to the proxy and that to the server. A definite
// answer is permanent unless the proxy once gave a better one.
func (v *Via) classify(err error, addr string, waited time.Duration) error {
	e, ok := errors.AsType[*fault.Error](err)
	switch {
	case !ok && fault.IsTimeout(err):
		return fault.ViaSilent(v.String(), addr, waited)
	case !ok:
		return fault.ViaEnded(v.String(), addr, err)
	}
	e.Permanent = e.Permanent && (!v.proven.Load() || errors.Is(e, fault.ErrPassword))
	return e
}
