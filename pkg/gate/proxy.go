// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

const (
	// An app may end an idle connection while a request is on its way there, which nobody may
	// repeat. Servers wait 2 s (gunicorn) or longer; a new connection within the machine costs 0.1 ms.
	appIdle     = 1500 * time.Millisecond
	appIdleMost = 64        // kept-alive connections to the app
	appHead     = 256 << 10 // bytes of an answer's head
	copySize    = 128 << 10
	// What a prepared proxy takes of an answer's head: its proxy_buffer_size is 16k, of which the key of its
	// cache and what we add have some. nginx takes a larger one for a dead link, and asks the next.
	proxyHead = 14 << 10
)

var errHead = errors.New("the head of the app's answer is too large")

// identity are the headers by which a proxy that asks visitors to log in says who they are
// (oauth2-proxy, Traefik).
var identity = map[string]bool{"X-Forwarded-User": true, "X-Forwarded-Email": true, "X-Forwarded-Groups": true, "X-Forwarded-Preferred-Username": true}

// tripKey finds a request's trip in its context.
type tripKey struct{}

func tripOf(r *http.Request) *trip { return r.Context().Value(tripKey{}).(*trip) }

// unreachable is the error of a connection to the app that was not made.
type unreachable struct{ error }

func (u unreachable) Unwrap() error { return u.error }

// newTransport returns what carries requests to the app; keep: its connections are used again.
func (g *Gate) newTransport(keep bool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,  // the app is on this machine, whatever the environment says
		DisableCompression:     true, // answers are passed on as they are
		DisableKeepAlives:      !keep,
		MaxIdleConnsPerHost:    appIdleMost,
		IdleConnTimeout:        appIdle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: appHead,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			c, err := g.cfg.Target.Dial(ctx)
			if g.cfg.Dialled != nil && ctx.Err() == nil {
				g.cfg.Dialled(g.cfg.Target.Addr(), err)
			}
			if err != nil {
				return nil, unreachable{err}
			}
			g.answered.Store(true)
			// A connection that is kept was made to the server by whose name it will be found.
			if now, known := g.look(); keep && (!known || addr != net.JoinHostPort(now.host, "80")) {
				_ = c.Close()
				return nil, errMoved
			}
			return c, nil
		},
	}
}

// rewrite makes the app's request of the visitor's. ReverseProxy has removed hop-by-hop headers
// and all that says by whom it was forwarded (RFC 9110, section 7.6.1; RFC 7239).
func (g *Gate) rewrite(p *httputil.ProxyRequest) {
	out, in := p.Out, p.In
	out.URL.Scheme = "http"
	if out.Host == "" { // HTTP/1.0
		out.Host = g.cfg.Target.Addr()
	}
	out.URL.Opaque = ""                // of "GET app:x", which no app takes
	out.URL.RawQuery = in.URL.RawQuery // as it came; ReverseProxy drops what it cannot parse
	out.Trailer = in.Trailer           // which is filled in when the body has ended
	scheme, _, _ := strings.Cut(g.origin, ":")
	h := out.Header
	client := g.client(in)
	for name := range h { // what visitors may forge; who logged in there is told by a proxy that is trusted
		if strings.HasPrefix(name, "X-Forwarded-") && !(g.cfg.TrustProxy && identity[name]) {
			delete(h, name)
		}
	}
	h.Set("X-Forwarded-For", client)
	h.Set("X-Forwarded-Host", in.Host)
	h.Set("X-Forwarded-Proto", scheme)
	h.Set("X-Real-IP", client)
	h.Del(requestID)
	h.Del(passedHeader)
	t := tripOf(in)
	if t.prefix != "" {
		h.Set("X-Forwarded-Prefix", t.prefix)
		if isPage(in) { // it will be rewritten, and is compressed afterwards
			h.Del("Accept-Encoding")
		}
	}
	dropCookies(h)
	if t.ownAuthorization {
		h.Del("Authorization")
	}
}

// modify looks at the app's answer before it is passed on.
func (g *Gate) modify(resp *http.Response) error {
	t := tripOf(resp.Request)
	h := resp.Header
	t.encoded = h.Get("Content-Encoding") != ""
	if taken := resp.StatusCode == http.StatusSwitchingProtocols; (taken || resp.StatusCode == http.StatusForbidden) &&
		g.cfg.Websocket != nil && isUpgrade(resp.Request) && ofPage(resp.Request.Header) {
		g.cfg.Websocket(taken)
	}
	if t.cookie != "" {
		h.Add("Set-Cookie", t.cookie)
	}
	if strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
		if h.Get("X-Accel-Buffering") == "" {
			h.Set("X-Accel-Buffering", "no") // nginx passes events on as they come, and keeps this line
		}
		body := resp.Body
		resp.Body = stream{body, t.outlasts(func() { _ = body.Close() })}
	}
	if t.ambient && h.Get("Access-Control-Allow-Origin") != g.origin {
		for name := range h { // another site's script must not read what our cookie opened
			if strings.HasPrefix(name, "Access-Control-") {
				delete(h, name)
			}
		}
	}
	g.mark(resp)
	if !g.policy.Load().Public {
		personal(h)
	}
	if g.cfg.TrustProxy && headSize(h) > proxyHead {
		return errHead
	}
	if t.prefix != "" {
		return underPrefix(resp, t)
	}
	return nil
}

// headSize is how many bytes the fields of a head are.
func headSize(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

// stream is a body that is closed when its visitor's token ends.
type stream struct {
	io.ReadCloser
	stop func() bool
}

// Close implements io.Closer.
func (s stream) Close() error {
	s.stop()
	return s.ReadCloser.Close()
}

// personal has shared caches keep nothing of an answer: who asks them was not admitted here
// (RFC 9111, sections 3.5 and 5.2.2.7). Browsers keep it as the app said.
func personal(h http.Header) {
	h.Del("CDN-Cache-Control") // RFC 9213
	h.Del("Surrogate-Control")
	var kept []string
	marked := false
	for directive := range strings.SplitSeq(strings.Join(h["Cache-Control"], ","), ",") {
		directive = strings.TrimSpace(directive)
		switch name, _, _ := strings.Cut(strings.ToLower(directive), "="); name {
		case "", "public", "s-maxage":
			continue
		case "no-store":
			marked = true
		}
		marked = marked || strings.EqualFold(directive, "private")
		kept = append(kept, directive)
	}
	if !marked {
		kept = append(kept, "private")
	}
	h.Set("Cache-Control", strings.Join(kept, ", "))
}

// failed answers where the app did not.
func (g *Gate) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch _, away := errors.AsType[unreachable](err); {
	case errors.Is(err, errBusy):
		g.away(w, r, awayBusy)
	case errors.Is(err, errEnded):
		refuse(w, r, http.StatusBadGateway, page{Kind: pageEnded})
	case r.Context().Err() != nil: // the visitor has gone
		w.WriteHeader(http.StatusBadGateway)
	case away:
		g.away(w, r, g.whyAway())
	case errors.Is(err, errHead):
		refuse(w, r, http.StatusBadGateway, page{Kind: pageHead})
	default:
		g.cfg.Log.Debug("the app broke off", "error", err)
		refuse(w, r, http.StatusBadGateway, page{Kind: pageBroken})
	}
}

// ofPage reports whether a websocket is asked for by a page, which is the gate's own: others are refused before (RFC 6455, section 10.2).
func ofPage(h http.Header) bool {
	return strings.EqualFold(h.Get("Upgrade"), "websocket") && h.Get("Origin") != ""
}

// isUpgrade tells it as ReverseProxy does: many an nginx sends "Connection: upgrade" with each
// request, which alone means nothing.
func isUpgrade(r *http.Request) bool {
	if r.Header.Get("Upgrade") == "" {
		return false
	}
	for _, v := range r.Header["Connection"] {
		for _, token := range strings.Split(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

// isPage reports whether r loads a page, in a browser, rather than a part of one.
func isPage(r *http.Request) bool {
	if r.Method != http.MethodGet || isUpgrade(r) {
		return false
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" { // Fetch Metadata; browsers send it to https
		return dest == "document" || dest == "iframe" || dest == "frame"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// client is the visitor's address, where the proxy is known to tell the truth about it; else that
// of the connection.
func (g *Gate) client(r *http.Request) string {
	if g.cfg.TrustProxy {
		list := r.Header["X-Forwarded-For"]
		if len(list) > 0 {
			last := list[len(list)-1]
			return strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "" // a unix socket has no address
	}
	return host
}

// buffers are those of bodies under way.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// Get implements httputil.BufferPool.
func (buffers) Get() []byte { return *bufferPool.Get().(*[]byte) }

// Put implements httputil.BufferPool.
func (buffers) Put(b []byte) { bufferPool.Put(&b) }
