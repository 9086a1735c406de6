// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// freeName stands for the names of a tenant's own choice. Nobody is likely to have it.
const freeName = "taipy-tunnel-check"

// apps looks at what nginx has of each app, from the proxy and from here.
func (i *inspection) apps(ctx context.Context, d *proxyhost.Description) {
	apps := d.Apps
	if i.name != "" || len(apps) == 0 {
		name := i.name
		if name == "" {
			name = freeName
		}
		app, err := d.Find(name)
		if err != nil {
			i.fail("description", "", "%v", err)
			return
		}
		apps = []proxyhost.App{app}
	} else if d.SelfService != nil {
		if app, err := d.Find(freeName); err == nil {
			apps = append(apps, app)
		}
	}
	seen := map[string]bool{}
	once := func(what string) bool { defer func() { seen[what] = true }(); return !seen[what] }
	for _, app := range apps {
		if dir := path.Dir(app.Slots[0]); once(dir) {
			i.step(ctx, func(ctx context.Context) { i.slots(ctx, dir) })
		}
	}
	if d.Check == "" {
		i.fail("nginx", setUpAgain, "the description names no check port")
	} else {
		answers := false
		i.step(ctx, func(ctx context.Context) { answers = i.nginx(ctx, d.Check, apps) })
		if answers {
			i.step(ctx, func(ctx context.Context) { i.stale(ctx, d) })
		}
	}
	for _, app := range apps {
		app.URL = cmp.Or(i.visited, app.URL)
		i.step(ctx, func(ctx context.Context) { i.url(ctx, app) })
		if u, err := url.Parse(app.URL); err == nil && u.Scheme == "https" && once(u.Host) {
			i.step(ctx, func(ctx context.Context) { i.certificate(ctx, u) })
		}
	}
}

func (i *inspection) slots(ctx context.Context, dir string) {
	info, err := i.link.Stat(ctx, dir)
	complain := func(format string, args ...any) { i.fail("slots", tmpfiles, format, args...) }
	switch {
	case errors.Is(err, sshlink.ErrNoFile):
		complain("the directory %s of the sockets is missing", dir)
	case err != nil:
		complain("no answer: %v", err)
	case !info.Mode.IsDir():
		complain("%s is no directory", dir)
	case info.UID == 0 && i.srv.User != "root", info.Mode&0o300 != 0o300:
		complain("%s is not the account's to write to (%v, owner %d)", dir, info.Mode, info.UID)
	case info.Mode&fs.ModeSetgid == 0:
		complain("%s is not setgid, so nginx may not open what is made there (%v)", dir, info.Mode)
	case info.Mode&0o007 != 0:
		complain("%s is open to everybody on the machine, who could go around nginx (%v)", dir, info.Mode)
	default:
		i.ok("slots", "%s is the account's, and nginx's group gets in", dir)
	}
}

// ask asks a URL whether a tunnel is there, as one that is not would.
func (i *inspection) ask(ctx context.Context, app proxyhost.App, dial func(context.Context, string, string) (net.Conn, error)) probe.Finding {
	u, err := url.Parse(app.URL)
	if err != nil {
		return probe.Finding{Kind: probe.Unreachable, Answer: "not a URL"}
	}
	if dial != nil {
		u.Scheme = "http"
	}
	return probe.URL(ctx, probe.Question{URL: u.JoinPath(gate.Path).String(), Ask: rand.Text(), Reply: rand.Text(),
		Exposed: probe.Exposed{ID: rand.Text()}, Once: true, AnyCertificate: true, Dial: dial})
}

// nginx asks at the check port, where nothing but the question is answered, and reports whether anything answers.
func (i *inspection) nginx(ctx context.Context, check string, apps []proxyhost.App) bool {
	const step, reload = "nginx", "on the machine, as root: nginx -t, systemctl reload-or-restart nginx; or " + setUpAgain
	if may, err := i.link.MayReach(ctx, check); err != nil || !may {
		i.may(step, true, may, err, "", "the account may not connect to its check port, "+check)
		return false
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return i.link.Dial(ctx, check) }
	for _, app := range apps {
		switch f := i.ask(ctx, app, dial); {
		case f.Kind == probe.Unreachable:
			i.fail(step, reload, "nothing answers at %s: nginx does not run, or has not loaded the site", check)
			return false
		case f.Unknown:
			i.fail(step, reload, "%s: nginx runs, but does not know it", app.Name)
		default:
			i.ok(step, "%s: nginx knows it; %s", app.Name, nowThere(f))
		}
	}
	return true
}

func nowThere(f probe.Finding) string {
	switch {
	case f.Kind == probe.Newer, f.Kind == probe.Older, f.Kind == probe.Another:
		return "a tunnel answers now"
	case strings.HasPrefix(f.Answer, "503"):
		return "no tunnel is open now"
	}
	return "it answers " + f.Answer
}

// url asks what visitors open, from here.
func (i *inspection) url(ctx context.Context, app proxyhost.App) {
	const step = "url"
	switch f := i.ask(ctx, app, nil); {
	case f.Kind == probe.Unreachable:
		i.fail(step, shut(app.URL, f), "%s cannot be opened from here: %s", app.URL, f.Answer)
	case f.Unknown:
		i.fail(step, "its name must resolve to this machine: another nginx answers, or this one has not loaded the site", "%s leads to an nginx that does not know it", app.URL)
	case f.Kind == probe.Guarded:
		i.warn(step, "a login or another host stands before it, so it cannot be told whether it leads there: open it", "%s answers %s", app.URL, f.Answer)
	case (f.Kind == probe.Elsewhere || f.Kind == probe.Nobody) && !strings.HasPrefix(f.Answer, "503"):
		i.warn(step, "it may lead elsewhere: its name must resolve to this machine", "%s answers %s", app.URL, f.Answer)
	default:
		i.ok(step, "%s can be opened from here; %s", app.URL, nowThere(f))
	}
}

// shut is what to do about a URL that cannot be opened from here.
func shut(site string, f probe.Finding) fault.Hint {
	const elsewhere = "; if only visitors get there, open it from where they are"
	u, err := url.Parse(site)
	if err != nil {
		return ""
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	_, unknown := errors.AsType[*net.DNSError](f.Err)
	switch {
	case unknown:
		return fault.Hintf("have the name %s lead to the machine (DNS)", u.Hostname()) + elsewhere
	case f.Refused():
		return fault.Hintf("nothing listens on port %s there: on the machine, as root, systemctl status nginx; or %s leads to another machine", port, u.Hostname())
	case fault.IsTimeout(f.Err):
		return fault.Hintf("nothing comes back from port %s, as where a firewall drops what it gets: let the port in, in a cloud by the security group or firewall rule of the machine", port) + elsewhere
	}
	return "its name must resolve to the machine, and firewalls must let the port in" + elsewhere
}

// Visitors looks from here at what visitors open, without a login: steps "url" and, of https, "certificate". The way to the machine is used for its authorities
// alone (SSL_CERT_FILE). The error is one of cfg.
func Visitors(ctx context.Context, cfg destination.Config, urls []string) ([]probe.Checked, error) {
	srv, err := destination.Resolve(cfg)
	if err != nil {
		return nil, err
	}
	i := &inspection{srv: srv}
	seen := map[string]bool{}
	for _, site := range urls {
		bounded(ctx, func(ctx context.Context) { i.url(ctx, proxyhost.App{URL: site}) })
		if u, err := url.Parse(site); err == nil && u.Scheme == "https" && !seen[u.Host] {
			seen[u.Host] = true
			bounded(ctx, func(ctx context.Context) { i.certificate(ctx, u) })
		}
	}
	return i.rows, ctx.Err()
}

// renewDays before a certificate ends it should have been renewed: certbot does at 30.
const renewDays = 14

func (i *inspection) certificate(ctx context.Context, u *url.URL) {
	const step = "certificate"
	c, err := probe.SiteCertificate(ctx, u.String(), i.srv.Roots())
	left := time.Until(c.Until)
	until := fmt.Sprintf("until %s (%d days)", c.Until.UTC().Format(time.DateOnly), int(left.Hours()/24))
	switch {
	case err != nil:
		i.warn(step, "", "%s: it cannot be seen from here: %v", u.Host, err)
	case left <= 0 || time.Now().Before(c.From):
		i.fail(step, "renew it (certbot renew; by itself: systemctl status certbot.timer), or look at the machine's clock",
			"%s: it is valid from %s to %s", u.Host, c.From.UTC().Format(time.DateOnly), c.Until.UTC().Format(time.DateOnly))
	case c.Name != nil:
		i.fail(step, "have one made for this name", "%s: it is not for this name: %v", u.Host, c.Name)
	case c.Trust != nil && c.SelfSigned:
		i.warn(step, `browsers warn of it: get one by tls mode "certbot" or "files"`, "%s: self-signed, %s", u.Host, until)
	case c.Trust != nil:
		i.warn(step, "an authority of your own must be known to visitors' browsers, and the whole chain be in the file", "%s: nobody known here vouches for it, but %.60q; %s", u.Host, c.Issuer, until)
	case left < renewDays*24*time.Hour:
		i.warn(step, "renew it (certbot renew; by itself: systemctl status certbot.timer)", "%s: %s", u.Host, until)
	default:
		i.ok(step, "%s: %s, by %.60q", u.Host, until, c.Issuer)
	}
}
