// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// inspection is a look at a proxy machine, as one of its tenants has it.
type inspection struct {
	srv     *destination.Destination
	name    string // of the one app to look at; "": all
	visited string // what its visitors open; "": what the proxy says
	link    *sshlink.Link
	rows    []probe.Checked
}

// Machine logs in to cfg.Server, an account of a prepared proxy, and returns what it sees there, in the order of
// the chain: steps "login", "host key", "description", then what the account may do ("commands", "ports",
// "addresses", "files", "sockets"), then "slots", for each app "nginx", "stale links", and for
// each app "url" and "certificate".
// name is that of an app: that one alone; "": all.
//
// It changes nothing there, leaves nothing, and no tunnel of the account notices. Each step ends within 10 s. The error is
// one of cfg, or ctx's own; a login that fails is a finding.
func Machine(ctx context.Context, cfg destination.Config, name string) ([]probe.Checked, error) {
	srv, err := destination.Resolve(cfg)
	if err != nil {
		return nil, err
	}
	if err := proxyhost.CheckName(name); err != nil {
		return nil, err
	}
	ssh, err := srv.SSH()
	if err != nil {
		return nil, err
	}
	i := &inspection{srv: srv, name: name}
	i.link, err = sshlink.Dial(ctx, ssh)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		told := fault.From(err)
		i.fail("login", told.Hint, "%s", told.Error())
		return i.rows, nil
	}
	defer func() { _ = i.link.Close() }()
	i.ok("login", "as %s, with key SHA256:%s", srv.User, i.link.Key())
	var pin fault.Hint
	if cfg.HostKey != i.link.HostKey() {
		pin = fault.Hintf("to pin it: {host_key=%q}", i.link.HostKey())
	}
	i.add(probe.Checked{Step: "host key", OK: true, Hint: pin}, "%s", i.link.HostKey())
	text, err := i.describes(ctx, readTimeout)
	d := i.description(text, err)
	i.rights(ctx)
	if d != nil {
		i.apps(ctx, d)
	}
	return i.rows, ctx.Err()
}

const (
	lookTimeout = 10 * time.Second // bounds each step
	readTimeout = 5 * time.Second  // for the description
)

// step bounds a look, unless there is nothing to look at any more.
func (i *inspection) step(ctx context.Context, look func(context.Context)) {
	select {
	case <-i.link.Done():
		return
	default:
	}
	bounded(ctx, look)
}

func bounded(ctx context.Context, look func(context.Context)) {
	if ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		look(ctx)
	}
}

// add files what was seen. The machine's own words may be in it.
func (i *inspection) add(row probe.Checked, format string, args ...any) {
	row.Seen = fault.Printable(fmt.Sprintf(format, args...))
	i.rows = append(i.rows, row)
}

func (i *inspection) ok(step, format string, args ...any) {
	i.add(probe.Checked{Step: step, OK: true}, format, args...)
}

func (i *inspection) warn(step string, hint fault.Hint, format string, args ...any) {
	i.add(probe.Checked{Step: step, OK: true, Warn: true, Hint: hint}, format, args...)
}

func (i *inspection) fail(step string, hint fault.Hint, format string, args ...any) {
	i.add(probe.Checked{Step: step, Hint: hint}, format, args...)
}

const (
	setUpAgain = "have the machine set up again: taipy-tunnel proxy setup root@MACHINE FILE"
	tmpfiles   = "on the machine, as root: systemd-tmpfiles --create; or " + setUpAgain
)

// describes reads what the proxy says of itself.
func (i *inspection) describes(ctx context.Context, within time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return i.link.ReadFile(ctx, proxyhost.DescriptionPath, proxyhost.DescriptionMost)
}

// description is that of a prepared proxy; nil if what was read is none.
func (i *inspection) description(text []byte, err error) *proxyhost.Description {
	const step = "description"
	if err != nil && i.link.Ended() {
		told := fault.ShutOut(i.srv.String())
		if why := i.link.Err(); errors.Is(why, fault.ErrStalled) {
			told = fault.From(why)
		}
		i.fail(step, told.Hint, "%v", told.Err)
		return nil
	}
	if errors.Is(err, sshlink.ErrNoFile) {
		i.fail(step, "for a prepared proxy "+setUpAgain+", with this account among its tenants. On a plain one there is nothing to check from here: open a tunnel, and ask taipy_tunnel.doctor()",
			"%s shows no %s: it is an ordinary account, or its directory is empty", i.srv.User, proxyhost.DescriptionPath)
		return nil
	}
	var d *proxyhost.Description
	if err == nil {
		d, err = proxyhost.ParseDescription(text)
	}
	switch {
	case err != nil:
		i.fail(step, setUpAgain, "%s cannot be used: %v", proxyhost.DescriptionPath, err)
		return nil
	case d.Tenant != i.srv.User:
		i.fail(step, setUpAgain, "%s is that of %q", proxyhost.DescriptionPath, d.Tenant)
		return nil
	}
	names := fmt.Sprintf("%d apps", len(d.Apps))
	if len(d.Apps) == 1 {
		names = "1 app, " + d.Apps[0].Name
	}
	if d.SelfService != nil {
		names += ", and names of one's own choice"
	}
	i.ok(step, "version %d, %s", d.Version, names)
	if d.RepeatWithin == 0 {
		i.warn(step, setUpAgain, "an older version has set the machine up: nginx does not tell when a request came in, so that one which another tunnel had begun may run twice")
	}
	return d
}

// may files whether the account may do something that it should, or should not.
func (i *inspection) may(step string, should, may bool, err error, yes, no string) {
	hint := fault.Hintf(setUpAgain+"; if it stays so, another file of sshd's comes first (as root: sshd -T -C user=%s,host=x,addr=192.0.2.1)", i.srv.User)
	said := map[bool]string{true: yes, false: no}[may]
	switch {
	case err != nil:
		i.fail(step, "", "no answer: %v", err)
	case may != should:
		i.fail(step, hint, "%s", said)
	default:
		i.ok(step, "%s", said)
	}
}

func (i *inspection) commands(ctx context.Context) {
	may, err := i.link.MayRun(ctx)
	i.may("commands", false, may, err, "the account runs commands: who has its key has a shell", "the account runs none")
}

func (i *inspection) ports(ctx context.Context) {
	may, err := i.link.MayListen(ctx)
	i.may("ports", false, may, err, "the account may listen on TCP ports", "the account may listen on no TCP port")
}

// neverThere are addresses where nobody is: no packet leaves the machine for them.
var neverThere = []string{"127.0.0.1:9", "255.255.255.255:9"}

func (i *inspection) addresses(ctx context.Context) {
	for _, addr := range neverThere {
		if may, err := i.link.MayReach(ctx, addr); may || err != nil {
			i.may("addresses", false, may, err, "the account may connect to other addresses than its check port, such as "+addr, "")
			return
		}
	}
	i.may("addresses", false, false, nil, "", "the account may connect to none but its check port")
}

func (i *inspection) files(ctx context.Context) {
	may, err := i.link.MayWrite(ctx, "/taipy-tunnel-check-absent")
	i.may("files", false, may, err, "the account may change files by SFTP", "the account may change none")
}

func (i *inspection) sockets(ctx context.Context) {
	may, err := i.link.MayListenUnix(ctx)
	i.may("sockets", true, may, err, "the account may listen on unix sockets", "the account may not listen on unix sockets, so it can serve nothing")
}
