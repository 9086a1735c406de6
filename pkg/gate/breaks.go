// SPDX-License-Identifier: Apache-2.0

package gate

import "net/http"

// tellsBreaks lets visitors see that next broke off its answer. It sends the head before the connection is
// cut, or a page if there is no head yet. The head may still wait in the compressor or in net/http, and a proxy that
// gets none takes the link for dead and asks the next: nginx did so 20 times with one GET.
func tellsBreaks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &headed{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			cut := h.begun || p != http.ErrAbortHandler // a defect goes on to be reported
			if !h.begun {
				clear(w.Header())
				refuse(w, r, http.StatusBadGateway, page{Kind: pageBroken})
			}
			_ = http.NewResponseController(w).Flush()
			if cut {
				panic(p)
			}
		}()
		next.ServeHTTP(h, r)
	})
}

// headed knows whether a head was written.
type headed struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (h *headed) WriteHeader(code int) {
	h.begun = h.begun || code >= http.StatusOK
	h.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (h *headed) Write(b []byte) (int, error) {
	h.begun = true
	return h.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (h *headed) Flush() { _ = http.NewResponseController(h.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (h *headed) Unwrap() http.ResponseWriter { return h.ResponseWriter }
