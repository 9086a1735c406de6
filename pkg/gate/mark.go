// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"strings"
)

// marked are the media types, besides fonts, of what the proxy may keep: code, the larger part of a
// page and the same for everybody. Not pictures or data: they may be somebody's.
var marked = map[string]bool{"text/css": true, "text/javascript": true, "application/javascript": true, "application/x-javascript": true, "application/wasm": true}

// mark tells a prepared proxy's nginx that it may keep an answer. It is to be over the moment it
// arrives (X-Accel-Expires: a second in 1970), so nginx asks at each hit whether it is still the
// same: that request has this visitor's cookies and is judged here like any other, and the app answers
// 304. Whoever is not admitted gets a 403 however warm the cache is, and nothing old is served. What the app itself says
// to nginx is not passed on: it could have it serve what nobody asked the gate for.
func (g *Gate) mark(resp *http.Response) {
	if !g.cfg.TrustProxy {
		return
	}
	h := resp.Header
	for _, name := range []string{"X-Accel-Expires", "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Charset"} {
		h.Del(name)
	}
	media, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	media = strings.TrimSpace(media)
	allow := h.Get("Access-Control-Allow-Origin")
	if resp.Request.Method != http.MethodGet || resp.StatusCode != http.StatusOK || !marked[media] && !strings.HasPrefix(media, "font/") ||
		h.Get("Etag")+h.Get("Last-Modified") == "" || h.Get("Set-Cookie") != "" || allow != "" && allow != "*" {
		return
	}
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h["Cache-Control"], ",")), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(directive), "="); name == "no-store" || name == "private" {
			return
		}
	}
	h.Set("X-Accel-Expires", "@1")
	h.Set("X-Accel-Buffering", "yes") // which keeping needs
}
