// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

const compressFrom = 1 << 10 // bytes

// compresses are the media types whose text shrinks, besides text/…: Taipy's first page is 7.2 MB
// without and 1.7 MB with it.
var compresses = map[string]bool{
	"application/javascript": true, "application/x-javascript": true, "application/json": true, "application/manifest+json": true,
	"application/geo+json": true, "application/ld+json": true, "application/xml": true, "application/xhtml+xml": true, "application/rss+xml": true,
	"application/wasm": true, "application/vnd.apache.arrow.stream": true, "image/svg+xml": true, "image/x-icon": true,
	"image/vnd.microsoft.icon": true, "image/bmp": true, "font/ttf": true, "font/otf": true, "application/vnd.ms-fontobject": true,
}

func compressible(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return compresses[media] || strings.HasPrefix(media, "text/") && media != "text/event-stream"
}

// compress compresses what next answers, if it compresses and was not yet. Answers to HTTP/1.0 are
// left alone: there an answer that breaks off looks complete.
func compress(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(compressFrom), gzhttp.ContentTypeFilter(compressible), gzhttp.SetContentType(false))
	if err != nil {
		panic(err) // of constants
	}
	compressed := wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		below := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
		next.ServeHTTP(&chooser{w, below}, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.ProtoAtLeast(1, 1) || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		compressed.ServeHTTP(weakener{w, tripOf(r)}, r)
	})
}

// chooser stands above the compressor, which holds an answer's head back until it has seen some
// of the body. What is not to be compressed goes past it: the head of a stream of events is out
// before the first event.
type chooser struct {
	http.ResponseWriter
	below http.ResponseWriter
}

// WriteHeader implements http.ResponseWriter.
func (c *chooser) WriteHeader(code int) {
	h := c.Header()
	media, typed := h.Get("Content-Type"), len(h["Content-Type"]) > 0
	if code >= http.StatusOK && (typed && !compressible(media) || h.Get("Content-Encoding") != "" || h.Get("Content-Range") != "" ||
		strings.Contains(strings.ToLower(strings.Join(h["Cache-Control"], ",")), "no-transform")) {
		c.ResponseWriter = c.below
	}
	c.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher.
func (c *chooser) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

// weakener stands below the compressor and sees whether it did anything.
type weakener struct {
	http.ResponseWriter
	trip *trip
}

// WriteHeader implements http.ResponseWriter.
func (w weakener) WriteHeader(code int) {
	h := w.Header()
	if !w.trip.encoded && h.Get("Content-Encoding") != "" {
		weaken(h)
	}
	if code >= http.StatusOK && !strings.Contains(strings.ToLower(strings.Join(h["Vary"], ",")), "accept-encoding") {
		h.Add("Vary", "Accept-Encoding") // an interim answer took it along
	}
	w.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher.
func (w weakener) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// weaken marks an entity tag as one of a representation that means the same without being the same
// bytes (RFC 9110, section 8.8.1), which is what compression makes of it. Revalidation compares
// weakly (section 13.1.2), so the app still answers 304.
func weaken(h http.Header) {
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag)
	}
}
