// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// App is one of an account of a prepared proxy, as that has it now.
type App struct {
	Name string `json:"name"`
	// URL is what visitors open.
	URL string `json:"url"`
	// Up: a tunnel answers there.
	Up bool `json:"up"`
	// Since is when the link came that has served it longest of those that do, by the proxy's clock. Zero: it is not up, or that is not known.
	Since time.Time `json:"since,omitzero"`
}

// Account is an account of a prepared proxy, with its apps: those that were declared, in their order, and those of its own choice, 100 at most,
// of which there are sockets.
type Account struct {
	Server string `json:"server"` // "user@host:port"
	Key    string `json:"key"`    // that has logged in, "SHA256:…"
	Apps   []App  `json:"apps"`
}

// mostFiles are those of an account's directory of sockets: it may make some thousands.
const mostFiles = 20000

// Status logs in to cfg.Server, an account of a prepared proxy, and asks there which of its apps are up. No tunnel notices.
func Status(ctx context.Context, cfg destination.Config) (*Account, error) {
	ctx, cancel := context.WithTimeout(ctx, lookMost)
	defer cancel()
	srv, err := destination.Resolve(cfg)
	if err != nil {
		return nil, err
	}
	ssh, err := srv.SSH()
	if err != nil {
		return nil, err
	}
	i := &inspection{srv: srv}
	if i.link, err = sshlink.Dial(ctx, ssh); err != nil {
		return nil, err
	}
	defer func() { _ = i.link.Close() }()
	text, err := i.describes(ctx, readTimeout)
	if errors.Is(err, sshlink.ErrNoFile) {
		return nil, fault.Config("on a plain one look at what is shown: taipy-tunnel doctor", "%s is not an account of a prepared proxy", srv.String())
	}
	if err != nil {
		return nil, err
	}
	d, err := proxyhost.ParseDescription(text)
	if err != nil {
		return nil, fault.Described(srv.String(), err)
	}
	a := &Account{Server: srv.String(), Key: "SHA256:" + i.link.Key(), Apps: []App{}}
	files := map[string]sshlink.FileInfo{} // sockets, by their whole path
	for _, dir := range directories(d) {
		listed, err := i.link.List(ctx, dir, mostFiles)
		if err != nil && !errors.Is(err, sshlink.ErrNoFile) { // which doctor complains of
			return nil, fault.Undescribed(srv.String(), err)
		}
		for name, info := range listed {
			files[path.Join(dir, name)] = info
		}
	}
	for _, app := range append(slices.Clone(d.Apps), chosen(d, files)...) {
		a.Apps = append(a.Apps, i.state(ctx, d.Check, app, files))
	}
	return a, ctx.Err()
}

// directories are those in which an account's sockets are.
func directories(d *proxyhost.Description) (dirs []string) {
	add := func(slots []string) {
		for _, slot := range slots {
			if dir := path.Dir(slot); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	for _, app := range d.Apps {
		add(app.Slots)
	}
	if d.SelfService != nil {
		add(d.SelfService.Slots)
	}
	return dirs
}

// chosen are the apps of an account's own choice of which there are sockets.
func chosen(d *proxyhost.Description, files map[string]sshlink.FileInfo) (apps []proxyhost.App) {
	if d.SelfService == nil {
		return nil
	}
	before, after, _ := strings.Cut(d.SelfService.Slots[0], "{name}")
	for _, file := range slices.Sorted(maps.Keys(files)) {
		name, is := strings.CutPrefix(file, before)
		name, ends := strings.CutSuffix(name, after)
		declared := slices.ContainsFunc(d.Apps, func(a proxyhost.App) bool { return a.Name == name })
		if !is || !ends || declared || !proxyhost.NamePattern.MatchString(name) || len(apps) == mostChosen {
			continue
		}
		if app, err := d.Find(name); err == nil {
			apps = append(apps, app)
		}
	}
	return apps
}

// mostChosen names are asked for: sockets stay when their tunnels have gone.
const mostChosen = 100

// state asks at the check port whether a tunnel answers.
func (i *inspection) state(ctx context.Context, check string, app proxyhost.App, files map[string]sshlink.FileInfo) App {
	a := App{Name: app.Name, URL: app.URL}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	f := i.ask(ctx, app, func(ctx context.Context, _, _ string) (net.Conn, error) { return i.link.Dial(ctx, check) })
	if a.Up = isTunnel(f); !a.Up {
		return a
	}
	for _, slot := range app.Slots {
		if at := files[slot].Modified; !at.IsZero() && (a.Since.IsZero() || at.Before(a.Since)) {
			a.Since = at
		}
	}
	return a
}
