// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	// slotsOfApp, whose numbers have one digit: sshd queues 128 connections for each (its listen(2) backlog).
	slotsOfApp = 4
	// slotsOfSelfService: nginx tries the second where the first does not answer.
	slotsOfSelfService = 2
	// Check ports follow from tenants' names, in a range below that from which the kernel takes ports.
	checkFirst, checkCount = 20000, 8000
)

// plan is a Host after validation: what the templates see.
type plan struct {
	Host
	Layout  Layout
	Scheme  string
	Tenants []*tenant
	Names   []string // of the certificate
}

type tenant struct {
	Tenant
	Access    Access
	Dir       string // the account's directory
	CheckPort int
	Sites     []*site
}

// site is one server of nginx: a host with an app, a host with apps below it, or free names.
type site struct {
	Tenant *tenant
	// Server is its server_name.
	Server string
	// Self is set where names are free: Apps has one, the pattern of all.
	Self bool
	// Whole is set where the only app has the host for itself.
	Whole bool
	Apps  []*app
}

type app struct {
	Name, Prefix, Upstream, Fresh, URL string
	Slots                              []string // as the tenant sees them
	Sockets                            []string // as nginx does
	Socket                             string   // one of them: $1 stands for its number
}

// prepare validates a Host.
func prepare(h Host) (*plan, error) {
	p := &plan{Host: h, Layout: h.Layout.filled(), Scheme: "http"}
	if err := p.checkMachine(); err != nil {
		return nil, err
	}
	if len(h.Tenants) == 0 || len(h.Tenants) > countMost {
		return nil, fault.Config("name at least one", "there are %d tenants", len(h.Tenants))
	}
	sorted := slices.SortedFunc(slices.Values(h.Tenants), func(a, b Tenant) int { return cmp.Compare(a.Name, b.Name) })
	for _, given := range sorted {
		t := &tenant{Tenant: given, Access: p.Host.Access, Dir: p.Layout.Run + "/" + given.Name}
		if err := p.checkTenant(t); err != nil {
			return nil, err
		}
		p.Tenants = append(p.Tenants, t)
	}
	if err := p.checkPorts(); err != nil {
		return nil, err
	}
	return p, p.checkHosts()
}

func (l Layout) filled() Layout {
	for _, d := range []struct {
		path  *string
		usual string
	}{{&l.Etc, "/etc/taipy-tunnel"}, {&l.Run, "/run/taipy-tunnel"}, {&l.SSHD, "/etc/ssh/sshd_config.d/60-taipy-tunnel.conf"},
		{&l.Site, "/etc/nginx/sites-enabled/zz-taipy-tunnel.conf"}, {&l.Log, "/var/log/nginx"}, {&l.Cache, "/var/cache/taipy-tunnel"},
		{&l.Tmpfiles, "/etc/tmpfiles.d/taipy-tunnel.conf"}, {&l.Limits, "/etc/security/limits.d/60-taipy-tunnel.conf"}, {&l.Unit, "/etc/systemd/system/taipy-tunnel-stale.service"}} {
		*d.path = cmp.Or(*d.path, d.usual)
	}
	return l
}

func (p *plan) checkMachine() error {
	h := &p.Host
	h.HTTP, h.HTTPS = cmp.Or(h.HTTP, 80), cmp.Or(h.HTTPS, 443)
	h.TLS.Mode = cmp.Or(h.TLS.Mode, "none")
	switch h.TLS.Mode {
	case "none", "self-signed", "certbot":
		if h.TLS.Certificate+h.TLS.Key != "" {
			return fault.Config(`mode "files" takes them`, "tls: a certificate is given, and the mode is %q", h.TLS.Mode)
		}
	case "files":
		for what, path := range map[string]string{"tls: certificate": h.TLS.Certificate, "tls: key": h.TLS.Key} {
			if err := checkPath(what, path); err != nil {
				return err
			}
		}
	default:
		return bad("tls: mode", h.TLS.Mode, "none, self-signed, files or certbot")
	}
	if h.TLS.Mode != "none" {
		p.Scheme = "https"
	}
	for _, path := range []string{p.Layout.Etc, p.Layout.Run, p.Layout.SSHD, p.Layout.Site, p.Layout.Log, p.Layout.Cache, p.Layout.Tmpfiles, p.Layout.Limits, p.Layout.Unit} {
		if err := checkPath("layout", path); err != nil {
			return err
		}
	}
	if err := h.Access.check("access"); err != nil {
		return err
	}
	if h.Status.Port == 0 {
		return nil
	}
	a := Access{BasicAuth: h.Status.BasicAuth, Allow: h.Status.Allow}
	if a.BasicAuth == "" && len(a.Allow) == 0 {
		return fault.Config("give allow or basic_auth", "the status page would be everybody's")
	}
	if err := a.check("status"); err != nil {
		return err
	}
	h.Status.Allow = a.Allow
	return nil
}

// check validates, and writes networks as nginx wants them.
func (a *Access) check(what string) (err error) {
	if a.BasicAuth != "" {
		if err = checkPath(what+": basic_auth", a.BasicAuth); err != nil {
			return err
		}
	}
	if a.Allow, err = checkNetworks(what+": allow", a.Allow); err != nil {
		return err
	}
	for name, text := range map[string]string{"auth_request": a.AuthRequest, "sign_in": a.SignIn} {
		if text == "" {
			continue
		}
		if err = checkURL(what+": "+name, text); err != nil {
			return err
		}
	}
	if strings.Contains(a.SignIn, "?") {
		return bad(what+": sign_in", a.SignIn, "without a query: ?rd= and the visitor's address are added")
	}
	if a.AuthRequest == "" && a.SignIn+a.Identity != "" {
		return fault.Config("", "%s: sign_in and identity belong to auth_request, which is not given", what)
	}
	a.Identity = cmp.Or(a.Identity, "X-Auth-Request-User")
	if !headerPattern.MatchString(a.Identity) {
		return bad(what+": identity", a.Identity, "the name of a header")
	}
	return nil
}

// checkTenant validates one tenant and lays out its sites.
func (p *plan) checkTenant(t *tenant) (err error) {
	if err := CheckTenant(t.Name); err != nil {
		return err
	}
	what := "tenant " + t.Name
	for name, list := range map[string]*[]string{"keys": &t.Keys, "user_ca": &t.UserCA, "revoked": &t.Revoked} {
		if *list, err = checkKeys(what+": "+name, *list); err != nil {
			return err
		}
	}
	for _, name := range t.Principals {
		if !principalPattern.MatchString(name) {
			return bad(what+": principal", name, "letters, digits and . _ @ + : -")
		}
	}
	switch {
	case len(t.Keys)+len(t.UserCA) == 0:
		return fault.Config("give keys or user_ca", "%s: nobody could log in", what)
	case (len(t.UserCA) == 0) != (len(t.Principals) == 0):
		return fault.Config("a certificate logs in by a principal that it names", "%s: user_ca and principals go together", what)
	case len(t.Apps) == 0 && t.SelfService == "":
		return fault.Config("declare apps or allow self_service", "%s has nothing to serve", what)
	case len(t.Apps) > countMost:
		return fault.Config("", "%s has %d apps", what, len(t.Apps))
	}
	if t.Tenant.Access != nil {
		t.Access = *t.Tenant.Access
		if err := t.Access.check(what + ": access"); err != nil {
			return err
		}
	}
	return p.layOut(t, what)
}

func (p *plan) layOut(t *tenant, what string) error {
	var below *site
	names := map[string]bool{}
	for _, d := range t.Apps {
		if err := checkName(d.Name); err != nil {
			return err
		}
		if names[d.Name] {
			return fault.Config("", "%s: the app %s is declared twice", what, d.Name)
		}
		names[d.Name] = true
		a := t.newApp(d.Name, slotsOfApp)
		if d.Host != "" {
			if err := checkHost(what+": app "+d.Name+": host", d.Host); err != nil {
				return err
			}
			a.URL = p.address(d.Host) + "/"
			t.Sites = append(t.Sites, &site{Tenant: t, Server: brackets(d.Host), Whole: true, Apps: []*app{a}})
			p.Names = append(p.Names, d.Host)
			continue
		}
		if t.Host == "" {
			return fault.Config("give the app a host, or the tenant one, below which its apps are", "%s: the app %s has no address", what, d.Name)
		}
		if below == nil {
			if err := checkHost(what+": host", t.Host); err != nil {
				return err
			}
			below = &site{Tenant: t, Server: brackets(t.Host)}
			t.Sites = append(t.Sites, below)
			p.Names = append(p.Names, t.Host)
		}
		a.Prefix = "/" + d.Name
		a.URL = p.address(t.Host) + a.Prefix + "/"
		below.Apps = append(below.Apps, a)
	}
	if t.SelfService == "" {
		return nil
	}
	if err := checkDNS(what+": self_service", t.SelfService); err != nil {
		return err
	}
	if p.TLS.Mode == "certbot" {
		return fault.Config(fault.Hintf(`get a certificate for *.%s by DNS, and give it with mode "files"`, t.SelfService), "%s: certbot's webroot gives no certificate for all names of a domain", what)
	}
	a := t.newApp("{name}", slotsOfSelfService)
	a.URL = p.address("{name}--"+t.Name+"."+t.SelfService) + "/"
	for i := range a.Sockets {
		a.Sockets[i] = strings.ReplaceAll(a.Sockets[i], "{name}", "$taipy_name")
	}
	a.Socket = strings.ReplaceAll(a.Socket, "{name}", "$taipy_name")
	a.Fresh = "unix:" + a.Sockets[0] + ":" // nothing keeps these
	pattern := `"~^(?<taipy_name>[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)--` + t.Name + `\.` + strings.ReplaceAll(t.SelfService, ".", `\.`) + `$"`
	t.Sites = append(t.Sites, &site{Tenant: t, Server: pattern, Self: true, Whole: true, Apps: []*app{a}})
	p.Names = append(p.Names, "*."+t.SelfService)
	return nil
}

func (t *tenant) newApp(name string, slots int) *app {
	a := &app{Name: name, Upstream: "taipy_" + t.Name + "." + name}
	a.Fresh = a.Upstream + ".fresh"
	a.Socket = t.Dir + "/s/" + name + ".$1.sock"
	for i := range slots {
		slot := fmt.Sprintf("/s/%s.%d.sock", name, i)
		a.Slots = append(a.Slots, slot)
		a.Sockets = append(a.Sockets, t.Dir+slot)
	}
	return a
}

// brackets writes an address as it is in a URL and, so, in the header Host.
func brackets(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// address is the beginning of a URL.
func (p *plan) address(host string) string {
	port, usual := p.Host.HTTP, 80
	if p.Scheme == "https" {
		port, usual = p.Host.HTTPS, 443
	}
	if port == usual {
		return p.Scheme + "://" + brackets(host)
	}
	return fmt.Sprintf("%s://%s:%d", p.Scheme, brackets(host), port)
}

// checkPorts gives each tenant a check port, which stays the same when others come and go as long as
// no two names fall together.
func (p *plan) checkPorts() error {
	taken := map[int]string{p.Host.HTTP: "http", p.Host.HTTPS: "https"}
	if p.Host.HTTP == p.Host.HTTPS {
		return fault.Config("", "http and https have the same port")
	}
	take := func(port int, what string) error {
		if err := checkPort(what, port); err != nil {
			return err
		}
		if by, is := taken[port]; is {
			return fault.Config("", "%s: the port %d is that of %s", what, port, by)
		}
		taken[port] = what
		return nil
	}
	for what, port := range map[string]int{"http": p.Host.HTTP, "https": p.Host.HTTPS} {
		if err := checkPort(what, port); err != nil {
			return err
		}
	}
	if p.Host.Status.Port != 0 {
		if err := take(p.Host.Status.Port, "status"); err != nil {
			return err
		}
	}
	for _, t := range p.Tenants {
		if t.CheckPort = t.Check; t.Check != 0 {
			if err := take(t.Check, "tenant "+t.Name+": check"); err != nil {
				return err
			}
		}
	}
	for _, t := range p.Tenants {
		if t.Check != 0 {
			continue
		}
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(t.Name))
		offset := int(sum.Sum32() % checkCount)
		for taken[checkFirst+offset] != "" {
			offset = (offset + 1) % checkCount
		}
		t.CheckPort = checkFirst + offset
		taken[t.CheckPort] = t.Name
	}
	return nil
}

// checkHosts holds hosts to one tenant each, and to one app unless they are by path: scripts of one
// app could else use another's cookies.
func (p *plan) checkHosts() error {
	owner, names := map[string]*tenant{}, map[string]bool{}
	for _, t := range p.Tenants {
		if names[t.Name] {
			return fault.Config("", "the tenant %s is there twice", t.Name)
		}
		names[t.Name] = true
		for _, s := range t.Sites {
			other, is := owner[s.Server]
			switch {
			case is && other != t:
				return fault.Config("a host belongs to one tenant: apps below the same host can act for each other's visitors",
					"the host %s is both tenant %s's and tenant %s's", s.Server, other.Name, t.Name)
			case is:
				return fault.Config("give the other one a host of its own", "tenant %s: the host %s is used twice", t.Name, s.Server)
			}
			owner[s.Server] = t
			for _, a := range s.Apps {
				if longest := a.Sockets[len(a.Sockets)-1]; len(strings.Replace(longest, "$taipy_name", strings.Repeat("x", 40), 1)) > socketMost {
					return fault.Config("", "tenant %s: the path of a socket is too long: %s", t.Name, longest)
				}
			}
		}
	}
	for _, t := range p.Tenants {
		for host, by := range owner {
			label, domain, _ := strings.Cut(host, ".")
			if t.SelfService != "" && domain == t.SelfService && strings.Contains(label, "--") {
				return fault.Config("choose a host without -- there", "tenant %s: the host %s is among the free names below %s", by.Name, host, t.SelfService)
			}
		}
	}
	for _, name := range p.Names {
		if _, err := netip.ParseAddr(name); err == nil && p.TLS.Mode == "certbot" {
			return fault.Config(`choose mode "self-signed", or "files"`, "certbot gives no certificate for an address, %s", name)
		}
	}
	slices.Sort(p.Names)
	p.Names = slices.Compact(p.Names)
	return nil
}

// Addresses are the certificate's names as OpenSSL writes them.
func (p *plan) Addresses() string {
	var list []string
	for _, name := range p.Names {
		kind := "DNS:"
		if _, err := netip.ParseAddr(name); err == nil {
			kind = "IP:"
		}
		list = append(list, kind+name)
	}
	return strings.Join(list, ",")
}
