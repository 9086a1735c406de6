// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// place is where a tunnel's visitors arrive. On a plain proxy it is known beforehand, on a prepared
// one when the first link has read the proxy's description of itself.
type place struct {
	known    bool
	prepared bool
	name     string     // of the app, on a prepared proxy
	url      string     // what visitors open
	slots    []net.Addr // to all of which nginx sends them
	slotwise bool       // each slot can be asked for at an address of its own there
	check    string     // "127.0.0.1:port": the one address that a tenant may open, answering questions at the URL; "": nginx's own port
}

// identity tells the tunnel from others of its server.
func (p *place) identity() string {
	if p.name != "" {
		return p.name
	}
	return p.slots[0].String()
}

// same reports whether visitors arrive there in the same way.
func (p *place) same(o *place) bool {
	return p.prepared == o.prepared && p.url == o.url && p.check == o.check &&
		slices.EqualFunc(p.slots, o.slots, func(a, b net.Addr) bool { return a.String() == b.String() })
}

// firstPlace is what is known before there is a link. given: the configuration names a slot of a
// plain proxy.
func (cfg *Config) firstPlace(given bool) *place {
	return &place{known: given, url: cfg.URL, slots: []net.Addr{cfg.slot()}}
}

// readTimeout bounds the reading of a description: seven round trips, and a server that begins a process. What is not
// told by then is not told: it is no plain proxy for that.
const readTimeout = 15 * time.Second

// find learns from the proxy, over a link that has just logged in, where visitors arrive. Without a
// description it is a plain one.
func (cfg *resolved) find(ctx context.Context, l *sshlink.Link) (*place, error) {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	text, err := l.ReadFile(reading, proxyhost.DescriptionPath, proxyhost.DescriptionMost)
	if errors.Is(err, sshlink.ErrNoFile) {
		return cfg.plain()
	}
	if err != nil {
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
	p := &place{known: true, prepared: true, name: app.Name, url: app.URL, check: d.Check, slotwise: d.CheckSlots}
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

// plain is the place of a proxy that does not describe itself.
func (cfg *Config) plain() (*place, error) {
	switch {
	case cfg.Name != "":
		return nil, fault.Config("leave name= out; on a plain proxy remote= says to which port nginx sends visitors",
			"name %s is for a prepared proxy, and this one has no description of itself", fault.Quote(cfg.Name))
	case len(cfg.Allow) > 0:
		return nil, fault.Config("leave allow= out, or have the proxy's admin restrict addresses in nginx (allow, deny)",
			"allow needs a proxy that is known to overwrite the visitor's address; here a visitor could forge it")
	}
	return cfg.firstPlace(true), nil
}
