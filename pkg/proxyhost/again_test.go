// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// silent is a slot whose link goes silent under the request of each path that comes after others were cut at once:
// nothing comes until it is cut, after wait. What comes again is answered with "again". Without wait all are cut.
type silent struct {
	mu     sync.Mutex
	came   map[string]int
	passed []string // X-Taipy-Tunnel-Passed of each
	again  []string // and X-Taipy-Tunnel-Again
	others int
	wait   time.Duration
}

func (w *web) silent(path string, s *silent) {
	w.t.Helper()
	s.came = map[string]int{}
	l, err := net.Listen("unix", filepath.Join(w.dir, "run", path))
	must(w.t, err)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { s.serve(c) })
		}
	})
	w.t.Cleanup(func() { _ = l.Close(); tasks.Wait() })
}

func (s *silent) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	s.mu.Lock()
	key := r.Method + r.URL.Path
	s.came[key]++
	n := s.came[key]
	s.passed = append(s.passed, r.Header.Values("X-Taipy-Tunnel-Passed")...)
	s.again = append(s.again, strings.Join(r.Header.Values("X-Taipy-Tunnel-Again"), ","))
	s.mu.Unlock()
	if n == s.others+1 {
		time.Sleep(s.wait)
	}
	if n <= s.others+1 || s.wait == 0 {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(c, "again")
	}
}

// times are how often each came.
func (s *silent) times() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.came)
}

const begunTitle, awayTitle = "This may have been done already", "The app is away"

// A link that went silent is found dead by sshd, after more than the ten seconds of proxy_next_upstream_timeout.
// nginx then sends its requests on, those that may not run twice only while the tunnel knows them still.
func TestWhatMayNotRunTwiceIsNotRepeatedLate(t *testing.T) {
	t.Parallel()
	const hold = 10500 * time.Millisecond
	slot := &silent{wait: hold}
	ten := func(text string) string { return strings.ReplaceAll(text, "[0-9]{3,}", "[0-9]{2,}") } // seconds, not a hundred
	late := newWeb(t, typicalPlain(t), ten)
	late.silent("sales/s/forecast.0.sock", slot)
	young := &silent{wait: hold}
	usual := newWeb(t, typicalPlain(t))
	usual.silent("sales/s/forecast.0.sock", young)
	aged := &silent{wait: hold, others: 2} // it has two names in the upstream: what it holds came by @again, when it was young
	later := newWeb(t, typicalPlain(t), ten)
	later.silent("sales/s/forecast.0.sock", aged)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if status, said := later.send("POST", strings.NewReader("x"), later.port, "forecast.example.com", "/"); status != 502 || !strings.Contains(said, begunTitle) || aged.times()["POST/"] != 3 {
			t.Errorf("at its last turn: %d %.300q, came %d times", status, said, aged.times()["POST/"])
		}
	})
	for _, c := range []struct {
		method string
		safe   bool
	}{{"GET", true}, {"HEAD", true}, {"OPTIONS", true}, {"POST", false}, {"PUT", false}, {"DELETE", false}, {"PATCH", false}, {"GETX", false}, {"PROPFIND", false}} {
		tasks.Go(func() {
			status, said := late.send(c.method, strings.NewReader("x"), late.port, "forecast.example.com", "/a.json")
			if ok := status == 200 && (said == "again" || c.method == "HEAD"); c.safe && !ok || !c.safe && (status != 502 || !strings.Contains(said, begunTitle)) {
				t.Errorf("%s, late: %d %.300q", c.method, status, said)
			}
		})
		tasks.Go(func() {
			if status, said := usual.send(c.method, strings.NewReader("x"), usual.port, "forecast.example.com", "/a.json"); status != 200 || said != "again" && c.method != "HEAD" {
				t.Errorf("%s, while the tunnel knows it: %d %.300q", c.method, status, said)
			}
		})
	}
	tasks.Wait()
	for key, n := range slot.times() {
		if safe := strings.HasPrefix(key, "GET/") || strings.HasPrefix(key, "HEAD") || strings.HasPrefix(key, "OPTIONS"); (n == 2) != safe || n > 2 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	if len(slot.times()) != 9 || len(young.times()) != 9 {
		t.Errorf("%v, %v", slot.times(), young.times())
	}
}

// Where no socket took any of a request the app is away, and it is asked again by itself; where one did, what may not
// run twice may have run, and the page says that.
func TestAwayIsOnlyWhatDidNotRun(t *testing.T) {
	w := newWeb(t, typicalPlain(t))
	small, large := func() io.Reader { return strings.NewReader("x") }, func() io.Reader { return strings.NewReader(strings.Repeat("x", 2_000_000)) }
	ask := func(when, method string, body io.Reader, status int, title string) {
		t.Helper()
		if got, said := w.send(method, body, w.port, "forecast.example.com", "/a.json"); got != status || !strings.Contains(said, title) {
			t.Errorf("%s, %s: %d %.300q, want %d %s", when, method, got, said, status, title)
		}
	}
	ask("no socket", "GET", nil, 503, awayTitle)
	ask("no socket", "POST", small(), 503, awayTitle)
	ask("no socket, large", "POST", large(), 503, awayTitle)
	s := &silent{}
	w.silent("sales/s/forecast.1.sock", s) // cuts each at once
	ask("cut", "GET", nil, 503, awayTitle)
	ask("cut", "POST", small(), 502, begunTitle)
	ask("cut, large", "PUT", large(), 502, begunTitle)
	if s.times()["PUT/a.json"] != 1 {
		t.Errorf("%v", s.times())
	}
}

// Of the sockets of a link that dies some may still take what is sent again, and go with it. One of the other link's has it in the end, and is told that
// it was sent before.
func TestALinksSocketsDoNotDieAtOnce(t *testing.T) {
	w := newWeb(t, typicalPlain(t))
	dead, alive := &silent{}, &silent{others: -1, wait: 1} // cuts each at once; answers
	for n, s := range []*silent{dead, alive, dead, alive} {
		w.silent(fmt.Sprintf("sales/s/forecast.%d.sock", n), s)
	}
	for n := range 40 {
		if status, said := w.send("POST", strings.NewReader("x"), w.port, "forecast.example.com", fmt.Sprint("/", n)); status != 200 || said != "again" {
			t.Errorf("%d: %d %.300q", n, status, said)
		}
	}
	seen := dead.times()
	for n, again := range alive.again {
		if key := fmt.Sprint("POST/", n); (again == "1") != (seen[key] > 0) {
			t.Errorf("%s: marked %q, after %d that were cut", key, again, seen[key])
		}
	}
}

// The tunnel is told when a request was first passed on, whatever its visitor says and however often it is sent again; and of
// one that may not run twice, whether a socket took some of it before.
func TestWhenARequestWasPassedOn(t *testing.T) {
	w := newWeb(t, typicalPlain(t))
	s := &silent{wait: 1100 * time.Millisecond, others: 1}
	w.silent("sales/s/forecast.0.sock", s)
	for _, c := range []struct {
		method, body string
		again        []string
	}{{"GET", "", []string{"", "", ""}}, {"POST", "x", []string{"", "1", "1"}}} {
		s.mu.Lock()
		s.passed, s.again, s.came = nil, nil, map[string]int{}
		s.mu.Unlock()
		before := time.Now()
		if status, said := w.send(c.method, strings.NewReader(c.body), w.port, "forecast.example.com", "/a.json", "X-Taipy-Tunnel-Passed", "1.000", "X-Taipy-Tunnel-Again", "2"); status != 200 || said != "again" {
			t.Fatalf("%s: %d %.300q", c.method, status, said)
		}
		if len(s.passed) != 3 || s.passed[0] != s.passed[1] || s.passed[1] != s.passed[2] {
			t.Fatalf("%s: told %q", c.method, s.passed)
		}
		if !slices.Equal(s.again, c.again) {
			t.Errorf("%s: told %q, want %q", c.method, s.again, c.again)
		}
		seconds, err := strconv.ParseFloat(s.passed[0], 64)
		if at := time.UnixMilli(int64(seconds * 1000)); err != nil || at.Before(before.Add(-time.Second)) || at.After(before.Add(time.Second)) {
			t.Errorf("%s at %v: told %q", c.method, before, s.passed[0])
		}
	}
}

// Figures that the gate is made for.
func TestRepeatWithinIsTenToSomePower(t *testing.T) {
	n := int(proxyhost.RepeatWithin / time.Second)
	for ; n%10 == 0; n /= 10 {
	}
	if conf := render(t, typicalPlain(t)).Text("/etc/taipy-tunnel/nginx/server.conf"); !strings.Contains(conf, "proxy_next_upstream_timeout 10s;") || !strings.Contains(conf, "proxy_buffer_size 16k;") {
		t.Errorf("the gate is made for other figures than those of\n%s", conf)
	}
	if n != 1 || !strings.Contains(render(t, typicalPlain(t)).Text("/etc/nginx/sites-enabled/zz-taipy-tunnel.conf"), `[0-9]{3,}\.`) {
		t.Errorf("%v", proxyhost.RepeatWithin)
	}
}
