// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

const onceID = "0123456789abcdef0123456789ABCDEF"

// door is a real server before a once. Its connections are pipes, so that time can be synctest's
// and a visitor who does not read stops whoever writes to him.
type door struct {
	*once
	t        *testing.T
	app      http.HandlerFunc
	ran      atomic.Int64
	panicked atomic.Int64
	conns    chan net.Conn
	tasks    guard.Group
}

func newDoor(t *testing.T) *door {
	d := &door{t: t, conns: make(chan net.Conn)}
	d.tasks.Panicked = func(error) { d.panicked.Add(1) }
	d.once = newOnce(tellsBreaks(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.ran.Add(1)
		d.app(w, r)
	})), d.tasks.Go, nil)
	return d
}

// behind runs f with a door. Whatever is left of it afterwards fails the test, by synctest.
func behind(t *testing.T, f func(d *door)) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		s := &http.Server{Handler: d, ConnContext: noteConn}
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(d) })
		defer func() { // after t.Fatal too, or synctest complains of what is left instead
			_ = s.Close()
			d.close()
			d.tasks.Wait()
			serving.Wait()
		}()
		f(d)
	})
}

func (d *door) Accept() (net.Conn, error) {
	if c, ok := <-d.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (d *door) Close() error   { close(d.conns); return nil }
func (d *door) Addr() net.Addr { return &net.UnixAddr{} }

// caller is somebody who has sent a request over a connection of his own.
type caller struct {
	net.Conn
	r      *bufio.Reader
	method string
}

func visitOn(t *testing.T, c net.Conn, method, target, id, body string, lines ...string) *caller {
	if id != "" {
		lines = append(lines, requestID+": "+id)
	}
	if _, err := io.WriteString(c, request(method, target, body, lines...)); err != nil {
		t.Fatal(err)
	}
	return &caller{c, bufio.NewReader(c), method}
}

func (d *door) visit(method, id, body string, lines ...string) *caller {
	here, there := net.Pipe()
	d.conns <- there
	return visitOn(d.t, here, method, "/?q", id, body, lines...)
}

// head reads the answer's; nil if the connection was cut before.
func (v *caller) head() *http.Response {
	resp, err := http.ReadResponse(v.r, &http.Request{Method: v.method})
	if err != nil {
		return nil
	}
	return resp
}

// answer reads the whole, and cuts the connection.
func (v *caller) answer() answer {
	defer func() { _ = v.Close() }()
	resp := v.head()
	if resp == nil {
		return answer{&http.Response{}, "", io.ErrUnexpectedEOF}
	}
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b), err}
}

func (d *door) wants(what string, got answer, status int, body string) {
	d.t.Helper()
	if got.err != nil || got.StatusCode != status || got.body != body {
		d.t.Errorf("%s: %d %.40q (%d bytes), %v; want %d %.40q", what, got.StatusCode, got.body, len(got.body), got.err, status, body)
	}
}

func (d *door) wantsRuns(what string, n int64) {
	d.t.Helper()
	if got := d.ran.Load(); got != n {
		d.t.Errorf("%s: ran %d times, want %d", what, got, n)
	}
}

func says(kind string) string {
	return fmt.Sprintf("%s. %s\n", page{Kind: kind}.Title(), page{Kind: kind}.Text())
}

// bytesOf are n bytes of which no two places look the same.
func bytesOf(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%d,", b.Len())
	}
	return b.String()[:n]
}

func TestOnceArrivalsShareARun(t *testing.T) {
	for _, method := range []string{"GET", "POST", "PUT"} {
		behind(t, func(d *door) {
			goOn := make(chan struct{})
			d.app = func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if _, told := r.Header[requestID]; told || err != nil || r.ContentLength != 5 {
					t.Errorf("the app was told %v, %v", r.Header, err)
				}
				<-goOn
				w.Header().Set("X-App", "yes")
				w.WriteHeader(http.StatusTeapot)
				_, _ = w.Write(bytes.ToUpper(body))
			}
			dead, one, two := d.visit(method, onceID, "hello"), d.visit(method, onceID, "hello"), d.visit(method, onceID, "hello")
			synctest.Wait()
			_ = dead.Close()
			time.Sleep(begun.Kept * 2) // it may take long while somebody waits
			close(goOn)
			for _, v := range []*caller{one, two, d.visit(method, onceID, "hello")} {
				got := v.answer()
				d.wants(method, got, http.StatusTeapot, "HELLO")
				if got.Header.Get("X-App") != "yes" {
					t.Errorf("%s: head %v", method, got.Header)
				}
			}
			d.wantsRuns(method, 1)
		})
	}
}

// TestOnceOutlivesItsConnection: the first connection dies before there is an answer. The second
// comes before its end, or up to 150 s later. Afterwards it is a new request.
func TestOnceOutlivesItsConnection(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, late := range []time.Duration{0, begun.Kept, begun.Kept + begun.Tick + 1} {
			behind(t, func(d *door) {
				goOn := make(chan struct{})
				d.app = func(w http.ResponseWriter, r *http.Request) {
					<-goOn
					if r.Context().Err() != nil {
						t.Error("cancelled with the connection")
					}
					_, _ = io.WriteString(w, "done")
				}
				_ = d.visit(method, onceID, "x").Close()
				synctest.Wait()
				time.Sleep(begun.Kept - 1)
				close(goOn)
				synctest.Wait()
				time.Sleep(late)
				d.wants(method, d.visit(method, onceID, "x").answer(), 200, "done")
				d.wantsRuns(fmt.Sprint(method, " again after ", late), 1+int64(late/(begun.Kept+begun.Tick)))
			})
		}
	}
}

func TestOnceLeavesTheRestAlone(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(_ http.ResponseWriter, r *http.Request) {
			if _, told := r.Header[requestID]; told {
				t.Errorf("the app was told %v", r.Header)
			}
			_, _ = io.Copy(io.Discard, r.Body)
		}
		large := strings.Repeat("x", onceAsked+1)
		for name, c := range map[string]struct {
			id, body string
			lines    []string
			once     bool
		}{
			"no id":     {},
			"shortest":  {id: onceID[:16], once: true},
			"short":     {id: onceID[:15]},
			"longest":   {id: onceID + onceID, once: true},
			"long":      {id: onceID + onceID + "0"},
			"uuid":      {id: "01234567-89ab-cdef-0123-456789abcdef", once: true},
			"odd":       {id: onceID + "_"},
			"two":       {id: onceID, lines: []string{requestID + ": " + onceID}},
			"two in 1":  {id: onceID + ", " + onceID[:16]},
			"upgrade":   {id: onceID, lines: []string{"Connection: upgrade", "Upgrade: websocket"}},
			"not large": {id: onceID[1:], body: large[1:], once: true},
		} {
			before := d.ran.Load()
			d.wants(name, d.visit("POST", c.id, c.body, c.lines...).answer(), 200, "")
			d.wants(name, d.visit("POST", c.id, c.body, c.lines...).answer(), 200, "")
			d.wantsRuns(name, before+map[bool]int64{true: 1, false: 2}[c.once])
		}
	})
}

// TestOnceStreamsOnce: the body of a request is passed on as it comes. What is sent again under its id is
// refused while it runs, and for as long afterwards as any; a safe one is not.
func TestOnceStreamsOnce(t *testing.T) {
	large := strings.Repeat("x", onceAsked+1)
	for name, c := range map[string]struct {
		body string
		line string
	}{"large": {large, "X-App: yes"}, "unknown": {"1\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\nX-No: content-length"}} {
		behind(t, func(d *door) {
			goOn := make(chan struct{})
			d.app = func(w http.ResponseWriter, r *http.Request) {
				if d.ran.Load() == 1 {
					<-goOn
				}
				n, _ := io.Copy(io.Discard, r.Body)
				_, _ = fmt.Fprint(w, n > 0)
			}
			refused := func(when string) {
				d.t.Helper()
				d.wants(name+" "+when, d.visit("POST", onceID, "x").answer(), http.StatusBadGateway, says(pageRepeated))
				again := d.visit("PUT", onceID, "", "Content-Length: 2000000")
				if got := again.head(); got == nil || got.StatusCode != http.StatusBadGateway {
					t.Errorf("%s, large, %s: %v", name, when, got)
				}
				_ = again.Close()
				d.wantsRuns(name+" "+when, 1)
			}
			here, there := net.Pipe()
			d.conns <- there
			first := make(chan *caller)
			go func() { first <- visitOn(t, here, "POST", "/", onceID, c.body, c.line) }() // it is read when the app does
			synctest.Wait()
			refused("while it runs")
			close(goOn)
			d.wants(name, (<-first).answer(), 200, "true")
			time.Sleep(begun.Kept)
			refused("afterwards")
			time.Sleep(begun.Tick + 1)
			d.wants(name+" as a new one", d.visit("POST", onceID, "x").answer(), 200, "true")
			for range 2 {
				d.wants(name+" but safe", d.visit("OPTIONS", onceID[1:], c.body, c.line).answer(), 200, "true")
			}
			d.wantsRuns(name+" but safe", 4)
		})
	}
}

// TestOnceForgedIDs: an id does not open another's answer. Under the id of an unsafe request that ran no other
// one does, while one that is safe runs by itself.
func TestOnceForgedIDs(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Method, r.RequestURI, r.Header["Cookie"], r.Header["Authorization"])
			_, _ = io.Copy(w, r.Body)
		}
		mine := []string{"Cookie: a=b", "Authorization: me"}
		for _, safe := range []bool{false, true} {
			method, other, id := "POST", "PUT", onceID
			if safe {
				method, other, id = "GET", "OPTIONS", onceID[1:]
			}
			before, ran := d.ran.Load(), int64(1)
			forged := func(what string, got answer, said string) {
				d.t.Helper()
				if safe {
					d.wants(what, got, 200, said)
					ran++
				} else {
					d.wants(what, got, http.StatusBadGateway, says(pageRepeated))
				}
				d.wantsRuns(method+", "+what, before+ran)
			}
			for range 2 {
				d.wants("mine", d.visit(method, id, "body", mine...).answer(), 200, method+"/?q[a=b] [me]body")
				forged("body", d.visit(method, id, "Body", mine...).answer(), method+"/?q[a=b] [me]Body")
				forged("no body", d.visit(method, id, "", mine...).answer(), method+"/?q[a=b] [me]")
				forged("method", d.visit(other, id, "body", mine...).answer(), other+"/?q[a=b] [me]body")
				forged("cookie", d.visit(method, id, "body", "Cookie: a=c", mine[1]).answer(), method+"/?q[a=c] [me]body")
				forged("authorization", d.visit(method, id, "body", mine[0]).answer(), method+"/?q[a=b] []body")
				here, there := net.Pipe()
				d.conns <- there
				forged("address", visitOn(t, here, method, "/", id, "body", mine...).answer(), method+"/[a=b] [me]body")
			}
			d.wants("an unsafe one under it", d.visit("DELETE", id, "body", mine...).answer(), http.StatusBadGateway, says(pageRepeated))
		}
	})
}

// TestOnceBrokenRequests: of a request that has not come whole, nothing runs.
func TestOnceBrokenRequests(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		broken := d.visit("POST", onceID, "hel", "Content-Length: 5")
		synctest.Wait()
		_ = broken.Close()
		synctest.Wait()
		d.wantsRuns("broken", 0)
		d.wants("whole", d.visit("POST", onceID, "hello").answer(), 200, "")
		d.wantsRuns("whole", 1)
	})
}

// BenchmarkOnce measures what an id costs: an answer of 500 bytes, and one of 1 MB.
func BenchmarkOnce(b *testing.B) {
	for _, c := range []struct {
		name string
		ids  bool
		asks int
		size int
	}{{"without", false, 0, 500}, {"get", true, 0, 500}, {"post", true, 500, 500}, {"large-without", false, 0, 1 << 20}, {"large", true, 0, 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			text, body := make([]byte, min(c.size, 32<<10)), make([]byte, c.asks)
			var tasks guard.Group
			o := newOnce(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = []string{"text/plain"}
				for n := 0; n < c.size; n += len(text) {
					_, _ = w.Write(text)
				}
			}), tasks.Go, nil)
			w, i := &nowhere{h: http.Header{}}, 0
			r := httptest.NewRequest(map[bool]string{true: "POST", false: "GET"}[c.asks > 0], "/", bytes.NewReader(body))
			b.ReportAllocs()
			for b.Loop() {
				i++
				if c.ids {
					r.Header[requestID] = []string{fmt.Sprintf("%032d", i)} // 3 allocations of its own
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				o.ServeHTTP(w, r)
			}
			o.close()
			tasks.Wait()
		})
	}
}
