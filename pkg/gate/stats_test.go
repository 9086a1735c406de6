// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCounts(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin" {
			w.WriteHeader(http.StatusForbidden) // which is no refusal of the gate's
		}
		n, _ := io.Copy(io.Discard, r.Body)
		if n > 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "hello")
	})
	g, addr := open(t, Config{Target: at(a.addr()), WellKnown: http.NotFoundHandler()})
	began := time.Now()
	ask(t, addr, "GET", "/a/b?q=secret#x", "", admitted(g))
	ask(t, addr, "POST", "/upload", "abc", admitted(g))
	ask(t, addr, "GET", "/private?token=wrong", "")
	ask(t, addr, "GET", Path, "") // the tunnel's own question is no visit
	ask(t, addr, "GET", "/c?token="+tokenText, "")
	ask(t, addr, "GET", "/#token="+tokenText, "", "Authorization: Bearer "+tokenText)
	ask(t, addr, "GET", "/admin", "", admitted(g))
	ask(t, addr, strings.Repeat("M", 5000), "/"+strings.Repeat("d", 5000), "", admitted(g))
	// What was answered is counted when its handler returns, a moment after the answer.
	for g.Stats().Requests < 7 && time.Since(began) < patience {
		runtime.Gosched()
	}
	want := Stats{Visitors: 1, VisitorsToday: 1, Requests: 7, Refused: 1, Failed: 1, Received: 3}
	got := g.Stats()
	if want.Sent = got.Sent; got != want || got.Sent < 20 {
		t.Errorf("%+v, want %+v", got, want)
	}
	all := g.Requests(99)
	for i, want := range []Request{
		{Method: "GET", Path: "/a/b?…", Status: 200, Sent: 5},
		{Method: "POST", Path: "/upload", Status: 500, Sent: 5, Received: 3},
		{Method: "GET", Path: "/?…", Status: 200, Sent: 5}, // neither who had no token nor the redirect of who had it
		{Method: "GET", Path: "/admin", Status: 403, Sent: 5},
		{Method: strings.Repeat("M", clipMethod), Path: "/" + strings.Repeat("d", clipPath-1) + "…", Status: 200, Sent: 5},
	} {
		r := all[i]
		if r.Method != want.Method || r.Path != want.Path || r.Status != want.Status || r.Received != want.Received || r.Sent != want.Sent ||
			r.Client != "127.0.0.1" || r.Visitor == "" || r.Seconds < 0 || r.Seconds > 10 || r.Time < float64(began.Unix()) || r.Time > float64(began.Unix()+60) {
			t.Errorf("request %d: %+v, want %+v", i, r, want)
		}
	}
	if shown := fmt.Sprintf("%+v", all); strings.Contains(shown, "secret") || strings.Contains(shown, tokenText) || strings.Contains(shown, "wrong") {
		t.Errorf("a query or a token is kept: %s", shown)
	}
}

// TestRing: the newest thousand, and of each no more than is shown.
func TestRing(t *testing.T) {
	g, err := New(Config{Target: at(""), URL: "https://" + host, Access: Access{Public: true}})
	if err != nil {
		t.Fatal(err)
	}
	before := alive()
	for i := range keptRequests + 234 {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(fmt.Sprintf("GET /%d?%s HTTP/1.1\r\nHost: a\r\n\r\n", i, strings.Repeat("q", 60<<10)))))
		if err != nil {
			t.Fatal(err)
		}
		g.ServeHTTP(httptest.NewRecorder(), r)
	}
	if grown := alive() - before; grown > 4<<20 { // of 60 MB that were asked
		t.Errorf("%d requests hold %d KiB", keptRequests, grown>>10)
	}
	for _, n := range []int{-1, 0, 1, 10, keptRequests, keptRequests + 1} {
		got := g.Requests(n)
		if want := min(max(n, 0), keptRequests); len(got) != want || n > 0 && got[len(got)-1].Path != "/1233?…" || n > 0 && got[0].Path != fmt.Sprintf("/%d?…", 1234-want) {
			t.Errorf("Requests(%d): %d", n, len(got))
		}
	}
}

// TestVisitorsNowAndToday: one is there during a request and for a minute after the last; the day
// ends at midnight, UTC.
func TestVisitorsNowAndToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight, UTC
		g, err := New(Config{Target: at(""), URL: "https://" + host, Access: Access{Public: true}})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		leave := make(chan struct{})
		g.proxy = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stay" {
				<-leave
			}
		})
		visit := func(agent, path string) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("User-Agent", agent)
			g.ServeHTTP(httptest.NewRecorder(), r)
		}
		is := func(when string, now, today int) {
			t.Helper()
			synctest.Wait()
			if s := g.Stats(); s.Visitors != now || s.VisitorsToday != today {
				t.Errorf("%s: %d now, %d today; want %d, %d", when, s.Visitors, s.VisitorsToday, now, today)
			}
		}
		is("nobody", 0, 0)
		visit("ann", "/")
		visit("ann", "/again")
		is("one, twice", 1, 1)
		go visit("bob", "/stay")
		is("two", 2, 2)
		time.Sleep(presence)
		is("a minute later", 1, 2)
		time.Sleep(24*time.Hour - 2*presence)
		visit("cid", "/")
		is("just before midnight", 2, 3)
		time.Sleep(presence + time.Second)
		is("after midnight", 1, 1) // those who are still there
		close(leave)
		synctest.Wait()
		time.Sleep(2 * presence)
		visit("ann", "/")
		time.Sleep(48 * time.Hour)
		is("days later", 0, 0)
		for i := range mostVisitors + 5 {
			visit(fmt.Sprint(i), "/")
		}
		is("a crowd", mostVisitors, mostVisitors)
	})
}

func TestSlowOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := New(Config{Target: at(""), URL: "https://" + host, Access: Access{Public: true}})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		g.proxy = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.URL.RawQuery)
			time.Sleep(d)
			w.WriteHeader(http.StatusOK)
			time.Sleep(time.Minute) // a long download is not a slow answer
		})
		for _, query := range []string{"1ms", "1s", "1001ms", "1h"} {
			g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/?"+query, nil))
		}
		if s := g.Stats(); s.Slow != 2 || s.Requests != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestBytesOfAnUpgrade(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(rawApp(t, echo))})
	c, r := upgraded(t, g, addr, "early")
	_, _ = io.WriteString(c, strings.Repeat("x", 10000))
	_ = c.CloseWrite()
	if b, err := io.ReadAll(r); err != nil || len(b) != 10005+7 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	_ = c.Close()
	for end := time.Now().Add(patience); g.Stats().Requests < 1 && time.Now().Before(end); {
		runtime.Gosched()
	}
	got := g.Requests(1)
	if len(got) != 1 || got[0].Status != 101 || got[0].Received != 10005 || got[0].Sent != 10012 {
		t.Errorf("%+v", got)
	}
	if s := g.Stats(); s.Received != 10005 || s.Sent != 10012 || s.Slow != 0 {
		t.Errorf("%+v", s)
	}
}

// TestStrangersLeaveNothing: neither among the visitors nor among the requests, nor in memory.
func TestStrangersLeaveNothing(t *testing.T) {
	g, err := New(Config{Target: at(""), URL: "https://" + host})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.SetToken(given(t, tokenText))
	come := func(i int, token string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header.Set("User-Agent", fmt.Sprint("browser ", i))
		r.Header.Set("Authorization", "Bearer "+token)
		g.ServeHTTP(httptest.NewRecorder(), r)
	}
	come(0, "wrong")
	before := inUse()
	for i := range mostVisitors {
		come(i, "wrong")
	}
	if grown := inUse() - before; grown > 5<<20 {
		t.Errorf("%d strangers hold %d KiB", mostVisitors, grown>>10)
	}
	for i := range 3 {
		come(i, tokenText)
	}
	if s := g.Stats(); s.VisitorsToday != 3 || s.Visitors != 3 || s.Refused != mostVisitors+1 || s.Requests != mostVisitors+4 {
		t.Errorf("%+v", s)
	}
	if got := g.Requests(keptRequests); len(got) != 3 {
		t.Errorf("%d requests are kept, want the three of visitors", len(got))
	}
}
