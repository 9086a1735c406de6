// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	perSecond = 200 // requests, every other one a POST; unless the row has another rate
	sockets   = 20  // websockets
	patience  = 30 * time.Second
	slowOne   = 20 // each so manieth request takes the app slowTakes: some are always under way
	slowTakes = time.Second
)

// app is what visitors come for. It counts how often it ran each request, and then takes its time.
type app struct {
	t    testing.TB
	addr string
	mu   sync.Mutex
	ran  map[string]int
	http *http.Server
	over sync.WaitGroup
}

func startApp(t testing.TB) *app {
	a := &app{t: t, addr: "127.0.0.1:0", ran: map[string]int{}}
	a.start()
	t.Cleanup(a.stop)
	return a
}

func (a *app) start() {
	l, err := net.Listen("tcp", a.addr)
	must(a.t, err)
	a.addr, a.http = l.Addr().String(), &http.Server{Handler: a}
	server := a.http
	a.over.Go(func() { _ = server.Serve(l) })
}

// stop cuts what is under way.
func (a *app) stop() {
	_ = a.http.Close()
	a.over.Wait()
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		a.echo(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if id := r.URL.Query().Get("id"); id != "" {
		a.mu.Lock()
		a.ran[id]++
		a.mu.Unlock()
	}
	if takes, err := time.ParseDuration(r.URL.Query().Get("takes")); err == nil {
		time.Sleep(takes)
	}
	size, _ := strconv.Atoi(r.URL.Query().Get("size"))
	_, _ = io.CopyN(w, rand.NewChaCha8([32]byte{}), int64(max(1000, size)))
}

func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// load is all visitors of a repetition. They open a connection for each request, so none is sent again by themselves.
type load struct {
	url, token string
	rate       int
	epoch      time.Time
	app        *app
	client     *http.Client

	mu      sync.Mutex
	visits  []Visit
	ids     []string // of visits
	lost    atomic.Int64
	open    atomic.Int64 // websockets
	end     chan struct{}
	once    sync.Once // closes it
	ask     sync.WaitGroup
	streams sync.WaitGroup
}

// newLoad has no visitors yet.
func newLoad(s *system) *load {
	return &load{url: s.url, token: s.token, rate: s.rate, app: s.app, end: make(chan struct{}), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// begin has visitors come until finish.
func begin(s *system) *load {
	l := newLoad(s)
	l.epoch = time.Now()
	s.t.Cleanup(l.stop)
	l.ask.Go(l.come)
	for range sockets {
		l.streams.Go(l.stream)
	}
	return l
}

// come has visitors come at the rate, whatever becomes of the others.
func (l *load) come() {
	for n := 0; ; n++ {
		next := l.epoch.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		select {
		case <-l.end:
			return
		case <-time.After(time.Until(next)):
		}
		l.ask.Go(func() { l.visit(n) })
	}
}

func (l *load) visit(n int) {
	v, id := Visit{Post: n%2 == 0}, fmt.Sprint(n)
	method, url := http.MethodGet, l.url+"?id="+id
	if v.Post {
		method = http.MethodPost
	}
	if n/2%slowOne == 0 {
		v.Works = slowTakes
		url += "&takes=" + slowTakes.String()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	v.Status = l.get(ctx, method, url)
	v.Begin, v.Took = begin.Sub(l.epoch), time.Since(begin)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits, l.ids = append(l.visits, v), append(l.ids, id)
}

// get returns the status of an answer that came whole.
func (l *load) get(ctx context.Context, method, url string) int {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(strings.Repeat("x", 500))
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	must(l.app.t, err)
	req.Header.Set("Authorization", "Bearer "+l.token)
	resp, err := l.client.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if ctx.Err() != nil {
		return GaveUp
	}
	if err != nil {
		return 0
	}
	return resp.StatusCode
}

// stream is a page: a websocket that is opened again when it is lost.
func (l *load) stream() {
	for {
		l.talk()
		select {
		case <-l.end:
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// talk says something twice a second, until there is no answer for 5 s.
func (l *load) talk() {
	rest, _ := strings.CutPrefix(l.url, "http://")
	host, path, _ := strings.Cut(rest, "/")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	said := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", path, host, l.token)
	resp, err := http.ReadResponse(said, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	l.open.Add(1)
	defer l.open.Add(-1)
	for {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, "hello\n")
		if _, err := said.ReadString('\n'); err != nil {
			l.lost.Add(1)
			return
		}
		select {
		case <-l.end:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// wellSince reports whether all visits that have begun since then, and ended, were served, and all websockets are there.
func (l *load) wellSince(begin time.Time) bool {
	since := begin.Sub(l.epoch)
	l.mu.Lock()
	defer l.mu.Unlock()
	ended, bad := 0, 0
	for i := len(l.visits) - 1; i >= 0 && i >= len(l.visits)-20000; i-- {
		if v := l.visits[i]; v.Begin >= since {
			if ended++; !v.served() {
				bad++
			}
		}
	}
	want := int(time.Since(begin).Seconds() * float64(l.rate))
	return bad < few && ended > want*9/10-l.rate && l.open.Load() == sockets
}

func (l *load) stop() {
	l.once.Do(func() { close(l.end) })
	l.ask.Wait()
	l.streams.Wait()
	l.client.CloseIdleConnections()
}

// finish has no more visitors come, and returns all visits, by a time of their own.
func (l *load) finish(zero time.Time) []Visit {
	l.stop()
	l.app.mu.Lock()
	defer l.app.mu.Unlock()
	for i := range l.visits {
		l.visits[i].Runs = l.app.ran[l.ids[i]]
		l.visits[i].Begin -= zero.Sub(l.epoch)
	}
	return l.visits
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
