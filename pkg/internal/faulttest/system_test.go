// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// systems are what leads visitors to the app. The options of ssh are the usual ones, with keepalives more often
// than most pages advise (30 or 60 s): those find a silent link after half a minute.
var systems = []string{"plain", "prepared", "autossh", "ssh"}

var sshOptions = []string{"BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=10", "ServerAliveCountMax=3", "TCPKeepAlive=yes"}

const (
	readyFor = 30 * time.Second
	settled  = 11 * time.Second // a link that was lost younger is not tried again at once
)

// system is one of them, with its proxy and its app.
type system struct {
	t       testing.TB
	kind    string
	app     *app
	sshd    *sshdtest.Server
	net     *network
	proxy   *proxytest.Proxy
	stale   *proxytest.Log // of the program that ends stale links there
	nginx   *nginxtest.Server
	slot    int // the port of sshd, 0 on a prepared proxy
	url     string
	token   string
	rate    int    // requests a second
	connect func() // starts a client, as at first
	ask     io.Writer
	answers chan answer

	mu      sync.Mutex
	process *exec.Cmd // the client
	states  []answer
	stderr  strings.Builder
}

// answer is a line of testdata/notebook.py.
type answer struct {
	At         float64  `json:"at"`
	State      string   `json:"state"`
	Links      int      `json:"links"`
	Error      string   `json:"error"`
	URL        string   `json:"url"`
	Logs       []string `json:"logs"`
	Goroutines int      `json:"goroutines"`
	Done       bool     `json:"done"`
}

func (s *system) ours() bool { return s.kind == "plain" || s.kind == "prepared" }

// start returns when visitors are served and the links are no longer young.
func start(t testing.TB, kind string, r *row) *system {
	s := &system{t: t, kind: kind, rate: cmp.Or(r.rate, perSecond), answers: make(chan answer, 10)}
	if kind == "prepared" {
		s.proxy = proxytest.Start(t, proxytest.Options{SSHD: sshdtest.Options{Config: r.sshd}})
		s.stale = s.proxy.EndStale()
		s.sshd, s.nginx, s.url = s.proxy.Server, s.proxy.Nginx, s.proxy.URL("sales")
	} else {
		s.sshd = sshdtest.Start(t, sshdtest.Options{Config: r.sshd})
		port := s.sshd.FreePort()
		s.slot, s.url = s.sshd.FreePort(), fmt.Sprintf("http://127.0.0.1:%d/", port)
		s.nginx = nginxtest.Start(t, site(t, port, s.slot), port)
	}
	s.net, s.app = newNetwork(t, s.sshd.Port), startApp(t)
	to := s.sshd.Port
	if r.far != nil {
		way := relay.Start(t, s.sshd.Addr())
		r.far(way)
		_, port, _ := net.SplitHostPort(way.Addr())
		_, _ = fmt.Sscan(port, &to)
	}
	s.connect = func() { s.forward(to) }
	if s.ours() {
		s.connect = func() { s.expose(to) }
	}
	s.connect()
	s.ready()
	time.Sleep(settled)
	return s
}

// site is nginx's configuration of docs/proxy.md.
func site(t testing.TB, port, slot int) string {
	page, err := os.ReadFile("../../../docs/proxy.md")
	must(t, err)
	_, site, _ := strings.Cut(string(page), "```nginx\n")
	site, _, _ = strings.Cut(site, "```")
	return strings.NewReplacer("listen 80;", fmt.Sprintf("listen 127.0.0.1:%d;", port), "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", slot)).Replace(site)
}

// expose starts a Python that has the wheel installed, and nothing of this checkout in its path.
func (s *system) expose(port int) {
	known := map[string]any{"app": s.app.addr, "server": fmt.Sprintf("%s@127.0.0.1:%d", s.sshd.User, port), "key": s.sshd.KeyFile, "host_key": s.sshd.Fingerprint()}
	if s.kind == "prepared" {
		known["name"] = "sales"
	} else {
		known["remote"], known["url"] = s.slot, s.url
	}
	script, err := filepath.Abs("testdata/notebook.py")
	must(s.t, err)
	s.run(exec.Command(*python, "-I", script), known)
	_, s.token, _ = strings.Cut(s.hear(func(a answer) bool { return a.URL != "" }).URL, "#token=")
}

// forward is what people do by hand.
func (s *system) forward(port int) {
	known := filepath.Join(s.t.TempDir(), "known_hosts")
	must(s.t, os.WriteFile(known, []byte(fmt.Sprintf("[127.0.0.1]:%d %s", port, strings.SplitN(s.sshd.KnownHostsLine(), " ", 2)[1])), 0o600))
	args := []string{"-F", "none", "-i", s.sshd.KeyFile, "-p", fmt.Sprint(port), "-o", "UserKnownHostsFile=" + known}
	for _, option := range sshOptions {
		args = append(args, "-o", option)
	}
	args = append(args, "-N", "-R", fmt.Sprintf("127.0.0.1:%d:%s", s.slot, s.app.addr), s.sshd.User+"@127.0.0.1")
	if s.kind == "autossh" {
		args = append([]string{"-M", "0"}, args...)
	}
	c := exec.Command(s.kind, args...)
	c.Env = append(os.Environ(), "AUTOSSH_GATETIME=0", "AUTOSSH_LOGLEVEL=6")
	s.run(c, nil)
}

func (s *system) run(c *exec.Cmd, first any) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	must(s.t, err)
	out, err := c.StdoutPipe()
	must(s.t, err)
	c.Stderr = s
	must(s.t, c.Start())
	s.mu.Lock()
	s.process, s.ask = c, in
	s.mu.Unlock()
	var read sync.WaitGroup
	read.Go(func() { s.listen(c, out) })
	s.t.Cleanup(func() {
		signal(named(clients...), syscall.SIGCONT) // those, too, that the one we started has started
		_ = in.Close()                             // Python ends with its standard input
		kill := time.AfterFunc(map[bool]time.Duration{true: 10 * time.Second}[s.ours()], func() { _ = c.Process.Signal(syscall.SIGTERM) })
		read.Wait()
		_ = c.Wait()
		kill.Stop()
		if s.t.Failed() {
			s.t.Logf("%s: %s", s.kind, s.said())
		}
	})
	if first != nil {
		must(s.t, json.NewEncoder(in).Encode(first))
	}
}

// Write has what a process writes to its standard error.
func (s *system) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.Write(b)
}

func (s *system) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

func (s *system) listen(c *exec.Cmd, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a answer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue
		}
		if a.State == "" {
			s.answers <- a
			continue
		}
		s.mu.Lock()
		if s.process == c { // what one that was replaced says of itself is another matter
			s.states = append(s.states, a)
		}
		s.mu.Unlock()
	}
}

// hear waits for an answer.
func (s *system) hear(is func(answer) bool) answer {
	s.t.Helper()
	timeout := time.After(readyFor)
	for {
		select {
		case a := <-s.answers:
			if is(a) {
				return a
			}
		case <-timeout:
			s.t.Fatalf("%s: no answer: %s", s.kind, s.said())
		}
	}
}

func (s *system) tell(format string, args ...any) {
	_, err := fmt.Fprintf(s.ask, format+"\n", args...)
	must(s.t, err)
}

// ready waits until visitors are served, and by as many links as there will be.
func (s *system) ready() {
	s.t.Helper()
	visitor := newLoad(s)
	for deadline := time.Now().Add(readyFor); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		status := visitor.get(ctx, "GET", s.url)
		cancel()
		if status == 200 && (!s.ours() || len(s.net.links(s.slot)) == 2) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: visitors get %d: %s", s.kind, status, s.said())
		}
	}
}

// logs is all that was written so far: by the client, by sshd, and by nginx.
func (s *system) logs() map[string]string {
	all := map[string]string{"client": s.said(), "sshd": s.sshd.Log(), "nginx": s.nginx.Log()}
	if s.ours() && !s.ended() {
		s.tell("logs")
		all["client"] = strings.Join(s.hear(func(a answer) bool { return a.Logs != nil }).Logs, "\n")
	}
	if s.proxy != nil {
		text, _ := os.ReadFile(s.proxy.Layout.Log + "/taipy-tunnel.access.log")
		all["access"], all["stale"] = string(text), s.stale.String()
	}
	return all
}

// restartNginx is `systemctl restart nginx`.
func (s *system) restartNginx() {
	s.nginx.Stop()
	s.nginx.Again()
}

// told is what the tunnel said, by a time of the visitors.
func (s *system) told(zero time.Time) (states []State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.states {
		states = append(states, State{a.At - float64(zero.UnixNano())/1e9, a.State, a.Links, a.Error})
	}
	return states
}
