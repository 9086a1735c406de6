// SPDX-License-Identifier: Apache-2.0

// Package gate is the door between visitors and the app: an HTTP reverse proxy that admits those
// who were sent the link, makes answers lighter, and tells the truth while the app is away.
//
//	g, err := gate.New(gate.Config{Target: &target, URL: "https://apps.example.com/", Identity: "me@host:22 8080"})
//	token, err := gate.DeriveToken(secret, "v1", time.Time{})
//	g.SetToken(token)
//	err = g.Serve(listener) // until the listener is closed
//	g.Close()               // and the connections with it
//
// It runs in the app's own process, so what is not admitted never reaches the machine's network,
// whatever stands before it. Each request is judged by itself: a proxy hands the requests of
// different visitors over one connection. After an upgrade (RFC 9110, section 7.8) it only copies.
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

const (
	headTimeout = 30 * time.Second // for a request's head
	idleTimeout = 90 * time.Second // of a kept-alive connection: longer than nginx keeps its own (keepalive_timeout 60s)
	maxHead     = 64 << 10         // bytes of a request's head; nginx passes on 32 KiB at most
)

// Path is the gate's own address (RFC 8615). A GET is answered by Config.WellKnown before access
// is checked, a POST hands a token over. To a HEAD, as a prepared proxy's status page asks it, the
// answer is 404 and has the header Since, when the gate was made (RFC 3339, UTC); its nginx passes that on to nobody.
//
// Past is where it is asked by another way than visitors come: its path is not what is left of theirs.
const (
	Path  = "/.well-known/taipy-tunnel"
	Past  = Path + "?past"
	Since = "X-Taipy-Tunnel-Since"
)

// Target is where the app listens; *forward.Target is one.
type Target interface {
	// Addr is "host:port", "" while there is no app.
	Addr() string
	// Listener identifies the socket that takes connections at Addr now: no other socket has the same
	// id. 0 if none is seen on this machine. False if it cannot be told.
	Listener() (id uint64, known bool)
	// Dial connects to the app where it listens now.
	Dial(ctx context.Context) (net.Conn, error)
}

// Config says what a gate leads to and whom it admits.
type Config struct {
	// Target is the app. Required.
	Target Target
	// URL is what visitors open: it tells which origin is the app's own, and whether cookies
	// are for https alone. Required.
	URL string
	// Identity tells this tunnel from others on the same host: cookies know neither ports nor
	// paths well enough. Required.
	Identity string
	// Access says who is admitted. The zero value: those who have the token (SetToken). SetAccess
	// changes it.
	Access Access
	// Allow are the addresses from which visitors may come. Nil: any. Only with TrustProxy. SetAccess
	// changes it.
	Allow []netip.Prefix
	// TrustProxy says that the proxy overwrites X-Forwarded-For, X-Forwarded-Prefix and
	// X-Taipy-Tunnel-Request and X-Taipy-Tunnel-Passed, which a visitor could forge otherwise: they are dropped then.
	TrustProxy bool
	// Clock is how far the proxy's clock is ahead of Now's, at least: it waits until that is known, or ctx ends. Nil:
	// it is never known.
	Clock func(ctx context.Context) (ahead time.Duration, known bool)
	// Now is this machine's clock, which goes on while it sleeps. Nil: the one on the wall, which may be set.
	Now func() time.Time
	// Look asks for a look at who answers visitors, whose result comes by Looked. False: there will be none. Nil: it is not asked.
	Look func() bool
	// Before is the gate in whose place this one is; its proxy may send here again what that one was asked. Nil: none.
	Before *Gate
	// WellKnown answers GETs of Path, for anybody. Nil: 404.
	WellKnown http.Handler
	// Visit reports whether a request is the owner's own, who asks as a visitor would: it is answered like any other, and
	// not counted. It may add to the answer's header and take from the request's. Nil: there are none.
	Visit func(answer http.Header, r *http.Request) bool
	// Busy reports that the app's process does nothing at all. Nil: it never is.
	Busy func() bool
	// Dialled is told how each attempt to reach the app ended (nil: it answered). It must not
	// block. Nil: nobody is told.
	Dialled func(addr string, err error)
	// Websocket is told of each websocket that the app has taken (101) or refused by a 403. It must not block. Nil: nobody is
	// told.
	Websocket func(taken bool)
	// Another is called when a different server listens where the app was, or none does. It must not block, and calls nothing of
	// the gate's. Nil: it is not called.
	Another func()
	// Log takes what goes wrong in single requests, at level debug. Nil: nothing is logged.
	Log *slog.Logger
	// Panicked is told of a defect in a goroutine; only that request ends.
	Panicked func(error)
}

// Gate is an http.Handler with a server of its own. Its methods may be called from several
// goroutines.
type Gate struct {
	cfg    Config
	origin string // of URL
	below  string // path of URL, without the slash at its end; "" where the proxy tells it
	shown  string // the same as browsers write it

	passed atomic.Pointer[passing] // what the proxy makes of that; nil: not known
	cookie string                  // its name
	secure bool                    // cookies are for https alone
	since  string                  // when it was made, RFC 3339

	token    atomic.Pointer[Token]
	valid    atomic.Pointer[span] // of what admits visitors now
	policy   atomic.Pointer[policy]
	answered atomic.Bool // the app did, at least once
	stats    *stats
	proxy    http.Handler // to the app, with all that is done on the way
	upgrades http.Handler // the same without what only answers need
	once     *once

	present  atomic.Pointer[server] // what the target leads to, as last seen
	changing sync.Mutex             // held to store another server
	servers  int                    // how many there were; guarded by changing
	waiting  atomic.Int64           // requests without a byte of an answer
	looking  atomic.Bool            // a look is due, since some wait
	keeping  *http.Transport        // of connections that are kept
	single   *http.Transport        // of those that serve one request, since the listener cannot be seen

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup // requests under way
	server   *http.Server
	life     context.Context
	end      context.CancelFunc
	parting  atomic.Pointer[parting]
	tasks    guard.Group
}

// New returns a gate. It refuses a URL that is none, and Allow without TrustProxy.
func New(cfg Config) (*Gate, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, errors.New("gate: URL has no host")
	}
	before := cfg.Before
	cfg.Before = nil // nor those before it
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{cfg: cfg, origin: originOf(u), cookie: cookieName(cfg.Identity), secure: u.Scheme == "https",
		since: time.Now().UTC().Format(time.RFC3339), stats: newStats()}
	if err := g.SetAccess(cfg.Access, cfg.Allow); err != nil {
		return nil, err
	}
	if !cfg.TrustProxy {
		g.below, g.shown = belowURL(u)
	}
	if before != nil && before.below == g.below {
		g.passed.Store(before.passed.Load())
	}
	g.tasks.Panicked = cfg.Panicked
	g.life, g.end = context.WithCancel(context.Background())
	g.Resume()
	g.keeping, g.single = g.newTransport(true), g.newTransport(false)
	g.change(&server{end: func() {}}, "", 0)
	proxy := &httputil.ReverseProxy{Rewrite: g.rewrite, Transport: roundTripper(g.ask), ModifyResponse: g.modify, ErrorHandler: g.failed,
		BufferPool: buffers{}, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)}
	g.upgrades, g.proxy = proxy, tellsBreaks(compress(proxy))
	if cfg.TrustProxy {
		g.once = newOnce(g.proxy, g.tasks.Go, cfg.Now)
		g.once.clock, g.once.look = cfg.Clock, cfg.Look
		if before != nil && before.once != nil {
			g.once.begun = before.once.begun
		}
		g.proxy = g.once
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHead,
		DisableGeneralOptionsHandler: true, ErrorLog: proxy.ErrorLog, BaseContext: func(net.Listener) context.Context { return g.life }, ConnContext: noteConn}
	return g, nil
}

// Looked notes what a look saw that began then: that visitors are led to this gate alone, or that some are not. What the proxy sends
// again, and this gate does not know, waits for one that began since (Config.Look).
func (g *Gate) Looked(began time.Time, alone bool) {
	if g.once != nil {
		g.once.begun.Looked(began, alone)
	}
}

// Share notes that another tunnel is there: what the proxy sends again from now on, and soon, may have begun there.
func (g *Gate) Share() {
	if g.once != nil {
		g.once.begun.Share(g.once.now())
	}
}

// SetToken changes the token, at once for all visitors: upgraded connections and streams
// of events that an earlier one opened, or that outlast the token, are ended. Until the first call
// nobody is admitted by a token.
func (g *Gate) SetToken(t *Token) {
	g.token.Store(t)
	var until time.Time
	if t != nil {
		until = t.Expires()
	}
	begin(&g.valid, until)
}

// Token returns what admits visitors now, nil if nothing was set.
func (g *Gate) Token() *Token { return g.token.Load() }

// Serve takes connections from l until it fails, and returns that error.
func (g *Gate) Serve(l net.Listener) error { return g.server.Serve(kept{l}) }

// Drain ends connections that are idle, and the others after the request that is under way on them. Websockets,
// which have no end, are told that the server goes away (1001) where the frame ends that is under way, and
// closed after 2 s.
func (g *Gate) Drain() {
	g.server.SetKeepAlivesEnabled(false)
	g.parting.Load().end()
}

// Resume takes Drain back, for what comes from now on.
func (g *Gate) Resume() {
	if g.server != nil {
		g.server.SetKeepAlivesEnabled(true)
	}
	ctx, end := context.WithCancel(context.Background())
	g.parting.Store(&parting{ctx, end})
}

// parting ends when the gate is drained.
type parting struct {
	context.Context
	end context.CancelFunc
}

// Close ends every connection and returns when nothing of them is left. It waits for Serve, so the
// listener is closed first.
func (g *Gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.end()
	g.valid.Load().end()
	err := g.server.Close()
	g.keeping.CloseIdleConnections()
	if g.once != nil {
		g.once.close()
	}
	g.handlers.Wait()
	g.tasks.Wait()
	return err
}

// ServeHTTP answers one request. The order is the policy: what is our own, who it is, from where
// it was sent, whether the app can answer, the app.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		panic(http.ErrAbortHandler) // ends the connection
	}
	defer g.handlers.Done()
	defer g.defect()
	t := &trip{prefix: g.prefix(r), valid: g.valid.Load()}
	g.seesPath(r)
	r = g.withOneSlash(r)
	if g.atHome(r.URL.Path) && (r.Method == http.MethodGet || r.Method == http.MethodHead) { // of the tunnel's own or the admin's, not a visitor's
		lastOn(w.Header(), r)
		g.own(w, r, t)
		return
	}
	x := g.begin(w, r)
	defer x.end()
	switch {
	case !g.allowed(x.Client):
		refuse(x, r, http.StatusForbidden, page{Kind: "address"})
		passBy(x, r)
	case g.atHome(r.URL.Path):
		g.own(x, r, t)
	case !g.admit(x, r, t):
		passBy(x, r)
	default:
		x.admit()
		g.serve(x, r, t)
	}
}

// defect tells of a panic that is one of ours; net/http, which ends the connection, tells at level debug.
func (g *Gate) defect() {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		g.cfg.Log.Error("internal error: a request was cut short", "panic", p, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// serve answers a visitor.
func (g *Gate) serve(x *exchange, r *http.Request, t *trip) {
	switch {
	case !g.fromHere(r):
		refuse(x, r, http.StatusForbidden, notFromHere(r))
		passBy(x, r)
		return
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		refuse(x, r, http.StatusMethodNotAllowed, page{Kind: "method"})
		return
	case isPage(r) && g.busy():
		g.away(x, r, awayBusy)
		return
	}
	ctx := context.WithValue(r.Context(), tripKey{}, t)
	if isUpgrade(r) {
		g.upgrade(x, r.WithContext(ctx), t)
		return
	}
	r = r.WithContext(ctx)
	end, is := hasRoom(r)
	if !is {
		crowded(x, r)
		return
	}
	defer end()
	x.passed = true
	r.Body = x.counting(r.Body)
	g.proxy.ServeHTTP(x, r)
}

// enter reports false once the gate is closed.
func (g *Gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.handlers.Add(1)
	}
	return !g.closed
}

func (g *Gate) busy() bool { return g.cfg.Busy != nil && g.cfg.Busy() }
