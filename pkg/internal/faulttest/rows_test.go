// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"slices"
	"syscall"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
)

// row is a fault.
type row struct {
	name    string
	does    func(*field) // makes it, and returns when it is over
	fromEnd bool         // nothing can be served before it is over, so recovery counts from its end
	proof   string       // of the log line that says what happened; "": what nft has dropped
	sshd    []string     // options of the proxy's sshd
	rate    int          // requests a second; 0: perSecond
	far     func(*relay.Relay)
	back    time.Duration // ours serve again so soon after the end, and run nothing twice; 0: nothing is promised
	own     bool          // something that only a tunnel of ours can be told to do
	note    string        // why a system is not what a reader would expect
}

// field is where a fault is made. In a control nothing is.
type field struct {
	*system
	control bool
}

func (f *field) do(what func()) {
	if !f.control {
		what()
	}
}

// one is the link that serves, all are all.
func (f *field) one() []link { return f.all()[:1] }
func (f *field) all() []link { return f.net.links(f.slot) }

func (f *field) killed(links []link) {
	for _, l := range links {
		signal(l.pids, syscall.SIGKILL)
	}
}

// silent has links carry nothing for some time.
func (f *field) silent(links []link, d time.Duration) {
	f.do(func() { f.net.silence(links) })
	time.Sleep(d)
	f.do(f.net.recall)
}

func blocked(verdict string, d time.Duration) func(*field) {
	return func(f *field) {
		f.do(func() { f.net.block(verdict) })
		time.Sleep(d)
		f.do(f.net.open)
	}
}

func frozen(d time.Duration, names ...string) func(*field) {
	return func(f *field) {
		pids := named(names...)
		f.do(func() { signal(pids, syscall.SIGSTOP) })
		time.Sleep(d)
		f.do(func() { signal(pids, syscall.SIGCONT) })
	}
}

// shown is the row of docs/reliability/outage.svg.
const shown = "every link silent for 8 s"

const (
	lost  = `connection lost|Connection to 127\.0\.0\.1 closed|closed by remote host|Timeout, server|Connection reset|Broken pipe`
	clean = 5 * time.Second // new visitors served so long: the end

	pathBack = 2500 * time.Millisecond

	waits = "`ssh` does not notice, and keeps every visitor waiting until TCP gets through again: none fails who has the patience. " +
		"Ours gives the links up after 2 s and tells visitors so at once, until there are new ones."
)

var rows = slices.Concat([]row{
	{name: "app restarted, away for 1 s", does: restartApp, fromEnd: true, proof: `app broke off|prematurely closed`},
	{name: "sshd's child of one link killed", does: func(f *field) { f.do(func() { f.killed(f.one()) }) }, proof: lost},
	{name: "sshd's child of every link killed", does: func(f *field) { f.do(func() { f.killed(f.all()) }) }, proof: lost},
	{name: "sshd's listener restarted, away for 1 s", does: restartListener, proof: `Server listening`},
	{name: "sshd killed with its links, away for 5 s", does: restartSSHD, fromEnd: true, proof: lost},
	{name: "one link reset", does: func(f *field) { f.do(func() { f.net.reset(f.one()) }) }, proof: lost},
	{name: "every link reset", does: func(f *field) { f.do(func() { f.net.reset(f.all()) }) }, proof: lost},
	{name: "one link silent for 30 s", does: func(f *field) { f.silent(f.one(), 30*time.Second) }, proof: lost},
	{name: "every link silent for 8 s", does: func(f *field) { f.silent(f.all(), 8*time.Second) }, proof: lost, note: waits},
	{name: "every link silent for 30 s", does: func(f *field) { f.silent(f.all(), 30*time.Second) }, proof: lost},
	{name: "every link silent for ever", does: func(f *field) { f.do(func() { f.net.silence(f.all()) }) }, proof: lost},
	{name: "path silent for 5 s", does: blocked("drop", 5*time.Second), fromEnd: true, proof: lost, note: waits, back: pathBack},
	{name: "path silent for 40 s", does: blocked("drop", 40*time.Second), fromEnd: true, proof: lost, back: pathBack},
	{name: "path rejected by ICMP for 12 s", does: blocked("reject with icmp type host-unreachable", 12*time.Second), fromEnd: true, proof: lost, back: pathBack},
	{name: "proxy frozen for 60 s", does: frozen(60*time.Second, "sshd", "nginx"), fromEnd: true, proof: lost},
	{name: "notebook frozen for 60 s", does: frozen(60*time.Second, clients...), fromEnd: true},
	{name: "nginx restarted", does: func(f *field) { f.do(f.restartNginx) }, fromEnd: true, proof: `SIGTERM`},
	{name: "notebook's address changes", does: changeAddress, proof: `Connection from 127\.0\.0\.9`},
}, more)

func restartApp(f *field) {
	f.do(f.app.stop)
	time.Sleep(time.Second)
	f.do(f.app.start)
}

// restartListener kills the one process that takes new connections. Links are processes of their own, and live.
func restartListener(f *field) {
	f.do(func() { signal([]int{f.sshd.Listener()}, syscall.SIGKILL) })
	time.Sleep(time.Second)
	f.do(f.sshd.Restart)
}

func restartSSHD(f *field) {
	f.do(f.sshd.Stop)
	time.Sleep(5 * time.Second)
	f.do(f.sshd.Restart)
}

// changeAddress is a notebook that gets another address: what was open goes nowhere any more.
func changeAddress(f *field) {
	f.do(func() {
		f.net.silence(f.all())
		f.net.sources("127.0.0.9")
	})
}
