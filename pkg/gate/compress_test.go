// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var text = strings.Repeat("<p>what compresses well, as pages do</p>\n", 500)

// shape answers as its query says: header fields, and "body" or "small".
func shape(w http.ResponseWriter, r *http.Request) {
	q, _ := url.ParseQuery(r.URL.RawQuery)
	body := text
	for name, v := range q {
		if name == "small" {
			body = "small"
			continue
		}
		w.Header()[name] = v
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}

func TestCompression(t *testing.T) {
	check(t)
	a := newApp(t, shape)
	g, addr := open(t, Config{Target: at(a.addr())})
	for _, c := range []struct {
		name, query, accept, want string
	}{
		{"page", "Content-Type=text/html", "gzip, deflate, br, zstd", "zstd"},
		{"page, older browser", "Content-Type=text/html; charset=utf-8", "gzip, deflate, br", "gzip"},
		{"script", "Content-Type=application/javascript", "gzip", "gzip"},
		{"arrow", "Content-Type=application/vnd.apache.arrow.stream", "gzip", "gzip"},
		{"preferred", "Content-Type=text/css", "gzip;q=1, zstd;q=0.1", "gzip"},
		{"refused", "Content-Type=text/html", "gzip;q=0, zstd;q=0", ""},
		{"not asked for", "Content-Type=text/html", "", ""},
		{"identity", "Content-Type=text/html", "identity", ""},
		{"small", "Content-Type=text/html&small", "gzip", ""},
		{"image", "Content-Type=image/png", "gzip", ""},
		{"video", "Content-Type=video/mp4", "gzip", ""},
		{"encoded by the app", "Content-Type=text/html&Content-Encoding=br", "gzip", "br"},
		{"no-transform", "Content-Type=text/html&Cache-Control=public, No-Transform", "gzip", ""},
	} {
		target := "/?" + (strings.NewReplacer(" ", "%20", ";", "%3b", "+", "%2b")).Replace(c.query)
		got := ask(t, addr, "GET", target+"&Etag=%22v1%22", "", admitted(g), "Accept-Encoding: "+c.accept)
		ours := c.want == "gzip" || c.want == "zstd"
		if got.Header.Get("Content-Encoding") != c.want || got.err != nil {
			t.Errorf("%s: %s, %v, %v", c.name, got.Status, got.Header, got.err)
			continue
		}
		if got.Header.Get("Etag") != map[bool]string{true: `W/"v1"`, false: `"v1"`}[ours] || len(got.Header["Vary"]) == 0 {
			t.Errorf("%s: %v", c.name, got.Header)
		}
		body := inflate(t, got)
		if c.name != "small" && body != text || ours && len(got.body) > len(text)/5 {
			t.Errorf("%s: %d bytes came as %d", c.name, len(body), len(got.body))
		}
		if _, leaked := got.Header["No-Gzip-Compression"]; leaked {
			t.Errorf("%s: %v", c.name, got.Header)
		}
		if again := ask(t, addr, "GET", target+"&Etag=%22v1%22", "", admitted(g), "Accept-Encoding: "+c.accept, "If-None-Match: "+got.Header.Get("Etag")); again.StatusCode != 304 || again.body != "" {
			t.Errorf("%s, once more: %s", c.name, again.Status)
		}
	}
	part := ask(t, addr, "GET", "/?Content-Type=text/html", "", admitted(g), "Accept-Encoding: gzip", "Range: bytes=3-2000")
	if part.StatusCode != 206 || part.body != text[3:2001] || part.Header.Get("Content-Encoding") != "" {
		t.Errorf("a range: %s %v", part.Status, part.Header)
	}
	head := ask(t, addr, "HEAD", "/?Content-Type=text/html&Cache-Control=no-transform", "", admitted(g), "Accept-Encoding: gzip")
	if _, leaked := head.Header["No-Gzip-Compression"]; leaked || head.Header.Get("Content-Encoding") != "" {
		t.Errorf("HEAD: %v", head.Header)
	}
}

func inflate(t testing.TB, a answer) string {
	t.Helper()
	var r io.Reader = strings.NewReader(a.body)
	var err error
	switch a.Header.Get("Content-Encoding") {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestVaryAfterHints: an interim answer takes the header's map along.
func TestVaryAfterHints(t *testing.T) {
	check(t)
	a := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, text)
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	got := ask(t, addr, "GET", "/", "", admitted(g), "Accept-Encoding: gzip")
	if got.Header.Get("Content-Encoding") != "gzip" || got.Header.Get("Vary") == "" || inflate(t, got) != text {
		t.Errorf("%v", got.Header)
	}
}

// TestPrefix: with nginx's X-Forwarded-Prefix Taipy's page and redirects move below it.
func TestPrefix(t *testing.T) {
	check(t)
	page := `<html><base href="/" /><script>var c = {"baseURL": "/", "other": "/"}</script>` + strings.Repeat("<p>x</p>", 400)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		switch r.URL.Path {
		case "/to":
			http.Redirect(w, r, "/page", http.StatusFound)
		case "/heeds":
			http.Redirect(w, r, r.Header.Get("X-Forwarded-Prefix")+"/page", http.StatusFound)
		case "/away":
			w.Header().Set("Location", "https://other.test/")
			w.WriteHeader(http.StatusFound)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, page)
		}
	})
	moved := strings.Replace(strings.Replace(page, `href="/"`, `href="/ann/app/"`, 1), `"baseURL": "/"`, `"baseURL": "/ann/app/"`, 1)
	for _, c := range []struct {
		trust                              bool
		prefix, page, location, etag, link string
	}{
		{true, "/ann/app", moved, "/ann/app/page", `W/"v1"`, "/ann/app/x"},
		{true, "/ann/app/", moved, "/ann/app/page", `W/"v1"`, "/ann/app/x"},
		{true, "", page, "/page", `"v1"`, "/x"},
		{true, "//evil.test", page, "/page", `"v1"`, "/x"},
		{true, "/../x", page, "/page", `"v1"`, "/x"},
		{true, `/"><script>`, page, "/page", `"v1"`, "/x"},
		{false, "/ann/app", page, "/page", `"v1"`, "/x"},
	} {
		g, addr := open(t, Config{Target: at(a.addr()), TrustProxy: c.trust})
		line := "X-Forwarded-Prefix: " + c.prefix
		got := ask(t, addr, "GET", "/", "", admitted(g), line, "Accept: text/html")
		if got.body != c.page || got.Header.Get("Etag") != c.etag {
			t.Errorf("%t %q: %.200q %v", c.trust, c.prefix, got.body, got.Header)
		}
		if got = ask(t, addr, "GET", "/", "", admitted(g), line, "Accept: text/html", "Accept-Encoding: gzip"); inflate(t, got) != c.page || got.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%t %q compressed: %v", c.trust, c.prefix, got.Header)
		}
		for _, path := range []string{"/to", "/heeds"} {
			if got = ask(t, addr, "GET", path, "", admitted(g), line); got.Header.Get("Location") != c.location {
				t.Errorf("%t %q %s: Location %s", c.trust, c.prefix, path, got.Header.Get("Location"))
			}
		}
		if got = ask(t, addr, "GET", "/away", "", admitted(g), line); got.Header.Get("Location") != "https://other.test/" {
			t.Errorf("%t %q: Location %s", c.trust, c.prefix, got.Header.Get("Location"))
		}
		if got = ask(t, addr, "GET", "/x?token="+tokenText, "", line); got.Header.Get("Location") != c.link {
			t.Errorf("%t %q: the link leads to %s", c.trust, c.prefix, got.Header.Get("Location"))
		}
	}
}
