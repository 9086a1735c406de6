// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Code and fonts with a validator are marked; what is somebody's, or the app's own words to nginx, is not passed on.
func TestMarks(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		for pair := range strings.SplitSeq(r.URL.Query().Get("h"), "|") {
			name, value, _ := strings.Cut(pair, "=")
			w.Header().Set(name, value)
		}
		if r.URL.Path == "/304" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "let x")
	})
	g, addr := open(t, Config{Target: at(a.addr()), TrustProxy: true})
	_, plain := open(t, Config{Target: at(a.addr())})
	const script = "Content-Type=text/javascript|Etag=%221%22"
	for _, c := range []struct {
		method, path string
		marked       bool
	}{
		{"GET", "/a.js?h=" + script, true},
		{"GET", "/a.js?h=" + script + "|Cache-Control=no-cache", true},
		{"GET", "/a.js?h=" + script + "|Access-Control-Allow-Origin=*", true},
		{"GET", "/a.css?h=Content-Type=text/css|Last-Modified=x", true},
		{"GET", "/a?h=Content-Type=font/woff2|Etag=%221%22", true},
		{"GET", "/a.js?h=Content-Type=text/javascript", false},
		{"GET", "/a.png?h=Content-Type=image/png|Etag=%221%22", false},
		{"GET", "/a.json?h=Content-Type=application/json|Etag=%221%22", false},
		{"GET", "/a.js?h=" + script + "|Cache-Control=no-store", false},
		{"GET", "/a.js?h=" + script + "|Cache-Control=no-cache,Private=x", false},
		{"GET", "/a.js?h=" + script + "|Set-Cookie=a", false},
		{"GET", "/304?h=" + script, false},
		{"POST", "/a.js?h=" + script, false},
		{"GET", "/a.js?h=X-Accel-Expires=3600|X-Accel-Redirect=/x|X-Accel-Charset=x|X-Accel-Limit-Rate=1", false},
	} {
		got := ask(t, addr, c.method, c.path, "", admitted(g), "Origin: "+g.origin)
		mark, want := got.Header.Get("X-Accel-Expires")+got.Header.Get("X-Accel-Buffering"), ""
		if c.marked {
			want = "@1yes"
		}
		if mark != want || got.Header.Get("X-Accel-Redirect")+got.Header.Get("X-Accel-Charset")+got.Header.Get("X-Accel-Limit-Rate") != "" {
			t.Errorf("%s %s: %v", c.method, c.path, got.Header)
		}
		if control := got.Header.Get("Cache-Control"); !strings.Contains(strings.ToLower(control), "private") && control != "no-store" {
			t.Errorf("%s: other caches may keep it: %q", c.path, control)
		}
	}
	if got := ask(t, plain, "GET", "/a.js?h="+script, "", admitted(g)); got.StatusCode == 200 && got.Header.Get("X-Accel-Expires") != "" {
		t.Errorf("to a proxy that is not known: %v", got.Header)
	}
}

// A prepared proxy's status page asks since when; others are not told.
func TestSince(t *testing.T) {
	check(t)
	for _, trusted := range []bool{true, false} {
		g, addr := open(t, Config{Target: at(""), TrustProxy: trusted})
		got := ask(t, addr, "HEAD", Path, "")
		_, err := time.Parse(time.RFC3339, got.Header.Get(Since))
		if got.StatusCode != http.StatusNotFound || (err == nil) != trusted {
			t.Errorf("trusted %t: %s %v", trusted, got.Status, got.Header)
		}
		if requests := g.Requests(1); len(requests) != 0 {
			t.Errorf("it counts as a visit: %v", requests)
		}
	}
}
