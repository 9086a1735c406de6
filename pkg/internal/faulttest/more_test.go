// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// more are faults that take more than a line.
var more = []row{
	{name: "proxy rebooted, away for 8 s", does: reboot, fromEnd: true, proof: lost},
	{name: "path up and down each 200 ms for 15 s", does: flap, fromEnd: true},
	{name: "every link killed, and MaxStartups full for 5 s", does: full, fromEnd: true, proof: `MaxStartups|past Startups|Connection reset|kex_exchange_identification`,
		sshd: []string{"MaxStartups 2:100:2"}},
	{name: "every link killed, and no key accepted for 5 s", does: keyless, fromEnd: true, proof: `Permission denied|Failed publickey|refused`},
	{name: "sshd out of descriptors for 10 s", does: withoutDescriptors, fromEnd: true, proof: `Too many open files`},
	{name: "notebook out of descriptors for 10 s", does: func(f *field) { f.starve(named(clients...)) }, fromEnd: true, proof: `(?i)too many open files`},
	{name: "20 requests that take the app 10 s", does: slow},
	{name: "new keys each second for 20 s", does: rekeyed, proof: `rekeying|rekey_count|SSH2_MSG_NEWKEYS`, sshd: []string{"RekeyLimit 1M 1s"}},
	{name: "notebook killed, another one after 1 s", does: replaced, fromEnd: true, proof: `Connection (closed|reset) by|Read error from`},
	{name: "notebook frozen, another one after 1 s", does: frozenAndReplaced, fromEnd: true, proof: `Accepted publickey`},
	{name: "another notebook, while the first lives", does: func(f *field) { f.do(f.connect) }, proof: `replaced|Accepted publickey`, own: true},
	{name: "reconnect()", does: func(f *field) { f.do(func() { f.calls("reconnect") }) }, proof: `reconnect|Accepted publickey`, own: true},
	{name: "expose() with another argument", does: func(f *field) { f.do(func() { f.calls(`change {"via": "none"}`) }) }, proof: `Accepted publickey`, own: true},
	{name: "500 half requests for 20 s", does: halves},
	{name: "1000 more websockets for 20 s", does: pages},
	{name: "20 readers of 100 MB who do not read, 20 s", does: stalled},
	{name: "six downloads, 1 MiB/s, 300 ms away, 60 s", does: downloads, rate: 20, note: "Visitors share the line with the downloads, so they are late. What counts is that no link is ended.",
		far: func(r *relay.Relay) { r.Delay(150 * time.Millisecond); r.Rate(1 << 20) }},
}

// calls is a call in the notebook, which returns when that has.
func (f *field) calls(line string) {
	f.tell("%s", line)
	f.hear(func(a answer) bool { return a.Done })
}

// reboot leaves nothing of what was in /run but what tmpfiles.d(5) makes.
func reboot(f *field) {
	f.do(func() {
		f.sshd.Stop()
		f.nginx.Stop()
		if f.proxy != nil {
			left, _ := filepath.Glob(f.proxy.Slots() + "/*")
			for _, path := range left {
				_ = os.Remove(path)
			}
		}
	})
	time.Sleep(8 * time.Second)
	f.do(func() {
		f.nginx.Again()
		f.sshd.Restart()
	})
}

func flap(f *field) {
	for range 37 {
		f.do(func() { f.net.block("drop") })
		time.Sleep(200 * time.Millisecond)
		f.do(f.net.open)
		time.Sleep(200 * time.Millisecond)
	}
}

// full has two strangers take the two connections that sshd lets log in at a time.
func full(f *field) {
	var strangers []net.Conn
	links := f.all()
	f.do(func() {
		for range 2 {
			c, err := net.Dial("tcp", f.sshd.Addr())
			must(f.t, err)
			strangers = append(strangers, c)
		}
		time.Sleep(100 * time.Millisecond)
		f.killed(links)
	})
	time.Sleep(5 * time.Second)
	for _, c := range strangers {
		_ = c.Close()
	}
}

func keyless(f *field) {
	path := filepath.Join(filepath.Dir(f.sshd.KeyFile), "authorized_keys")
	if f.proxy != nil {
		path = filepath.Join(f.proxy.Layout.Etc, "keys", f.sshd.User)
	}
	text, err := os.ReadFile(path)
	must(f.t, err)
	f.do(func() {
		must(f.t, os.WriteFile(path, nil, 0o644))
		f.killed(f.all())
	})
	time.Sleep(5 * time.Second)
	must(f.t, os.WriteFile(path, text, 0o644))
}

func withoutDescriptors(f *field) {
	var pids []int
	for _, l := range f.all() {
		pids = append(pids, l.pids...)
	}
	f.starve(pids)
}

// starve has processes open nothing more for 10 s.
func (f *field) starve(pids []int) {
	feed := func() {}
	f.do(func() { feed = sshdtest.Starve(f.t, pids) })
	time.Sleep(10 * time.Second)
	feed()
}

func rekeyed(f *field) { time.Sleep(20 * time.Second) }

// clients are the names of what leads to the proxy.
var clients = []string{"python3", "python", "ssh", "autossh"}

// frozenAndReplaced leaves the first one frozen until the end.
func frozenAndReplaced(f *field) {
	f.do(func() { signal(named(clients...), syscall.SIGSTOP) })
	time.Sleep(time.Second)
	f.do(f.connect)
}

func replaced(f *field) {
	f.do(func() { signal(named(clients...), syscall.SIGKILL) })
	time.Sleep(time.Second)
	f.do(f.connect)
}

// visitors have so many more connections to nginx, which begin with what is told.
func (f *field) visitors(n int, head string) (all []net.Conn) {
	rest, _ := strings.CutPrefix(f.url, "http://")
	host, path, _ := strings.Cut(rest, "/")
	for range n {
		c, err := net.Dial("tcp", host)
		must(f.t, err)
		f.t.Cleanup(func() { _ = c.Close() })
		_, _ = fmt.Fprintf(c, head, path, host, f.token)
		all = append(all, c)
	}
	return all
}

func halves(f *field) {
	f.do(func() { f.visitors(500, "GET /%s HTTP/1.1\r\nHost: %s\r\nX-%s") })
	time.Sleep(20 * time.Second)
}

func pages(f *field) {
	f.do(func() {
		f.visitors(1000, "GET /%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	})
	time.Sleep(20 * time.Second)
}

const download = "GET /%s?size=100000000 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n"

func slow(f *field) {
	f.do(func() { f.visitors(20, strings.Replace(download, "size=100000000", "takes=10s", 1)) })
	time.Sleep(12 * time.Second)
}

func stalled(f *field) {
	f.do(func() { f.visitors(20, download) })
	time.Sleep(20 * time.Second)
}

func downloads(f *field) {
	var reading sync.WaitGroup
	defer reading.Wait()
	f.do(func() {
		for _, c := range f.visitors(6, download) {
			reading.Go(func() {
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
		}
	})
	time.Sleep(time.Minute)
}
