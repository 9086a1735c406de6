// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/loopcheck"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// checker answers at the port of a plain proxy for as long as a look takes: our own questions, and to others that no app is there.
type checker struct {
	*loopcheck.Checker
	server *http.Server
	tasks  guard.Group
	app    http.Handler // nil: there is none
	asked  atomic.Bool  // it was
	closed sync.Once
	read   chan struct{}
}

// inquirer asks as a tunnel does, and is none that others have met.
func inquirer() *loopcheck.Checker { return loopcheck.New(func() {}, func() {}) }

// wants is the header in which a visit says what it is for.
const wants = "X-Taipy-Tunnel-Doctor"

// newChecker serves l, if there is one.
func newChecker(l net.Listener, target string) *checker {
	c := &checker{Checker: inquirer(), read: make(chan struct{}, 1)}
	if target != "" {
		c.app = &httputil.ReverseProxy{
			Transport: &http.Transport{DisableKeepAlives: true},
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: target})
				r.Out.Host = r.In.Host
			},
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				w.Header().Set(wants, "away")
				w.WriteHeader(http.StatusBadGateway)
			},
		}
	}
	c.server = &http.Server{Handler: c, ReadTimeout: lookTimeout, IdleTimeout: time.Second, MaxHeaderBytes: headMost, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	if l != nil {
		c.tasks.Go(func() { _ = c.server.Serve(l) })
	}
	return c
}

// Close frees the port.
func (c *checker) Close() {
	c.closed.Do(func() {
		_ = c.server.Close()
		c.tasks.Wait()
	})
}

// ServeHTTP implements http.Handler.
func (c *checker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := r.Header.Get(wants)
	r.Header.Del(wants)
	switch {
	case what == "" && r.Header.Get(probe.Header) != "":
		c.Serve(w, r)
	case what == "" || !c.Visit(w.Header(), r):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "No app is there now.", http.StatusServiceUnavailable)
	case what == "page" && c.app != nil:
		c.asked.Store(true)
		c.app.ServeHTTP(w, r)
	case what == "websocket" && !upgrades(r):
		w.WriteHeader(http.StatusUpgradeRequired)
	case what == "websocket":
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
	case what == "buffering":
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no") // as of the gate
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-c.read:
			_, _ = io.WriteString(w, "streamed")
		case <-time.After(streamWait):
		case <-r.Context().Done():
		}
	}
}

// upgrades reports whether a request is one for a websocket as it arrives (RFC 6455, section 4.2.1).
func upgrades(r *http.Request) bool {
	return r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// streamWait is how long the second part of an answer waits for the first one to be read.
const streamWait = 3 * time.Second

// visitor asks as one would, by a way.
type visitor struct {
	*checker
	url  *url.URL
	http *http.Transport
}

const headMost = 64 << 10 // bytes of an answer's head

func (c *checker) visit(site string, dial dialer) *visitor {
	var one http.Protocols // HTTP/2 has no Upgrade
	one.SetHTTP1(true)
	v := &visitor{checker: c, url: below(site), http: &http.Transport{Proxy: http.ProxyFromEnvironment, ExpectContinueTimeout: continueWait, MaxResponseHeaderBytes: headMost, Protocols: &one}}
	if dial != nil {
		v.http.Proxy, v.http.DialContext = nil, dial
	}
	return v
}

// continueWait is how long a server may take to say that it does not want a body.
const continueWait = 2 * time.Second

func (v *visitor) close() { v.http.CloseIdleConnections() }

// ask asks for something; what is answered through the port is ours.
func (v *visitor) ask(ctx context.Context, method, what string, body io.Reader, size int64, head http.Header) (resp *http.Response, ours bool, err error) {
	ask, reply := v.Begin()
	defer v.End(ask)
	req, err := http.NewRequestWithContext(ctx, method, v.url.String(), body)
	if err != nil {
		return nil, false, err
	}
	for name, values := range head {
		req.Header[name] = values
	}
	req.ContentLength = size
	req.Header.Set(probe.Header, ask)
	req.Header.Set(wants, what)
	req.Header.Set("User-Agent", "taipy-tunnel")
	resp, err = v.http.RoundTrip(req)
	return resp, err == nil && resp.Header.Get(probe.Header) == reply, err
}

// page is the app's, as a visitor sees it.
func (v *visitor) page(ctx context.Context) (probe.Checked, error) {
	if v.app == nil {
		return skipped("page", "no app was named"), nil
	}
	resp, ours, err := v.ask(ctx, http.MethodGet, "page", nil, 0, http.Header{"Accept": {"text/html, */*;q=0.1"}})
	if err != nil && ctx.Err() != nil && v.asked.Load() {
		return probe.Checked{OK: true, Warn: true, Seen: "the app takes longer for its page than is waited for", Hint: "nginx leads to it: its own output says what it does"}, nil
	}
	if err != nil {
		return probe.Checked{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	c := probe.Checked{OK: true, Seen: "a visitor of " + v.url.String() + " gets " + fault.Clip(resp.Status)}
	switch {
	case resp.Header.Get(wants) == "away":
		return skipped("page", "see the row app"), nil
	case !ours:
		c.OK, c.Hint = false, "the answer is not the app's, although /.well-known/taipy-tunnel below it leads here: have nginx hand the page to the tunnel as well"
	case resp.StatusCode >= http.StatusInternalServerError:
		c.OK, c.Hint = false, "the app itself answers so: its own output says why"
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusForbidden:
		c.Warn, c.Hint = true, fault.Hintf("the app itself answers so. Some apps refuse a host that they do not know: visitors ask for %s (Django: ALLOWED_HOSTS)", v.url.Host)
	case resp.StatusCode >= http.StatusBadRequest:
		c.Warn, c.Hint = true, "the app itself answers so"
	}
	return c, nil
}

// websocket is whether nginx lets one through.
func (v *visitor) websocket(ctx context.Context) (probe.Checked, error) {
	resp, ours, err := v.ask(ctx, http.MethodGet, "websocket", nil, 0, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}})
	if err != nil {
		return probe.Checked{}, err
	}
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return probe.Checked{OK: true, Seen: "nginx lets websockets through"}, nil
	case ours:
		return probe.Checked{Seen: "nginx does not let websockets through: an app that needs them stays blank, or does not follow clicks",
			Hint: "have nginx say: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; with the map of docs/proxy.md"}, nil
	}
	return probe.Checked{OK: true, Warn: true, Seen: "what asks for a websocket gets " + fault.Clip(resp.Status) + ", and not from here", Hint: "something before the tunnel answers it: have it passed on"}, nil
}

// sizes are those of uploads that are tried, in MiB. Nothing of them is sent.
var sizes = []int64{2, 100, 1024}

var errStop = errors.New("enough")

// unsent is a body that is begun only when the server asks for it, and not sent then (RFC 9110, section 10.1.1).
type unsent struct{ asked atomic.Bool }

func (u *unsent) Read([]byte) (int, error) { u.asked.Store(true); return 0, errStop }

// uploads is how large one may be.
func (v *visitor) uploads(ctx context.Context) (probe.Checked, error) {
	taken := int64(0)
	for _, size := range sizes {
		body := &unsent{}
		resp, ours, err := v.ask(ctx, http.MethodPost, "upload", body, size<<20, http.Header{"Expect": {"100-continue"}, "Content-Type": {"application/octet-stream"}})
		if err == nil {
			_ = resp.Body.Close()
		}
		switch {
		case err == nil && resp.StatusCode == http.StatusRequestEntityTooLarge:
			hint := fault.Hint("have nginx say: client_max_body_size 0;")
			if taken == 0 {
				return probe.Checked{Seen: "nginx refuses uploads of " + strconv.FormatInt(size, 10) + " MiB (413)", Hint: hint}, nil
			}
			return probe.Checked{OK: true, Warn: true, Seen: fmt.Sprintf("nginx takes uploads of %d MiB, and refuses those of %d MiB (413)", taken, size), Hint: hint}, nil
		case err == nil && !ours:
			return probe.Checked{OK: true, Warn: true, Seen: "an upload gets " + fault.Clip(resp.Status) + ", and not from here", Hint: "something before the tunnel answers it: have it passed on"}, nil
		case err != nil && !body.asked.Load():
			return probe.Checked{}, err
		}
		taken = size
	}
	return probe.Checked{OK: true, Seen: fmt.Sprintf("nginx takes uploads of %d MiB", taken)}, nil
}

// buffering is whether an answer comes while it is written.
func (v *visitor) buffering(ctx context.Context) (probe.Checked, error) {
	resp, ours, err := v.ask(ctx, http.MethodGet, "buffering", nil, 0, nil)
	if err != nil {
		return probe.Checked{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if !ours {
		return probe.Checked{OK: true, Warn: true, Seen: "the answer is not from here: " + fault.Clip(resp.Status)}, nil
	}
	first := make([]byte, len("first"))
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		return probe.Checked{}, err
	}
	select {
	case v.read <- struct{}{}:
	default:
	}
	rest, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err != nil {
		return probe.Checked{}, err
	}
	if string(rest) == "streamed" {
		return probe.Checked{OK: true, Seen: "answers come while they are written"}, nil
	}
	return probe.Checked{OK: true, Warn: true, Seen: "answers come only when they are complete, so pages that follow what the app does stand still",
		Hint: "have nginx say: proxy_buffering off;"}, nil
}
