// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// notebook is another process with a tunnel: what that takes of memory is to be told from what its
// visitors, its app and the race detector take.
type notebook struct {
	t     testing.TB
	pid   int
	token string
	ask   io.Writer
	said  *bufio.Scanner
}

func newNotebook(t testing.TB, cfg tunnel.Config) *notebook {
	t.Helper()
	cfg.Log = nil
	text, err := json.Marshal(cfg)
	must(t, err)
	program := filepath.Join(t.TempDir(), "notebook")
	if said, err := exec.Command("go", "build", "-o", program, "./testdata/notebook").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	cmd := exec.Command(program, string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	n := &notebook{t: t, pid: cmd.Process.Pid, ask: in, said: bufio.NewScanner(out)}
	_, n.token, _ = strings.Cut(n.line(), "#token=")
	return n
}

func (n *notebook) line() string {
	n.t.Helper()
	if !n.said.Scan() {
		n.t.Fatal("the process with the tunnel has ended")
	}
	return n.said.Text()
}

// said is what is wanted of a status.
type said struct {
	State    string `json:"state"`
	Visitors int    `json:"visitors_today"`
}

func (n *notebook) status() (s said) {
	n.t.Helper()
	_, err := fmt.Fprintln(n.ask)
	must(n.t, err)
	must(n.t, json.Unmarshal([]byte(n.line()), &s))
	return s
}

// visitors are those of today that the tunnel counts.
func (n *notebook) visitors() int {
	n.t.Helper()
	return n.status().Visitors
}

// memory is a line of /proc/PID/status, in bytes: VmRSS, or VmHWM for the most that it was.
func (n *notebook) memory(name string) int64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid))
	must(n.t, err)
	_, rest, _ := strings.Cut(string(text), name+":")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(n.t, err)
	return kib << 10
}

func at(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// growth has load run and returns by how much memory grew at the most.
func (n *notebook) growth(load func()) int64 {
	n.t.Helper()
	must(n.t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.pid), []byte("5"), 0)) // VmHWM begins again (proc(5))
	before := n.memory("VmRSS")
	load()
	return n.memory("VmHWM") - before
}

// uploads sends many bodies of the same size at the same time, and counts what is answered. each is
// told of each answer.
func uploads(addr, token string, many int, size int64, each func()) map[string]int {
	said := map[string]int{}
	var mu sync.Mutex
	var visitors sync.WaitGroup
	for range many {
		visitors.Go(func() {
			what := upload(addr, token, size)
			each()
			mu.Lock()
			defer mu.Unlock()
			said[what]++
		})
	}
	visitors.Wait()
	return said
}

// upload does not mind if what it sends is not taken any more: the answer counts.
func upload(addr, token string, size int64) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	sending.Go(func() {
		_, _ = fmt.Fprintf(c, "POST /sales/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token, size)
		_, _ = io.CopyN(c, zeros{}, size)
	})
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "no answer"
	}
	body, _ := io.ReadAll(resp.Body)
	text, _, _ := strings.Cut(string(body), ".")
	if _, page, is := strings.Cut(text, "<title>"); is {
		text, _, _ = strings.Cut(page, "<")
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Retry-After"), text))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What an app takes at once is not held until it answers: 250 bodies of 990 kB, which took 465 MB.
func TestMemoryOfUploadsThatAreRead(t *testing.T) {
	const many = 250
	r := newRendered(t)
	var there atomic.Int64 // uploads that the app has or that were answered
	all := make(chan struct{})
	count := func() {
		if there.Add(1) == many {
			close(all)
		}
	}
	n := newNotebook(t, r.described("sales", serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n > 1000 {
			count()
			<-all // so that all are under way at once
		}
		_, _ = fmt.Fprint(w, n)
	})))
	uploads(at(r.http), n.token, 10, 1000, func() {})
	time.Sleep(begun.Alone + 3*time.Second) // until it knows that no other tunnel begins what nginx sends again, as where there was no room
	grown := n.growth(func() {
		if said := uploads(at(r.http), n.token, many, 990_000, count); said["200  990000"] != many {
			t.Errorf("not all were taken: %v", said)
		}
	})
	t.Logf("%.1f MB more", float64(grown)/1e6)
	if grown > 200<<20 { // 60 to 95 MB were seen, and 351 where nothing is let go
		t.Errorf("grew by %d MiB", grown>>20)
	}
}

// What an app does not take is bounded, and the visitors are told; the others are served.
func TestMemoryOfUploadsThatAreNotRead(t *testing.T) {
	t.Run("prepared", func(t *testing.T) {
		r := newRendered(t)
		unread(t, r.http, func(target string) tunnel.Config { return r.described("sales", target) })
	})
	t.Run("plain", func(t *testing.T) {
		c := newChain(t, sshdtest.Options{})
		port := c.FreePort()
		nginxtest.Start(t, fmt.Sprintf(`server { listen 127.0.0.1:%d; client_max_body_size 0; proxy_request_buffering off;
			location / { proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; proxy_set_header Host $http_host; } }`, port, c.port), port)
		c.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
		unread(t, port, func(target string) tunnel.Config {
			cfg := c.config(target)
			cfg.Raw, cfg.Access = false, tunnel.Access{}
			return cfg
		})
	})
}

func unread(t *testing.T, port int, config func(target string) tunnel.Config) {
	many := rounds(500, 2000) // without a bound 800 MB are held of 500
	var there atomic.Int64    // uploads that the app has or that were answered
	most, all := make(chan struct{}), make(chan struct{})
	count := func() {
		switch int(there.Add(1)) {
		case many * 9 / 10:
			close(most)
		case many:
			close(all)
		}
	}
	n := newNotebook(t, config(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1000 {
			count()
			<-all
			_, _ = io.Copy(io.Discard, r.Body) // nginx may not see an answer that comes while it sends
		}
		_, _ = io.WriteString(w, "here")
	})))
	uploads(at(port), n.token, 10, 1000, func() {})
	grown := n.growth(func() {
		var asking sync.WaitGroup
		asking.Go(func() {
			<-most
			if said := upload(at(port), n.token, 1000); said != "200  here" {
				t.Errorf("a small request meanwhile: %q", said)
			}
		})
		said := uploads(at(port), n.token, many, 2_000_000, count)
		asking.Wait()
		t.Logf("%v", said)
		if said["503 3 Too many uploads at once"] == 0 {
			t.Error("none was told")
		}
	})
	t.Logf("%.1f MB more", float64(grown)/1e6)
	if grown > 200<<20 {
		t.Errorf("grew by %d MiB", grown>>20)
	}
	if said := upload(at(port), n.token, 2_000_000); said != "200  here" {
		t.Errorf("afterwards: %q", said)
	}
}

// Those who are not admitted leave nothing.
func TestMemoryOfStrangers(t *testing.T) {
	r := newRendered(t)
	n := newNotebook(t, r.described("sales", app(t, "here")))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	come := func(many int, token string) {
		var tasks sync.WaitGroup
		for part := range 4 {
			tasks.Go(func() {
				for i := range many / 4 {
					req, err := http.NewRequest("GET", r.url, nil)
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("User-Agent", fmt.Sprintf("browser %d.%d", part, i))
					req.Header.Set("Authorization", "Bearer "+token)
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		}
		tasks.Wait()
	}
	come(2000, "wrong") // what grows once
	grown := n.growth(func() { come(10_000, "wrong") })
	t.Logf("%.1f MB more", float64(grown)/1e6)
	if before := n.visitors(); before != 0 || grown > 5<<20 {
		t.Errorf("%d visitors, %d KiB more", before, grown>>10)
	}
	come(4, n.token)
	if got := n.visitors(); got != 4 {
		t.Errorf("%d visitors, want 4", got)
	}
}
