// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// resolved is a Config that was validated, with nothing left to be filled in but what the proxy says of itself.
type resolved struct {
	Config
	server     *destination.Destination
	plainGiven bool // Remote or RemoteSocket was: the proxy is not asked what it is
	urlGiven   bool // URL was
}

// resolve validates cfg and completes it. Nothing else does: a tunnel lives with what it returns.
func (cfg Config) resolve() (resolved, error) {
	to, err := cfg.Destination()
	if err != nil {
		return resolved{}, err
	}
	r := resolved{Config: cfg, plainGiven: cfg.Remote != 0 || cfg.RemoteSocket != "", urlGiven: cfg.URL != ""}
	if r.server, err = destination.Resolve(to); err != nil {
		return resolved{}, err
	}
	for _, check := range []func() error{r.takeRemote, r.checkName, r.checkRemote, r.checkURL, r.checkCheck, r.checkAccess, r.checkAllow} {
		if err := check(); err != nil {
			return resolved{}, err
		}
	}
	err = r.takeTarget()
	return r, err
}

// Resolved is cfg with what Expose completes without asking the network, or why it would refuse cfg.
func (cfg Config) Resolved() (Config, error) {
	r, err := cfg.resolve()
	return r.Config, err
}

// Identity is what two configurations share that mean the same tunnel, however their server is written: the server, as it was
// given, and the name or the slot there. It reads no file. An error is that of a server that cannot be read.
func (cfg Config) Identity() (server, slot string, err error) {
	server, remote, err := destination.Given(strings.Join(cfg.Server, ""))
	if err != nil {
		return "", "", err
	}
	host := strings.LastIndex(server, "@") + 1
	server = server[:host] + strings.ToLower(server[host:]) // RFC 4343
	if cfg.Name != "" {
		return server, "name " + cfg.Name, nil
	}
	return server, cmp.Or(cfg.RemoteSocket, "port "+strconv.Itoa(cmp.Or(cfg.Remote, remote, DefaultRemote))), nil
}

// rest is the configuration as JSON without what concerns visitors or is no setting of a link, nor how the server was written;
// it holds secrets.
func (r resolved) rest() ([]byte, error) {
	cfg := r.Config
	cfg.Server, cfg.Access, cfg.Token, cfg.TokenVersion, cfg.Expires, cfg.Allow, cfg.Target = Servers{r.server.Given, r.server.String()}, Access{}, "", 0, time.Time{}, nil, ""
	return json.Marshal(cfg)
}

// takeRemote takes the port that a command line as Server asks for by -R.
func (r *resolved) takeRemote() error {
	switch asked := r.server.Remote; {
	case asked == 0 || asked == r.Remote:
	case r.Remote != 0 || r.RemoteSocket != "" || r.Name != "":
		return fault.Config("leave one of them out", "server is an ssh command that asks for port %d by -R, and remote or name says otherwise", asked)
	default:
		r.Remote, r.plainGiven = asked, true
	}
	return nil
}

// checkURL takes the server's host where none was given.
func (r *resolved) checkURL() error {
	if r.URL == "" {
		r.URL = (&url.URL{Scheme: "http", Host: r.server.URLHost(), Path: "/"}).String()
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || u.User != nil || r.urlGiven && fault.KeylikeName(u.Hostname()) {
		return fault.Config(`write {url="https://host/"}, without a user or password`, "url is not an http or https address")
	}
	query := u.Query()
	if behind, _ := url.ParseQuery(u.Fragment); query.Has("token") || behind.Has("token") { // the link of an earlier call: the token is no part of the address
		query.Del("token")
		u.RawQuery, u.Fragment, u.RawFragment = query.Encode(), "", ""
		r.URL = u.String()
	}
	return nil
}

func (cfg *Config) checkCheck() error {
	switch cfg.Check {
	case "", CheckURL, CheckLink, CheckOff:
		return nil
	}
	return fault.Config(`write {check="off"}, {check="link"} or {check="url"}, or leave it out`, "check %s is none of these", fault.Quote(string(cfg.Check)))
}

// checkAllow refuses networks on a plain proxy.
func (r *resolved) checkAllow() error {
	if len(r.Allow) == 0 || !r.plainGiven {
		return nil
	}
	_, err := r.plain()
	return err
}

// mostConnections is how many links a tunnel may have.
const mostConnections = 8

func (cfg *Config) checkName() error {
	if err := proxyhost.CheckName(cfg.Name); err != nil {
		return err
	}
	switch {
	case cfg.Name != "" && (cfg.Remote != 0 || cfg.RemoteSocket != ""):
		return fault.Config("leave one of them out", "name is for a prepared proxy, remote for a plain one")
	case cfg.Connections < 0 || cfg.Connections > mostConnections:
		return fault.Config("leave {connections} out, or choose from 1 to 8", "connections %d is not a number of links", cfg.Connections)
	}
	return nil
}

// connections is how many links to hold for so many slots. Of a single one the second is a standby: it takes the slot
// one round trip after the first is lost, in place of the ten of a login.
func (cfg *Config) connections() int {
	if cfg.Connections == 0 {
		return defaultConnections
	}
	return cfg.Connections
}

const defaultConnections = 2

// takeTarget is checkTarget, for which a URL of an app that speaks TLS is its "host:port" where its bytes are carried as they are.
func (cfg *Config) takeTarget() error {
	if u, err := url.Parse(cfg.Target); err == nil && cfg.Raw && u.Scheme == "https" && u.User == nil {
		cfg.Target = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	}
	return checkTarget(cfg.Target)
}

// checkTarget accepts "" and "host:port".
func checkTarget(addr string) error {
	if addr == "" {
		return nil
	}
	if strings.Contains(addr, "@") {
		return fault.TargetAccount()
	}
	if strings.HasPrefix(strings.ToLower(addr), "https://") {
		return fault.TargetTLS(addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || fault.KeylikeName(host) {
		return fault.Config(`write {target="127.0.0.1:5000"}`, "target %s is not host:port", fault.Quote(addr))
	}
	return nil
}

// slot is the listening end on the proxy that cfg asks for.
func (cfg *Config) slot() net.Addr {
	if cfg.RemoteSocket != "" {
		return &net.UnixAddr{Name: cfg.RemoteSocket, Net: "unix"}
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: cfg.Remote}
}

// maxSocket is the longest path of a unix socket (unix(7), sun_path, with its NUL).
const maxSocket = 107

func (cfg *Config) checkRemote() error {
	if path := cfg.RemoteSocket; path != "" {
		bad := strings.ContainsFunc(path, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
		if !strings.HasPrefix(path, "/") || bad || len(path) > maxSocket || cfg.Remote != 0 {
			return fault.Config(`pass either a port or a path, {remote="/run/app/slot.sock"}`,
				"remote %s is not the whole path of a socket, of at most %d characters, or there is a port besides", fault.Quote(path), maxSocket)
		}
		return nil
	}
	if cfg.Remote == 0 {
		cfg.Remote = DefaultRemote
	}
	if cfg.Remote < 1 || cfg.Remote > 65535 {
		return fault.Config("leave {remote} at 8080, or choose from 1024 to 65535", "remote %d is not a TCP port", cfg.Remote)
	}
	return nil
}

const passwordLeast = 8 // characters

// checkAccess refuses what would leave the app open by mistake.
func (cfg *Config) checkAccess() error {
	switch {
	case cfg.Access.Public && cfg.Access.Passwords != nil:
		return fault.Config("choose one", "access is public and has passwords")
	case cfg.Access.Passwords != nil:
		if err := checkPasswords(cfg.Access.Passwords); err != nil {
			return err
		}
	}
	if _, err := cfg.allowed(); err != nil {
		return err
	}
	if cfg.Raw && !cfg.Access.Public {
		return fault.Config(`pass {access="public"} as well to open the port to everybody who can reach it, or leave {raw} out`,
			"raw carries bytes of any kind, where nobody can be asked for a token or a password")
	}
	if cfg.Token != "" && cfg.Access.String() != "token" {
		return fault.Config("leave {token} out, or {access}", "a token is given, but access is %q", cfg.Access.String())
	}
	if cfg.TokenVersion == 0 {
		cfg.TokenVersion = 1
	}
	if cfg.TokenVersion < 1 {
		return fault.Config("count {token_version} up from 1 to make earlier links invalid", "token_version %d is not a number from 1 on", cfg.TokenVersion)
	}
	if !cfg.Expires.IsZero() && !cfg.Expires.After(time.Now()) {
		return fault.Config("pass a time in the future", "expires is in the past: the link would admit nobody")
	}
	if cfg.Token != "" {
		if _, err := gate.GivenToken(cfg.Token, cfg.Expires); err != nil {
			return fault.Config(`leave {token} out, or make one: python3 -c "import secrets; print(secrets.token_urlsafe(24))"`, "%w", err)
		}
	}
	return nil
}

// allowed reads Allow.
func (cfg *Config) allowed() (nets []netip.Prefix, err error) {
	for _, text := range cfg.Allow {
		if !strings.Contains(text, "/") {
			if addr, err := netip.ParseAddr(text); err == nil {
				nets = append(nets, netip.PrefixFrom(addr, addr.BitLen()))
				continue
			}
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault.Config(`write {allow=["10.0.0.0/8"]}`, "allow has %s, which is not a network", fault.Quote(text))
		}
		nets = append(nets, network.Masked())
	}
	return nets, nil
}

func checkPasswords(users map[string]string) error {
	if len(users) == 0 {
		return fault.Config(`pass {access={{"user": "password"}}}`, "access names no user")
	}
	for user, password := range users {
		if user == "" || strings.ContainsAny(user, ":\r\n\x00") {
			return fault.Config(`pass {access={{"user": "password"}}}`, "access has a user name that is empty or holds a colon")
		}
		if len([]rune(password)) < passwordLeast {
			return fault.Config("take a longer one: anybody on the network may try", "access has a password of less than %d characters", passwordLeast)
		}
	}
	return nil
}

// endpoint is where a tunnel's visitors arrive. On a plain proxy it is known beforehand, on a prepared
// one when the first link has read the proxy's description of itself.
type endpoint struct {
	known    bool
	prepared bool
	name     string       // of the app, on a prepared proxy
	url      string       // what visitors open
	inside   string       // the URL that the proxy itself knows; another one than url where visitors come by another proxy
	slots    []net.Addr   // to all of which nginx sends them
	slotwise bool         // each slot can be asked for at an address of its own there
	outdated *fault.Error // an older version has prepared the proxy; nil: it has not
	check    string       // "127.0.0.1:port": the one address that a tenant may open, answering questions at the URL; "": nginx's own port

	ahead *probe.Ahead // for the first question to url; nil: none
}

// identity tells the tunnel from others of its server.
func (p *endpoint) identity() string {
	if p.name != "" {
		return p.name
	}
	return p.slots[0].String()
}

// opens tells what is new while a tunnel is opened. What is for good is the error of Expose.
func (cfg *resolved) opens(links int, last *fault.Error) {
	switch {
	case cfg.Opening == nil || last != nil && last.Permanent:
	case last == nil:
		cfg.Opening(links, nil)
	default:
		cfg.Opening(links, last)
	}
}

// same reports whether visitors arrive there in the same way.
func (p *endpoint) same(o *endpoint) bool {
	return p.prepared == o.prepared && p.url == o.url && p.inside == o.inside && p.check == o.check &&
		slices.EqualFunc(p.slots, o.slots, func(a, b net.Addr) bool { return a.String() == b.String() })
}

// firstEndpoint is what is known before there is a link. given: the configuration names a slot of a
// plain proxy.
func (cfg *Config) firstEndpoint(given bool) *endpoint {
	return &endpoint{known: given, url: cfg.URL, slots: []net.Addr{cfg.slot()}}
}

// readTimeout bounds the reading of a description: seven round trips, and a server that begins a process. What is not
// told by then is not told: it is no plain proxy for that.
const readTimeout = 15 * time.Second

// find learns from the proxy, over a link that has just logged in, where visitors arrive. Without a
// description it is a plain one.
func (cfg *resolved) find(ctx context.Context, l *sshlink.Link) (*endpoint, error) {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	text, err := l.ReadFile(reading, proxyhost.DescriptionPath, proxyhost.DescriptionMost)
	switch {
	case errors.Is(err, sshlink.ErrNoFile):
		return cfg.plain()
	case errors.Is(err, sshlink.ErrLarge):
		return nil, fault.Described(cfg.server.String(), err)
	case err != nil && l.Ended():
		if why := l.Err(); errors.Is(why, fault.ErrStalled) {
			return nil, why
		}
		return nil, fault.ShutOut(cfg.server.String())
	case err != nil:
		return nil, fault.Undescribed(cfg.server.String(), err)
	}
	d, err := proxyhost.ParseDescription(text)
	if err != nil {
		return nil, fault.Described(cfg.server.String(), err)
	}
	app, err := d.Find(cfg.Name)
	if err != nil {
		return nil, fault.NoSuchName(cfg.server.String(), err)
	}
	p := &endpoint{known: true, prepared: true, name: app.Name, url: app.URL, inside: app.URL, check: d.Check, slotwise: d.CheckSlots}
	if stamps := d.RepeatWithin > 0; !stamps || !d.EndsStale {
		p.outdated = fault.Outdated(cfg.server.String(), stamps, d.EndsStale)
	}
	if cfg.urlGiven {
		p.url = cfg.URL
	}
	if u, err := url.Parse(p.url); err != nil || u.Host == "" {
		return nil, fault.Described(cfg.server.String(), errors.New("the app has no URL"))
	}
	for _, path := range app.Slots {
		p.slots = append(p.slots, &net.UnixAddr{Name: path, Net: "unix"})
	}
	return p, nil
}

// Plain is why cfg is none for a proxy that does not describe itself, nil if it is one.
func (cfg Config) Plain() error {
	_, err := cfg.plain()
	return err
}

// plain is the endpoint of a proxy that does not describe itself.
func (cfg *Config) plain() (*endpoint, error) {
	switch {
	case cfg.Name != "":
		return nil, fault.Config("leave {name} out; on a plain proxy {remote} says to which port nginx sends visitors",
			"name %s is for a prepared proxy, and this one has no description of itself", fault.Quote(cfg.Name))
	case len(cfg.Allow) > 0:
		return nil, fault.Config("leave {allow} out, or have the proxy's admin restrict addresses in nginx (allow, deny)",
			"allow needs a proxy that is known to overwrite the visitor's address; here a visitor could forge it")
	}
	return cfg.firstEndpoint(true), nil
}
