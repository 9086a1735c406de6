// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

func TestOnceStreams(t *testing.T) {
	behind(t, func(d *door) {
		step := make(chan struct{})
		d.app = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_ = http.NewResponseController(w).Flush()
			<-step
			_, _ = io.WriteString(w, "one")
			w.(http.Flusher).Flush()
			<-step
			_, _ = io.WriteString(w, "two")
			w.Header().Set("X-Sum", "6")
			w.Header().Set("X-Not", "announced")
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		}
		v := d.visit("GET", onceID, "")
		resp := v.head() // each of these waits for ever if it is held back
		step <- struct{}{}
		got := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "one" {
			t.Fatalf("%q, %v before the end", got, err)
		}
		step <- struct{}{}
		rest, err := io.ReadAll(resp.Body)
		_ = v.Close()
		again := d.visit("GET", onceID, "").answer()
		d.wants("again", again, 200, "onetwo")
		for _, r := range []*http.Response{resp, again.Response} {
			if err != nil || string(rest) != "two" || r.Trailer.Get("X-Sum") != "6" || r.Trailer.Get("X-Late") != "yes" || len(r.Trailer) != 2 || r.Header.Get("X-Not") != "" {
				t.Errorf("%q, %v, trailers %v, head %v", rest, err, r.Trailer, r.Header)
			}
		}
		d.wantsRuns("GET", 1)
	})
}

// TestOnceNobodyWaitsForAVisitor: what fits is done at once, whoever does not read.
func TestOnceNobodyWaitsForAVisitor(t *testing.T) {
	behind(t, func(d *door) {
		text := bytesOf(onceAnswer)
		d.app = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
		stuck := d.visit("POST", onceID, "x")
		synctest.Wait()
		d.wants("another", d.visit("POST", onceID, "x").answer(), 200, text)
		d.wants("another id", d.visit("POST", onceID+"2", "x").answer(), 200, text)
		d.wants("the first", stuck.answer(), 200, text)
		d.wantsRuns("two ids", 2)
	})
}

// TestOnceLargeAnswers are passed on as fast as the slowest takes them, and are gone then.
func TestOnceLargeAnswers(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		behind(t, func(d *door) {
			text := bytesOf(3<<20 + 12345)
			var wrote atomic.Int64
			d.app = func(w http.ResponseWriter, _ *http.Request) {
				for rest := text; rest != ""; {
					n, err := io.WriteString(w, rest[:min(len(rest), 10000)])
					if rest = rest[n:]; err != nil {
						t.Error(err)
						return
					}
					wrote.Add(int64(n))
				}
			}
			slow := d.visit(method, onceID, "x")
			synctest.Wait()
			if n := wrote.Load(); n > onceAnswer || n < onceAnswer-10000 {
				t.Errorf("%s: the app is %d bytes ahead of its reader, want nearly %d", method, n, onceAnswer)
			}
			dead, fast := d.visit(method, onceID, "x"), d.visit(method, onceID, "x") // all of it is still there
			synctest.Wait()
			answers := make(chan answer, 2)
			go func() { answers <- fast.answer() }()
			resp := slow.head()
			begin := make([]byte, 300<<10)
			_ = dead.Close()
			if _, err := io.ReadFull(resp.Body, begin); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := wrote.Load() - int64(len(begin)); n > onceAnswer+(64<<10) {
				t.Errorf("%s: the app is %d bytes ahead of its slowest reader", method, n)
			}
			before := d.ran.Load()
			late := func(when string) {
				d.t.Helper()
				if method == "POST" {
					d.wants(when, d.visit(method, onceID, "x").answer(), http.StatusBadGateway, says(pageRepeated))
				} else {
					d.wants(when, d.visit(method, onceID, "x").answer(), 200, text)
					before++
				}
				d.wantsRuns(method+" "+when, before)
			}
			late("late")
			rest, err := io.ReadAll(resp.Body)
			d.wants(method, answer{resp, string(begin) + string(rest), err}, 200, text)
			_ = slow.Close()
			d.wants(method, <-answers, 200, text)
			synctest.Wait()
			late("afterwards")
		})
	}
}

// TestOnceIsHeldUpByReadersOnly: the app waits for a visitor who does not read, but not for one who
// has gone, and of an answer that is lost nothing is kept.
func TestOnceIsHeldUpByReadersOnly(t *testing.T) {
	behind(t, func(d *door) {
		var done atomic.Bool
		d.app = func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 4*onceAnswer))
			done.Store(err == nil)
		}
		v := d.visit("POST", onceID, "x")
		synctest.Wait()
		if done.Load() {
			t.Error("all of it was taken without being read")
		}
		_ = v.Close()
		synctest.Wait()
		if n, bytes := d.held(); !done.Load() || n != 0 || bytes != 0 || d.begun.Len() != 1 {
			t.Errorf("without a reader: done %v, %d answers of %d bytes", done.Load(), n, bytes)
		}
	})
}

// TestOnceHoldsLittleBack: what net/http would send without being told to flush is sent.
func TestOnceHoldsLittleBack(t *testing.T) {
	behind(t, func(d *door) {
		goOn := make(chan struct{})
		d.app = func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 10000))
			<-goOn
		}
		v := d.visit("GET", onceID, "")
		if _, err := io.ReadFull(v.head().Body, make([]byte, 5000)); err != nil { // or waits for ever
			t.Error(err)
		}
		_ = v.Close()
		close(goOn)
	})
}

// TestOnceGoesOnAlone: nobody reads any more. As long as another link may bring the next reader, who gets
// all of it, the run goes on: for 150 s, or ten if the head of the answer had long arrived. One that may run again
// ends when its beginning is lost.
func TestOnceGoesOnAlone(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 100 << 10} {
		for _, method := range []string{"GET", "POST"} {
			behind(t, func(d *door) {
				ended, text := make(chan time.Time, 2), bytesOf(size)
				d.app = func(w http.ResponseWriter, r *http.Request) {
					for n := 0; r.Context().Err() == nil; n++ {
						if size > 0 {
							_, _ = io.WriteString(w, text)
							w.(http.Flusher).Flush()
						}
						time.Sleep(time.Second)
					}
					ended <- time.Now()
				}
				one := d.visit(method, onceID, "x")
				if size > 0 {
					one.head()
				}
				_ = one.Close()
				synctest.Wait()
				want := begun.Kept
				if size < 100<<10 {
					time.Sleep(begun.Kept - time.Second)
					two := d.visit(method, onceID, "x")
					if size > 0 {
						got := make([]byte, size*(int(begun.Kept/time.Second)-1))
						if _, err := io.ReadFull(two.head().Body, got); err != nil || !strings.HasPrefix(string(got), text) {
							t.Errorf("%s in time: %.40q, %v", method, got, err)
						}
						want = passedLong
					}
					time.Sleep(2 * time.Second)
					if len(ended) > 0 {
						t.Errorf("%s ended with a reader", method)
					}
					_ = two.Close()
					synctest.Wait()
				}
				left := time.Now()
				if method == "GET" && size == 100<<10 {
					want = 2 * time.Second // when nobody could have all of it any more
				}
				if took := (<-ended).Sub(left); took < want-time.Second || took > want+time.Second {
					t.Errorf("%s of %d ended after %v, want %v", method, size, took, want)
				}
				synctest.Wait()
				if size == 0 && method == "POST" {
					d.wants("without a head", d.visit(method, onceID, "x").answer(), http.StatusBadGateway, says(pageRepeated))
				} else if size > 0 {
					again := d.visit(method, onceID, "x")
					if resp := again.head(); (resp.StatusCode == 200) != (method == "GET" || size < 100<<10) {
						t.Errorf("%s of %d after its end: %s", method, size, resp.Status)
					}
					d.wantsRuns(method+" in the end", map[string]int64{"GET": 2, "POST": 1}[method])
					_ = again.Close()
				}
				synctest.Wait()
			})
		}
	}
}

// TestOnceIsAnHTTPServersWriter: what handlers may do with an http.ResponseWriter.
func TestOnceIsAnHTTPServersWriter(t *testing.T) {
	for name, c := range map[string]struct {
		app  http.HandlerFunc
		want int
		body string
	}{
		"nothing":   {func(http.ResponseWriter, *http.Request) {}, 200, ""},
		"two heads": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(500) }, 404, ""},
		"hints":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, 404, ""},
		"no body": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Error(err)
			}
		}, 204, ""},
		"head is sealed": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
			w.Header().Set("Content-Length", "7")
		}, 200, "x"},
		"nil value": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = w.Write([]byte("<html>"))
		}, 200, "<html>"},
	} {
		behind(t, func(d *door) {
			d.app = c.app
			for range 2 {
				got := d.visit("GET", onceID, "").answer()
				if d.wants(name, got, c.want, c.body); got.Header.Get("Content-Type") != "" && name == "nil value" {
					t.Errorf("%s: %v", name, got.Header)
				}
			}
			d.wantsRuns(name, 1)
		})
	}
}

func TestOnceClose(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case "GET": // waits
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			case "PUT": // is held up by its reader
				_, err := w.Write(make([]byte, 2*onceAnswer))
				if err == nil {
					t.Error("an answer was written to nobody")
				}
			}
		}
		d.visit("POST", onceID+"1", "x").answer()
		wait, alone, stuck := d.visit("GET", onceID+"2", ""), d.visit("GET", onceID+"3", ""), d.visit("PUT", onceID+"4", "x")
		_ = alone.Close()
		synctest.Wait()
		d.close()
		d.tasks.Wait() // none of the three goes on
		if n, bytes := d.held(); n != 0 || bytes != 0 {
			t.Errorf("%d answers, %d bytes after close", n, bytes)
		}
		for _, v := range []*caller{wait, stuck} {
			if got := v.answer(); got.err == nil {
				t.Errorf("%s: a whole answer, of which there is none", v.method)
			}
		}
		d.close()
		d.wants("after close", d.visit("POST", onceID+"5", "x").answer(), 200, "")
		if n, _ := d.held(); n != 0 {
			t.Error("something was kept after close")
		}
	})
	behind(t, func(d *door) {
		d.tasks.Wait()
		if got := d.visit("POST", onceID, "x").answer(); got.Response.StatusCode != 0 {
			t.Errorf("answered %s where nothing can be started", got.Status)
		}
		d.wantsRuns("closed", 0)
	})
}

// TestOnceUnderFire has half of the connections break at any moment, of a real network.
func TestOnceUnderFire(t *testing.T) {
	check(t)
	d := newDoor(t)
	var ran sync.Map
	d.app = func(w http.ResponseWriter, r *http.Request) {
		n, _ := ran.LoadOrStore(r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		_, _ = io.WriteString(w, r.URL.Path)
		if rand.N(2) == 0 {
			w.(http.Flusher).Flush()
		}
		_, _ = io.Copy(w, r.Body)
	}
	s := httptest.NewServer(d)
	text := bytesOf(100 << 10)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				id := fmt.Sprintf("%016d-%016d", i, j)
				first := visitOn(t, dial(t, s.Listener.Addr().String()), "POST", "/"+id, id, text)
				second := dial(t, s.Listener.Addr().String())
				if rand.N(2) == 0 {
					first.head()
				}
				_ = first.Close()
				d.wants(id, visitOn(t, second, "POST", "/"+id, id, text).answer(), 200, "/"+id+text)
			}
		})
	}
	all.Wait()
	ran.Range(func(id, n any) bool {
		if n := n.(*atomic.Int64).Load(); n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
		return true
	})
	s.Close()
	d.close()
	d.tasks.Wait()
}
