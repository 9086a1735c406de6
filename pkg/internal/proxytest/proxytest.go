// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package proxytest is for tests: it runs a prepared proxy, whose sshd and nginx read what proxyhost renders.
//
//	p := proxytest.Start(t, proxytest.Options{})
//	link, err := dial(p.Host, p.Port, p.User, p.KeyFile, p.Fingerprint())
//	resp, err := http.Get(p.URL("sales")) // through its nginx
//
// It has two declared apps, "sales" by path and "board" by host, and names of the tenant's own choice below
// apps.invalid; Neighbour is another tenant, with the app "theirs". Files and directories are as the script
// would make them, beside the machine's own; they end with the test. It needs root, and runs sshdtest and
// nginxtest, which say when a test is skipped.
package proxytest

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// Neighbour is a tenant with another account that every Linux has.
const Neighbour = "lp"

// Options are what a test wants to be different.
type Options struct {
	// SSHD is for sshd, besides what is rendered.
	SSHD sshdtest.Options
	// Edit changes each file that was rendered. Nil: none.
	Edit func(path, text string) string
	// Change changes what is rendered. Nil: nothing.
	Change func(*proxyhost.Host)
}

// Proxy is a running one.
type Proxy struct {
	*sshdtest.Server
	Layout proxyhost.Layout
	Files  proxyhost.Files // as Options.Edit left them
	HTTP   int             // nginx's port
	Nginx  *nginxtest.Server

	t testing.TB
}

// Start starts a proxy that ends with the test. What is left of the test then is an error.
func Start(t testing.TB, o Options) *Proxy {
	t.Helper()
	leak.Check(t)
	dir, err := os.MkdirTemp("", "rendered-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	run := fmt.Sprintf("/run/taipy-tunnel-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() { _, _ = os.RemoveAll(dir), os.RemoveAll(run) })
	p := &Proxy{t: t, Layout: proxyhost.Layout{Etc: dir + "/etc", Run: run, SSHD: dir + "/sshd.conf", Site: dir + "/site.conf", Log: dir, Cache: dir + "/cache",
		Tmpfiles: dir + "/tmpfiles", Limits: dir + "/limits", Unit: dir + "/unit", Loopback: true}}
	sshd := o.SSHD
	sshd.Tenant, sshd.Config = true, append([]string{"Include " + dir + "/sshd*.conf", "Subsystem sftp internal-sftp"}, sshd.Config...)
	p.Server = sshdtest.Start(t, sshd)
	p.HTTP = p.FreePort()
	host := p.host()
	if o.Change != nil {
		o.Change(&host)
	}
	p.Files, err = proxyhost.Render(host)
	must(t, err)
	for i, f := range p.Files {
		if o.Edit != nil {
			p.Files[i].Text = o.Edit(f.Path, f.Text)
		}
		must(t, os.MkdirAll(filepath.Dir(f.Path), 0o755))
		must(t, os.WriteFile(f.Path, []byte(p.Files[i].Text), 0o644))
	}
	p.directories()
	p.Restart()
	p.Nginx = nginxtest.Start(t, "include "+p.Layout.Site+";", p.HTTP, p.Check())
	return p
}

func (p *Proxy) host() proxyhost.Host {
	public, err := os.ReadFile(p.KeyFile + ".pub")
	must(p.t, err)
	return proxyhost.Host{HTTP: p.HTTP, Layout: p.Layout, Tenants: []proxyhost.Tenant{
		{Name: p.User, Keys: []string{string(public)}, Host: "127.0.0.1", SelfService: "apps.invalid", Check: p.FreePort(),
			Apps: []proxyhost.Declared{{Name: "sales"}, {Name: "board", Host: "board.invalid"}}},
		{Name: Neighbour, Keys: []string{string(public)}, Check: p.FreePort(), Apps: []proxyhost.Declared{{Name: "theirs", Host: "theirs.invalid"}}},
	}}
}

// directories makes what the rendered file of tmpfiles.d(5) says.
func (p *Proxy) directories() {
	for line := range strings.Lines(p.Files.Text(p.Layout.Tmpfiles)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		mode, err := strconv.ParseUint(f[2], 8, 32)
		must(p.t, err)
		switch f[0] {
		case "d":
			must(p.t, os.MkdirAll(f[1], 0o755))
		case "C":
			must(p.t, os.WriteFile(f[1], []byte(p.Files.Text(f[6])), 0o644))
		}
		uid, gid := 0, 0
		if account, err := user.Lookup(f[3]); err == nil {
			uid, _ = strconv.Atoi(account.Uid)
		}
		if group, err := user.LookupGroup(f[4]); err == nil { // nginx's has another name elsewhere; here it runs as root
			gid, _ = strconv.Atoi(group.Gid)
		}
		must(p.t, os.Chown(f[1], uid, gid))
		must(p.t, syscall.Chmod(f[1], uint32(mode))) // os.Chmod has other numbers for the setgid bit
	}
}

// Own is the tenant's directory, Slots that of its sockets.
func (p *Proxy) Own() string   { return filepath.Join(p.Layout.Run, p.User) }
func (p *Proxy) Slots() string { return filepath.Join(p.Own(), "s") }

// URL is where visitors open an app that has its name for a path.
func (p *Proxy) URL(app string) string { return fmt.Sprintf("http://127.0.0.1:%d/%s/", p.HTTP, app) }

// Check is the tenant's check port.
func (p *Proxy) Check() int {
	d, err := proxyhost.ParseDescription([]byte(p.Files.Text(p.Layout.Etc + "/proxy/" + p.User + ".json")))
	must(p.t, err)
	_, port, _ := strings.Cut(d.Check, ":")
	n, err := strconv.Atoi(port)
	must(p.t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
