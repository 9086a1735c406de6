// SPDX-License-Identifier: Apache-2.0

// Package probe looks along the chain from the public URL to the app: read-only checks, each
// with its finding.
//
//	err := probe.App(ctx, "127.0.0.1:5000") // nil: something answers
//	f := probe.URL(ctx, probe.Question{URL: url, Ask: ask, Reply: reply})
//	if f.Kind == probe.Ours { … }
//
//	got := probe.Visit{URL: url, Authorization: "Bearer …"}.Do(ctx) // got.Status: what a visitor gets
//
// It sends one small GET at a time and follows no redirect to another host.
package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Header carries the question of a check in the request, and its answer in the response.
const Header = "X-Taipy-Tunnel-Check"

// AgeHeader carries in the request how long ago the asking tunnel was exposed, in milliseconds, and
// in the response of a tunnel that did not ask Newer or Older: what it is itself. Each measures by
// its own clock, so the clocks need not agree.
const AgeHeader = "X-Taipy-Tunnel-Age"

// What a tunnel is that answers a question of another's.
const (
	SaysNewer = "newer"
	SaysOlder = "older"
)

const (
	appTimeout = 2 * time.Second        // an app that accepts but says nothing for so long is merely slow
	askTimeout = 3 * time.Second        // one question, connection included
	askAgain   = 250 * time.Millisecond // an address that leads elsewhere may be about to change
	askLonger  = 2 * time.Second        // …and is asked less often after a while
)

// App reports nil if something accepts connections at target ("host:port") and answers HTTP or
// anything else, or takes its time; otherwise the error of the connection.
func App(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, appTimeout)
	defer cancel()
	c := client(nil)
	c.RetryMax = 0
	c.HTTPClient.Transport.(*http.Transport).Proxy = nil
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+"/", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err == nil {
		return resp.Body.Close()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return op
	}
	return nil
}

// Question asks whether a URL leads to the tunnel that knows the answer.
type Question struct {
	// URL is what visitors open.
	URL string
	// Ask is sent in the request's Header, Reply is the right answer. Random and used once.
	Ask, Reply string
	// Age is how long ago the tunnel was exposed.
	Age time.Duration
	// Once has an address that leads elsewhere asked once, not until it leads to the tunnel.
	Once bool
	// AnyCertificate has it ask a site whose certificate is not trusted: nothing is sent that is secret.
	AnyCertificate bool
	// Dial connects in place of the network. Nil: as this machine does, by its proxy settings.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Kind is what a check found.
type Kind int

// The kinds of findings.
const (
	Ours        Kind = iota // the URL leads to the tunnel
	Newer                   // it leads to another tunnel, exposed after this one
	Older                   // it leads to another tunnel, exposed before this one
	Elsewhere               // it answers, but leads elsewhere
	Guarded                 // it wants a login or leads to another host: it cannot be told
	Unreachable             // it cannot be opened
)

// Finding is what a check found; Answer says in a few words what was seen.
type Finding struct {
	Kind   Kind
	Answer string
	// At is the address of the tunnel that answered, after redirects; nil for any other answer.
	At *url.URL
	// Server is the header of that name in the answer of the tunnel, which sends none: a web server before it does.
	Server string
	// Unknown: nginx itself says that it has no such page.
	Unknown bool
	// Err is why it is Unreachable.
	Err error
}

// ownPage is in the error pages that nginx has built in.
const ownPage = "<hr><center>nginx"

// URL asks q until it is Ours, cannot be told, or ctx ends; an address that cannot be opened is
// given up after one try.
func URL(ctx context.Context, q Question) Finding {
	last := Finding{Kind: Unreachable, Answer: "no answer"}
	c := client(q.Dial)
	if q.AnyCertificate {
		c.HTTPClient.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	c.RetryMax = 1 << 20 // ctx ends it
	c.Backoff = func(_, _ time.Duration, n int, _ *http.Response) time.Duration {
		return min(askAgain<<min(n, 8), askLonger)
	}
	c.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if ctx.Err() == nil || last.Kind == Unreachable { // what was seen outweighs that time is over
			last = judge(q, resp, err)
		}
		elsewhere := last.Kind == Elsewhere || last.Kind == Newer || last.Kind == Older
		return elsewhere && !q.Once && ctx.Err() == nil, nil
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return Finding{Kind: Unreachable, Answer: "not a URL"}
	}
	req.Header.Set(Header, q.Ask)
	req.Header.Set(AgeHeader, strconv.FormatInt(q.Age.Milliseconds(), 10))
	req.Header.Set("User-Agent", "taipy-tunnel")
	if resp, err := c.Do(req); err == nil {
		_ = resp.Body.Close()
	}
	return last
}

// judge tells what one answer means.
func judge(q Question, resp *http.Response, err error) Finding {
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return Finding{Kind: Unreachable, Answer: err.Error(), Err: err}
	}
	answer := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch {
	case resp.Header.Get(Header) == q.Reply:
		return Finding{Kind: Ours, Answer: answer, At: resp.Request.URL, Server: resp.Header.Get("Server")}
	case resp.Header.Get(AgeHeader) == SaysNewer:
		return Finding{Kind: Newer, Answer: "a newer taipy-tunnel"}
	case resp.Header.Get(AgeHeader) == SaysOlder:
		return Finding{Kind: Older, Answer: "an older taipy-tunnel"}
	case resp.StatusCode/100 == 3, resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden,
		resp.StatusCode == http.StatusProxyAuthRequired:
		return Finding{Kind: Guarded, Answer: answer}
	default:
		page, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return Finding{Kind: Elsewhere, Answer: answer, Unknown: resp.StatusCode == http.StatusNotFound && bytes.Contains(page, []byte(ownPage))}
	}
}

// client returns a client that logs nothing, keeps no connection, and stays with one host.
func client(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *retryablehttp.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	if dial != nil {
		transport.Proxy, transport.DialContext = nil, dial
	}
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.HTTPClient = &http.Client{Transport: transport, Timeout: askTimeout, CheckRedirect: stay}
	return c
}

// stay follows redirects within a host, such as from http to https.
func stay(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 || req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	return nil
}
