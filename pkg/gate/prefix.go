// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// maxPage is the largest page that is rewritten; Taipy's is 3 KiB.
const maxPage = 1 << 20

var prefixes = regexp.MustCompile(`^(/[A-Za-z0-9._~-]{1,64}){1,4}$`)

// prefix is the path below which visitors see the app, and which the proxy strips from the requests: what it announces, where that is
// to be trusted, otherwise the one of Config.URL, if it was seen to be stripped; "" where that is the root, or not known.
func (g *Gate) prefix(r *http.Request) string {
	switch {
	case g.cfg.TrustProxy:
		return asPrefix(r.Header.Get("X-Forwarded-Prefix"))
	case g.stripped.Load():
		return g.below
	}
	return ""
}

// seesPath learns from a question of the tunnel's own, which is asked below the path of Config.URL, whether the proxy strips that.
func (g *Gate) seesPath(r *http.Request) {
	if g.below != "" && g.cfg.Visit != nil && g.cfg.Visit(http.Header{}, r.Clone(r.Context())) {
		g.stripped.Store(r.URL.Path == Path)
	}
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
// page (its setting base_url), and redirects name paths.
func underPrefix(resp *http.Response, t *trip) error {
	if to := resp.Header.Get("Location"); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
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
