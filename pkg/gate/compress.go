// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

const (
	compressFrom  = 1 << 10 // bytes
	noCompression = gzhttp.HeaderNoCompression
)

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
	compressed := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.ProtoAtLeast(1, 1) || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		compressed.ServeHTTP(weakener{w, tripOf(r)}, r)
	})
}

// weakener stands below the compressor and sees whether it did anything.
type weakener struct {
	http.ResponseWriter
	trip *trip
}

// WriteHeader implements http.ResponseWriter.
func (w weakener) WriteHeader(code int) {
	if h := w.Header(); !w.trip.encoded && h.Get("Content-Encoding") != "" {
		weaken(h)
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
