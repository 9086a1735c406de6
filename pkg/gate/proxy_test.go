// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEventsArriveOneByOne: each before the next is sent, the answer's head before the first, and
// none is compressed.
func TestEventsArriveOneByOne(t *testing.T) {
	check(t)
	next := make(chan string)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event, more := <-next:
				if !more {
					return
				}
				_, _ = io.WriteString(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	c := dial(t, addr)
	_, _ = io.WriteString(c, request("GET", "/events", "", admitted(g), "Accept: text/event-stream", "Accept-Encoding: gzip, zstd"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("X-Accel-Buffering") != "no" {
		t.Fatalf("before the first event: %v, %v", err, resp)
	}
	for i := range 5 {
		event := fmt.Sprintf("data: %d %s\n\n", i, strings.Repeat("x", i*1000))
		next <- event
		got := make([]byte, len(event))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
			t.Fatalf("event %d: %.40q, %v", i, got, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last: %q, %v", rest, err)
	}
}

// TestBodiesStream: the app has the first bytes of an upload, and the visitor those of a download,
// before the last were sent.
func TestBodiesStream(t *testing.T) {
	check(t)
	const size = 20 << 20
	half, first := make(chan struct{}), bytes.Repeat([]byte("first"), 4096)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		_, err := io.ReadFull(r.Body, first)
		select {
		case half <- struct{}{}:
		case <-r.Context().Done():
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %v %d of %d", first, err, n+5, r.ContentLength)
	})
	down := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.Header().Set("Content-Length", fmt.Sprint(size+len(first)))
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(first)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-half:
		case <-r.Context().Done():
		}
		_, _ = w.Write(make([]byte, size))
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d", size+5), "Transfer-Encoding: chunked"} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing+"\r\n"+admitted(g)+"\r\n\r\n")
		w, length, end := io.Writer(c), size+5, ""
		if strings.HasSuffix(framing, "chunked") {
			_, _ = io.WriteString(c, "5\r\nfirst\r\n")
			end, length = "\r\n0\r\n\r\n", -1
		} else {
			_, _ = io.WriteString(c, "first")
		}
		select {
		case <-half:
		case <-time.After(patience):
			t.Fatalf("%s: the app has seen nothing", framing)
		}
		if end != "" {
			fmt.Fprintf(c, "%x\r\n", size)
		}
		_, _ = w.Write(make([]byte, size))
		_, _ = io.WriteString(c, end)
		if got, want := read(t, bufio.NewReader(c), "POST").body, fmt.Sprintf("first <nil> %d of %d", size+5, length); got != want {
			t.Errorf("%s: the app got %q, want %q", framing, got, want)
		}
	}
	g, addr = open(t, Config{Target: at(down.addr())})
	for _, query := range []string{"", "?length"} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, request("GET", "/"+query, "", admitted(g), "Accept-Encoding: gzip"))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(first))
		if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, first) {
			t.Fatalf("download: %.20q, %v", got, err)
		}
		half <- struct{}{}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("download: %d bytes, %v", n, err)
		}
	}
}

func TestTrailersBothWays(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Digest")+"!")
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	got := ask(t, addr, "POST", "/", "3\r\nabc\r\n0\r\nX-Digest: 900150983cd2\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Digest", "X: content-length", admitted(g), "TE: trailers")
	if got.body != "abc" || got.Trailer.Get("X-Sum") != "900150983cd2!" || got.Trailer.Get("X-Late") != "yes" {
		t.Errorf("%q, %v", got.body, got.Trailer)
	}
}

func TestHeadsAndRanges(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr())})
	for _, c := range []struct {
		method, line string
		status       int
		body, length string
	}{
		{"GET", "X: y", 200, secretBody, "27"},
		{"HEAD", "X: y", 200, "", "27"},
		{"GET", "Range: bytes=5-8", 206, secretBody[5:9], "4"},
		{"GET", "Range: bytes=99-", 416, "invalid range: failed to overlap\n", "33"},
		{"GET", `If-None-Match: "v1"`, 304, "", ""},
		{"GET", `If-None-Match: W/"v1"`, 304, "", ""},
	} {
		got := ask(t, addr, c.method, "/", "", c.line, admitted(g))
		if got.StatusCode != c.status || got.body != c.body || got.Header.Get("Content-Length") != c.length || got.err != nil {
			t.Errorf("%s %s: %s, %q, %v", c.method, c.line, got.Status, got.body, got.Header)
		}
	}
	got := send(t, addr, attack{text: "GET / HTTP/1.0\r\n" + admitted(g) + "\r\nAccept-Encoding: gzip\r\n\r\n"})
	if !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\n"+secretBody) {
		t.Errorf("HTTP/1.0: %q", got)
	}
}

// TestCloseLeavesNothing: no handler runs any more when it returns.
func TestCloseLeavesNothing(t *testing.T) {
	check(t)
	asked := make(chan struct{}, 8)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-r.Context().Done() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := openOn(t, Config{Target: at(a.addr())}, l)
	var tasks sync.WaitGroup
	for range 8 {
		c := dial(t, l.Addr().String())
		_, _ = io.WriteString(c, request("GET", "/", "", admitted(g)))
		tasks.Go(func() { _, _ = io.Copy(&bytes.Buffer{}, c) })
	}
	for range 8 {
		<-asked
	}
	_ = l.Close()
	_ = g.Close()
	if n := g.Stats().Requests; n != 8 {
		t.Errorf("%d of 8 requests have ended", n)
	}
	tasks.Wait()
}
