// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// maxPage is the largest page that is rewritten; Taipy's is 3 KiB.
const maxPage = 1 << 20

var prefixes = regexp.MustCompile(`^(/[A-Za-z0-9._~-]{1,64}){1,4}$`)

// prefix is the path below which visitors see the app, and which the proxy strips from the requests: what it announces, where that is
// to be trusted, otherwise what was seen; "" where that is the root.
func (g *Gate) prefix(r *http.Request) string {
	if g.cfg.TrustProxy {
		return asPrefix(r.Header.Get("X-Forwarded-Prefix"))
	}
	return g.passing(r).stripped
}

// passing is how a proxy that tells nothing of it passes paths on.
type passing struct {
	stripped string // of Config.URL's, escaped
	doubled  bool   // with two slashes at the beginning: location /sales { proxy_pass http://127.0.0.1:8080/; }
}

// passing is what was seen. Until then, as where the tunnel's own question is stopped by a login or is not to be asked, it is what a
// path has at its beginning of the end of Config.URL's.
func (g *Gate) passing(r *http.Request) passing {
	if seen := g.passed.Load(); seen != nil {
		return *seen
	}
	at, doubled := oneSlash(r.URL.Path)
	for i := range g.below {
		if g.below[i] == '/' && strings.HasPrefix(at+"/", g.below[i:]+"/") {
			return g.strips(g.below[:i], doubled && i > 0)
		}
	}
	return g.strips(g.below, doubled && g.below != "")
}

// withOneSlash has a request's path begin with one slash where the proxy makes two of it.
func (g *Gate) withOneSlash(r *http.Request) *http.Request {
	if !strings.HasPrefix(r.URL.Path, "//") || !g.passing(r).doubled {
		return r
	}
	next, at := *r, *r.URL
	at.Path, at.RawPath = at.Path[1:], strings.TrimPrefix(at.RawPath, "/")
	next.URL = &at
	return &next
}

// belowURL is where the app is below the host of Config.URL, without the slash at its end, and how browsers write that, who compare a cookie's
// path character by character; "" at the root, and where no cookie could be for it.
func belowURL(u *url.URL) (below, shown string) {
	below = strings.TrimRight(u.Path, "/")
	if below == "" || path.Clean(below) != below || strings.ContainsAny(below, ";") {
		return "", ""
	}
	return below, strings.TrimRight(u.EscapedPath(), "/")
}

// seesPath learns from a question of the tunnel's own, which is asked below the path of Config.URL, how much of that the proxy strips.
// One that is asked past the web server (Past) says nothing of it.
func (g *Gate) seesPath(r *http.Request) {
	if g.below != "" && strings.HasSuffix(r.URL.Path, Path) && r.URL.RawQuery == "" && g.cfg.Visit != nil && g.cfg.Visit(http.Header{}, r.Clone(r.Context())) {
		g.learns(r.URL.Path)
	}
}

// learns takes what is missing of a path that was asked below Config.URL.
func (g *Gate) learns(path string) {
	path, doubled := oneSlash(path)
	if stripped, is := strings.CutSuffix(g.below+Path, path); is {
		seen := g.strips(stripped, doubled)
		g.passed.Store(&seen)
	}
}

// strips is a proxy that strips that of Config.URL's path.
func (g *Gate) strips(that string, doubled bool) passing {
	if that == g.below {
		return passing{g.shown, doubled}
	}
	return passing{(&url.URL{Path: that}).EscapedPath(), doubled}
}

func oneSlash(path string) (one string, doubled bool) {
	if doubled = strings.HasPrefix(path, "//"); doubled {
		path = path[1:]
	}
	return path, doubled
}

// asPrefix is a path without the slash at its end; "" if it is none that an app is below.
func asPrefix(path string) string {
	path = strings.TrimSuffix(path, "/")
	if !prefixes.MatchString(path) || strings.Contains(path, "/.") {
		return ""
	}
	return path
}

// atHome reports whether a path is the gate's own address. A part of what Config.URL has before it may be stripped.
func (g *Gate) atHome(path string) bool {
	return path == Path || g.below != "" && strings.HasSuffix(path, Path)
}

// underPrefix moves an answer below a prefix: Taipy writes where it lives into two places of its
// page (its setting base_url), and redirects name paths, unless the app heeds X-Forwarded-Prefix.
func underPrefix(resp *http.Response, t *trip) error {
	to := resp.Header.Get("Location")
	if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") && to != t.prefix && !strings.HasPrefix(to, t.prefix+"/") {
		resp.Header.Set("Location", t.prefix+to)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "text/html" || t.encoded || resp.StatusCode == http.StatusPartialContent || resp.Request.Method == http.MethodHead {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		return err
	}
	if len(head) > maxPage { // not Taipy's
		resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		return nil
	}
	moved := bytes.Replace(head, []byte(`<base href="/"`), []byte(`<base href="`+t.prefix+`/"`), 1)
	moved = bytes.Replace(moved, []byte(`"baseURL": "/"`), []byte(`"baseURL": "`+t.prefix+`/"`), 1)
	if len(moved) != len(head) {
		weaken(resp.Header)
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(moved))
	resp.ContentLength = int64(len(moved))
	resp.Header.Set("Content-Length", strconv.Itoa(len(moved)))
	return nil
}

type readCloser struct {
	io.Reader
	io.Closer
}
