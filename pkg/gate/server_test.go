// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
)

// stage is an address on which one server follows another within this process. One that was stopped
// listens no more, while its connections and what runs on them live on.
type stage struct {
	t    testing.TB
	addr string
	mu   sync.Mutex
	ends []func()
	last net.Listener
}

// scene is one server's time on a stage.
type scene struct {
	conns, runs atomic.Int64
	asked       chan string   // the method of each request
	answer      chan struct{} // closed: requests for /late are answered
	head        atomic.Value  // http.Header of the newest request
}

func newStage(t testing.TB) *stage {
	s := &stage{t: t, addr: "127.0.0.1:0"}
	t.Cleanup(func() {
		for _, end := range s.ends {
			end()
		}
	})
	return s
}

// start has a server say a word.
func (s *stage) start(word string) *scene {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	return s.on(l, word)
}

func (s *stage) on(l net.Listener, word string) *scene {
	c := &scene{asked: make(chan string, 100), answer: make(chan struct{})}
	server := &http.Server{
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				c.conns.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.runs.Add(1)
			c.head.Store(r.Header)
			c.asked <- r.Method
			body, _ := io.ReadAll(r.Body)
			if r.URL.Path == "/late" {
				select {
				case <-c.answer:
				case <-r.Context().Done():
				}
			}
			_, _ = io.WriteString(w, word+string(body))
		}),
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = server.Serve(l) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = l
	s.ends = append(s.ends, func() { _ = l.Close(); _ = server.Close(); tasks.Wait() })
	return c
}

func (s *stage) stop() { _ = s.last.Close() }

// TestAnotherServerOnThePort: who keeps their connection to us is answered by the server that is there
// now, though the one before would answer too.
func TestAnotherServerOnThePort(t *testing.T) {
	check(t)
	s := newStage(t)
	scenes := []*scene{s.start("0")}
	var others atomic.Int64
	g, addr := open(t, Config{Target: at(s.addr), Another: func() { others.Add(1) }})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	var slowest time.Duration
	for i := range 20 {
		if i > 0 {
			s.stop()
			scenes = append(scenes, s.start(fmt.Sprint(i)))
		}
		for _, method := range []string{"GET", "POST", "GET"} {
			began := time.Now()
			if got := askOn(t, c, r, method, "/", "", admitted(g)); got.body != fmt.Sprint(i) {
				t.Fatalf("server %d: %s %q", i, got.Status, got.body)
			}
			slowest = max(slowest, time.Since(began))
		}
	}
	for i, c := range scenes {
		if c.conns.Load() != 1 || c.runs.Load() != 3 {
			t.Errorf("server %d had %d requests on %d connections, want 3 on 1", i, c.runs.Load(), c.conns.Load())
		}
	}
	if got := others.Load(); got < 19 || got > 2*19 { // it may be seen that there is none for a moment
		t.Errorf("told of %d other servers, want 19", got)
	}
	t.Logf("the slowest took %s", slowest)
	if slowest > patience/2 {
		t.Error("somebody waited")
	}
}

// TestServerEndsWhileRequestsWait: no event tells them. What may be repeated is asked of the next
// server, what may have run is not.
func TestServerEndsWhileRequestsWait(t *testing.T) {
	check(t)
	s := newStage(t)
	before := s.start("before")
	g, addr := open(t, Config{Target: at(s.addr)})
	get, post, upload := dial(t, addr), dial(t, addr), dial(t, addr)
	_, _ = io.WriteString(get, request("GET", "/late", "", admitted(g)))
	_, _ = io.WriteString(post, request("POST", "/late", "", admitted(g), "Idempotency-Key: 1"))
	_, _ = io.WriteString(upload, request("PUT", "/late", "x", admitted(g)))
	for range 3 {
		<-before.asked
	}
	s.stop()
	after := s.start("after")
	close(after.answer)
	if got := read(t, bufio.NewReader(get), "GET"); got.body != "after" {
		t.Errorf("GET: %s %q", got.Status, got.body)
	}
	for _, c := range []net.Conn{post, upload} {
		if got := read(t, bufio.NewReader(c), "POST"); got.StatusCode != 502 || !strings.Contains(got.body, "may have run") {
			t.Errorf("POST: %s %q", got.Status, got.body)
		}
	}
	if before.runs.Load() != 3 || after.runs.Load() != 1 {
		t.Errorf("%d requests reached the first server and %d the next, want 3 and 1", before.runs.Load(), after.runs.Load())
	}
}

// TestServerThatComputes: while the listener stays, nothing is asked twice or given up.
func TestServerThatComputes(t *testing.T) {
	check(t)
	s := newStage(t)
	app := s.start("done")
	where := &looked{place: at(s.addr), looks: make(chan struct{})}
	g, addr := open(t, Config{Target: where})
	conns := []net.Conn{dial(t, addr), dial(t, addr)}
	for i, method := range []string{"GET", "POST"} {
		askOn(t, conns[i], bufio.NewReader(conns[i]), "GET", "/", "", admitted(g)) // whose connection is kept
		_, _ = io.WriteString(conns[i], request(method, "/late", "", admitted(g)))
		<-app.asked
		<-app.asked
	}
	for i := range 6 { // over a second; in its midst it cannot be told what listens
		where.unknown.Store(i == 2)
		select {
		case <-where.looks:
		case <-time.After(patience):
			t.Fatal("nobody looks")
		}
	}
	close(app.answer)
	for i, method := range []string{"GET", "POST"} {
		if got := read(t, bufio.NewReader(conns[i]), method); got.body != "done" {
			t.Errorf("%s: %s %q", method, got.Status, got.body)
		}
	}
	if app.runs.Load() != 4 || app.conns.Load() != 2 {
		t.Errorf("%d requests on %d connections, want 4 on 2", app.runs.Load(), app.conns.Load())
	}
}

// TestListenerIsInherited: the same socket in the hands of another server is no change.
func TestListenerIsInherited(t *testing.T) {
	check(t)
	s := newStage(t)
	before := s.start("before")
	g, addr := open(t, Config{Target: at(s.addr)})
	waits := dial(t, addr)
	_, _ = io.WriteString(waits, request("POST", "/late", "", admitted(g)))
	<-before.asked
	ask(t, addr, "GET", "/", "", admitted(g))
	f, err := s.last.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	after := s.on(l, "after")
	for range 2 {
		if got := ask(t, addr, "GET", "/", "", admitted(g)); got.body != "before" || after.conns.Load() != 0 {
			t.Errorf("the kept connection was dropped: %s %q", got.Status, got.body)
		}
	}
	close(before.answer)
	if got := read(t, bufio.NewReader(waits), "POST"); got.body != "before" {
		t.Errorf("%s %q", got.Status, got.body)
	}
}

// looked is a place whose listener is watched, or cannot be told.
type looked struct {
	*place
	looks   chan struct{} // takes them, where somebody waits
	unknown atomic.Bool
	dialled func() // before a connection is made
}

func (l *looked) Listener() (uint64, bool) {
	select {
	case l.looks <- struct{}{}:
	default:
	}
	if l.unknown.Load() {
		return 0, false
	}
	return l.place.Listener()
}

func (l *looked) Dial(ctx context.Context) (net.Conn, error) {
	if l.dialled != nil {
		l.dialled()
	}
	return l.place.Dial(ctx)
}

// TestListenerCannotBeTold: no connection is used twice, and the app is told so.
func TestListenerCannotBeTold(t *testing.T) {
	check(t)
	s := newStage(t)
	app := s.start("done")
	where := &looked{place: at(s.addr)}
	where.unknown.Store(true)
	g, addr := open(t, Config{Target: where})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	for i, lines := range [][]string{{}, {}, upgrade} { // the last is refused
		if got := askOn(t, c, r, "GET", "/", "", append(lines, admitted(g))...); got.body != "done" || app.conns.Load() != int64(i+1) {
			t.Errorf("%s %q on connection %d, want %d", got.Status, got.body, app.conns.Load(), i+1)
		}
		if got := app.head.Load().(http.Header).Get("Connection"); got != map[bool]string{true: "Upgrade", false: "close"}[i == 2] {
			t.Errorf("the app was told Connection: %s", got)
		}
	}
}

// TestServerChangesWhileDialling: a connection is kept under the server that it was made to, and what
// was not sent yet is sent to that one, once and whole.
func TestServerChangesWhileDialling(t *testing.T) {
	check(t)
	s := newStage(t)
	first := s.start("first")
	var second *scene
	where := &looked{place: at(s.addr)}
	where.dialled = sync.OnceFunc(func() { s.stop(); second = s.start("second") })
	g, addr := open(t, Config{Target: where})
	for range 3 {
		if got := ask(t, addr, "POST", "/", " body", admitted(g)); got.body != "second body" {
			t.Errorf("%s %q", got.Status, got.body)
		}
	}
	// One connection was made while it was not known to whom, one served what was sent again, one is kept.
	if first.runs.Load() != 0 || second.runs.Load() != 3 || second.conns.Load() != 3 {
		t.Errorf("%d requests to the first, %d to the second on %d connections", first.runs.Load(), second.runs.Load(), second.conns.Load())
	}
}

// TestStoppedServerIsTold: a kept connection does not hide from the owner that nobody listens.
func TestStoppedServerIsTold(t *testing.T) {
	check(t)
	s := newStage(t)
	s.start("here")
	var answers atomic.Bool
	g, addr := open(t, Config{Target: at(s.addr), Dialled: func(_ string, err error) { answers.Store(err == nil) }})
	if got := ask(t, addr, "GET", "/", "", admitted(g)); got.body != "here" || !answers.Load() {
		t.Fatalf("%s %q", got.Status, got.body)
	}
	s.stop()
	if got := ask(t, addr, "GET", "/", "", admitted(g), browser); got.StatusCode != 503 || answers.Load() {
		t.Errorf("%s %q, and the owner is told that the app answers: %v", got.Status, got.body, answers.Load())
	}
}

// TestKeptConnectionBreaks: the transport repeats by itself what has an idempotency key and no body.
func TestKeptConnectionBreaks(t *testing.T) {
	check(t)
	var posts atomic.Int64
	var spelled atomic.Value
	addr := rawApp(t, func(c *net.TCPConn, r *bufio.Reader, req *http.Request) {
		for err := error(nil); err == nil; req, err = http.ReadRequest(r) {
			if req.Method == "POST" {
				posts.Add(1)
				spelled.Store(req.Header.Get("Idempotency-Key") + req.Header.Get("X-Idempotency-Key"))
				return // the connection, and nothing was said
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g, gate := open(t, Config{Target: at(addr)})
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		posts.Store(0)
		ask(t, gate, "GET", "/", "", admitted(g))
		if got := ask(t, gate, "POST", "/", "", admitted(g), name+": 7"); got.StatusCode != 502 || posts.Load() != 1 || spelled.Load() != "7" {
			t.Errorf("%s: %s, ran %d times, with key %v", name, got.Status, posts.Load(), spelled.Load())
		}
	}
}

// TestAppEndsOnAKeptConnection: a request that the app has read is not sent again when the app ends the connection
// over it; one that met the end of a connection that the app had closed before is.
func TestAppEndsOnAKeptConnection(t *testing.T) {
	check(t)
	var ends atomic.Int64
	closing, closed := make(chan struct{}), make(chan struct{})
	addr := rawApp(t, func(c *net.TCPConn, r *bufio.Reader, req *http.Request) {
		for err := error(nil); err == nil; req, err = http.ReadRequest(r) {
			if req.URL.Path == "/ends" {
				ends.Add(1)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if req.URL.Path == "/last" {
				<-closing
				_ = c.SetLinger(0) // what comes from now on is answered with a reset, as where it was not read
				_ = c.Close()
				close(closed)
				return
			}
		}
	})
	var target forward.Target // which tells what was not read
	target.Set(addr)
	g, gate := open(t, Config{Target: &target})
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE"} {
		ends.Store(0)
		ask(t, gate, "GET", "/", "", admitted(g))
		if got := ask(t, gate, method, "/ends", "", admitted(g)); got.StatusCode != 502 || ends.Load() != 1 {
			t.Errorf("%s: %s, ran %d times", method, got.Status, ends.Load())
		}
	}
	ask(t, gate, "GET", "/last", "", admitted(g))
	close(closing)
	<-closed
	if got := ask(t, gate, "GET", "/", "", admitted(g)); got.StatusCode != 200 {
		t.Errorf("after the app closed an idle connection: %s", got.Status)
	}
}
