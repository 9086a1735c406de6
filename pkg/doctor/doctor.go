// SPDX-License-Identifier: Apache-2.0

// Package doctor looks along the chain from the settings of a tunnel to what visitors see, without opening one, and says of each step
// what was seen.
//
//	rows := doctor.Look(ctx, tunnel.Config{Server: tunnel.Servers{"me@203.0.113.7"}, Target: "localhost:8501"}, nil)
//	rows, err := doctor.Machine(ctx, destination.Config{Server: "sales@203.0.113.7"}, "") // a prepared proxy, as one of its accounts has it
//
// The first row that is not OK is the culprit. What could not be looked at because of it is Skipped.
//
// Promises. It harms nothing: it logs in once, and after a refused login not again; it listens on the port of a plain proxy
// only if that is free, for as long as it takes to ask who is led there, and on no name of a prepared one; visitors who come meanwhile
// are told that no app is there, as before. It sends small requests, and nothing that is secret.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// examination is a look along the chain of one tunnel.
type examination struct {
	inspection
	cfg   tunnel.Config
	ssh   sshlink.Config
	found string        // addresses of the proxy's name
	set   tunnel.Config // completed
}

// Look looks at what Expose would open with cfg. origin says where the value of a setting came from, by its name in JSON ("TAIPY_TUNNEL_SERVER");
// one that is not in it was left out.
//
// The steps are, in this order, "settings", "app"; on the way "name", "connection", "ssh" (the proxy's first words), or "way" in place of the
// first two where machines or an egress proxy are on it, "host key", "login"; then, on a plain proxy, "slot", "url", "page", "websocket",
// "uploads", "buffering", "certificate" and "clock", on a prepared one those of Machine from "description" on.
//
// It takes a minute at most, or until ctx ends; then the last row says so.
func Look(ctx context.Context, cfg tunnel.Config, origin map[string]string) []probe.Checked {
	ctx, cancel := context.WithTimeout(ctx, lookMost)
	defer cancel()
	e := &examination{cfg: cfg}
	if !e.settings(ctx, origin) {
		e.skip("see the row settings", "app", "name", "connection", "ssh", "host key", "login", "slot", "url")
		return e.rows
	}
	e.part(ctx, e.app)
	reached := false
	e.part(ctx, func(ctx context.Context) { reached = e.reach(ctx) })
	if e.link != nil {
		defer func() { _ = e.link.Close() }()
	}
	if reached {
		e.proxy(ctx)
	}
	if ctx.Err() != nil {
		e.fail("doctor", "run it again", "it was ended before all was looked at")
	}
	return e.rows
}

const lookMost = time.Minute

// part is a part of the look. What it saw while it was ended does not count.
func (e *examination) part(ctx context.Context, look func(context.Context)) {
	if ctx.Err() != nil {
		return
	}
	before := len(e.rows)
	if look(ctx); ctx.Err() != nil {
		e.rows = e.rows[:before]
	}
}

// described is for how long a proxy may take to say what it is: as for a tunnel that is opened.
const described = 15 * time.Second

// proxy looks at the proxy, which is a plain one if a slot of it was named, or it says nothing of itself.
func (e *examination) proxy(ctx context.Context) {
	if e.cfg.Remote != 0 || e.cfg.RemoteSocket != "" || e.srv.Remote != 0 {
		e.plain(ctx)
		return
	}
	var text []byte
	var err error
	e.part(ctx, func(ctx context.Context) {
		if text, err = e.describes(ctx, described); err != nil && !errors.Is(err, sshlink.ErrNoFile) && !e.link.Ended() {
			e.told("description", fault.Undescribed(e.srv.String(), err))
			e.skip("see the row description", "slots", "nginx", "url")
		}
	})
	switch {
	case errors.Is(err, sshlink.ErrNoFile):
		e.plain(ctx)
	case err == nil || e.link.Ended():
		e.part(ctx, func(ctx context.Context) { e.prepared(ctx, text, err) })
	}
}

// skip files steps that are not looked at, and why.
func (i *inspection) skip(because string, steps ...string) {
	for _, step := range steps {
		i.rows = append(i.rows, skipped(step, because))
	}
}

func skipped(step, because string) probe.Checked {
	return probe.Checked{Step: step, Skipped: true, Seen: "skipped: " + because}
}

// told files an error as what has failed.
func (i *inspection) told(step string, err error) {
	e := fault.From(err)
	i.fail(step, e.Hint, "%s", e.Err.Error())
}

// settings validates what can be validated without the network, and says where it came from.
func (e *examination) settings(ctx context.Context, origin map[string]string) bool {
	const step = "settings"
	to, err := e.cfg.Destination()
	if err == nil {
		e.srv, err = destination.Resolve(to)
	}
	if err == nil {
		e.set, err = e.cfg.Resolved()
	}
	if err == nil {
		e.ssh, err = e.srv.SSH() // which reads the keys
	}
	if err == nil {
		err = e.keys(ctx)
	}
	if err != nil {
		e.told(step, err)
		return false
	}
	said := []string{"server " + e.srv.String() + from(origin, "server")}
	if e.cfg.Name != "" {
		said = append(said, "name "+e.cfg.Name+from(origin, "name"))
	}
	if e.cfg.Remote != 0 || e.cfg.RemoteSocket != "" {
		said = append(said, "remote "+e.slot()+from(origin, "remote"))
	}
	if e.cfg.URL != "" {
		said = append(said, "url "+e.set.URL+from(origin, "url"))
	}
	for _, name := range []string{"key", "host_key", "jump", "via", "access"} { // whose values may be secrets
		if origin[name] != "" {
			said = append(said, name+from(origin, name))
		}
	}
	e.ok(step, "%s", strings.Join(said, ", "))
	return true
}

// keys are an error if there is none to log in with.
func (e *examination) keys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	login, err := e.ssh.Keys.Login(ctx)
	if err == nil {
		login.Close()
	}
	return err
}

func from(origin map[string]string, name string) string {
	if origin[name] == "" {
		return ""
	}
	return " (" + origin[name] + ")"
}

// slot is where visitors of a plain proxy arrive.
func (e *examination) slot() string {
	if e.set.RemoteSocket != "" {
		return "socket " + fault.Quote(e.set.RemoteSocket)
	}
	return fmt.Sprintf("port %d", e.set.Remote)
}

// stages are the steps of the way to the proxy, each with what an error of it is called (fault.Error's Op).
var stages = []struct {
	step string
	ops  []string
}{
	{"name", []string{"resolve"}},
	{"connection", []string{"connect", "tls"}},
	{"ssh", []string{"banner", "handshake"}},
	{"host key", []string{"host key"}},
	{"login", nil},
}

// stage is which of them an error is of.
func stage(steps []string, err error) int {
	e := fault.From(err)
	if steps[0] == "way" && (strings.HasPrefix(e.Op, "via") || strings.HasPrefix(e.Op, "jump ") || slices.Contains([]string{"resolve", "connect", "tls"}, e.Op)) {
		return 0
	}
	for _, s := range stages {
		if at := slices.Index(steps, s.step); at >= 0 && slices.Contains(s.ops, e.Op) {
			return at
		}
	}
	return len(steps) - 1
}

// reach logs in, once, and says how far it came.
func (e *examination) reach(ctx context.Context) bool {
	steps := []string{"name", "connection", "ssh", "host key", "login"}
	if !e.srv.Direct() {
		steps = []string{"way", "ssh", "host key", "login"}
	}
	at := len(steps)
	if e.srv.Direct() {
		e.found = e.resolved(ctx)
	}
	var err error
	if e.link, err = sshlink.Dial(ctx, e.ssh); err != nil {
		at = stage(steps, err)
	}
	for n, step := range steps {
		switch {
		case n < at:
			e.ok(step, "%s", e.passed(step))
		case n == at:
			e.told(step, err)
			e.skip("see the row "+step, append(slices.Clone(steps[n+1:]), "slot", "url")...)
			return false
		}
	}
	return true
}

// resolved is what the proxy's name leads to. Where it leads nowhere sshlink says so.
func (e *examination) resolved(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, e.srv.Host)
	if err != nil {
		return "a name"
	}
	return strings.Join(found, ", ")
}

// passed says of a step of the way what was seen there.
func (e *examination) passed(step string) string {
	server := e.srv.String()
	_, address, _ := strings.Cut(server, "@")
	switch {
	case step == "name":
		return e.srv.Host + " is " + e.found
	case step == "way":
		return address + " is reached past what is on the way"
	case step == "connection":
		return address + " takes connections"
	case e.link == nil && step == "ssh":
		return address + " speaks SSH"
	case e.link == nil:
		return address + " has a host key that is known"
	case step == "ssh":
		return fmt.Sprintf("%s is %s, %v away and back", address, e.link.ServerVersion(), e.link.RoundTrip().Round(100*time.Microsecond))
	case step == "host key":
		return e.link.HostKey()
	}
	return fmt.Sprintf("as %s, with key SHA256:%s", e.srv.User, e.link.Key())
}

// prepared looks at a prepared proxy, for the one app.
func (e *examination) prepared(ctx context.Context, text []byte, err error) {
	d := e.description(text, err)
	if d != nil {
		app, err := d.Find(e.cfg.Name)
		if err != nil {
			e.told("description", fault.NoSuchName(e.srv.String(), err))
			d = nil
		}
		if e.name = app.Name; e.cfg.URL != "" {
			e.visited = e.set.URL
		}
	}
	e.rights(ctx)
	if d == nil {
		e.skip("see the row description", "slots", "nginx", "url")
		return
	}
	e.apps(ctx, d)
}

// rights are those of an account of a prepared proxy.
func (i *inspection) rights(ctx context.Context) {
	for _, look := range []func(context.Context){i.commands, i.ports, i.addresses, i.files, i.sockets} {
		i.step(ctx, look)
	}
}

// app looks at the app itself, from here.
func (e *examination) app(ctx context.Context) {
	const step = "app"
	addr := e.set.Target
	if addr == "" {
		e.warn(step, "name it, {target=\"127.0.0.1:5000\"}, once it runs", "no app was named")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := (probe.App{Addr: addr, Raw: e.cfg.Raw}).Answers(ctx); err != nil {
		e.told(step, fault.AppRefused(addr, err))
		return
	}
	e.ok(step, "%s answers", addr)
}
