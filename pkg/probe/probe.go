// SPDX-License-Identifier: Apache-2.0

// Package probe looks along the chain from the public URL to the app: read-only checks, each
// with its finding.
//
//	err := probe.App{Addr: "127.0.0.1:5000"}.Answers(ctx) // nil: something does
//	f := probe.URL(ctx, probe.Question{URL: url, Ask: ask, Reply: reply})
//	if f.Kind == probe.Ours { … }
//
//	got := probe.Visit{URL: url, Authorization: "Bearer …"}.Do(ctx) // got.Status: what a visitor gets
//
// It sends one small GET at a time and follows no redirect to another host.
package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Header carries the question of a check in the request, and its answer in the response.
const Header = "X-Taipy-Tunnel-Check"

// TimeHeader carries in the answers of a prepared proxy's check port the time there, as nginx's
// $msec: seconds since 1970 with three digits of milliseconds.
const TimeHeader = "X-Taipy-Tunnel-Time"

const (
	askTimeout = 3 * time.Second        // one question, connection included
	askAgain   = 250 * time.Millisecond // an address that leads elsewhere may be about to change
	askLonger  = 2 * time.Second        // …and is asked less often after a while
)

// Question asks whether a URL leads to the tunnel that knows the answer.
type Question struct {
	// URL is what visitors open.
	URL string
	// Ask is sent in the request's Header, Reply is the right answer. Random and used once.
	Ask, Reply string
	// Exposed is the asking tunnel's. Another tunnel that answers compares it with its own; without an ID it says nothing.
	Exposed Exposed
	// Once has an address that leads elsewhere asked once, not until it leads to the tunnel.
	Once bool
	// Timeout bounds each try, connection included. 0: 3 s.
	Timeout time.Duration
	// Within: the question goes into TLS that the tunnel may carry as it is, and cannot look into. What answers may be the app itself, but for
	// the pages that nginx has built in.
	Within bool
	// Carried is called before each try, and the function that it returns after the answer: whether TLS has come to the tunnel meanwhile. Then
	// any answer may be the app's, but where a Gate takes what comes. Nil: none ever does.
	Carried func() func() bool
	// Gate: what comes to the tunnel is taken as HTTP, and TLS is refused.
	Gate bool
	// AnyCertificate has it ask a site whose certificate is not trusted: nothing is sent that is secret.
	AnyCertificate bool
	// Dial connects in place of the network. Nil: as this machine does, by its proxy settings.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Ahead is a connection to the host of URL, made before, for the first try without Dial. Nil: each try makes its own.
	Ahead *Ahead
}

// Kind is what a check found.
type Kind int

// The kinds of findings.
const (
	Ours        Kind = iota // the URL leads to the tunnel
	Newer                   // it leads to another tunnel, exposed after this one
	Older                   // it leads to another tunnel, exposed before this one
	Another                 // it leads to another tunnel, and one of the two does not know its time yet
	Elsewhere               // it answers, but leads elsewhere
	Nobody                  // it answers 502, 503 or 504: nothing serves it
	Guarded                 // a login, a firewall or a rule stands before it: it cannot be told
	Unreachable             // it cannot be opened
)

// Finding is what a check found; Answer says in a few words what was seen.
type Finding struct {
	Kind   Kind
	Answer string
	// At is the address of the tunnel that answered, after redirects; nil for any other answer.
	At *url.URL
	// Host is the one that the question arrived with at the tunnel, where it is not At's: something on the way has changed it. Else "".
	Host string
	// Server is the header of that name in the answer of the tunnel, which sends none: a web server before it does.
	Server string
	// Opening: the other tunnel that answered is being opened, and may fail.
	Opening bool
	// Stopped is what answered this machine, where the proxy was let pass and it is Ours; "": nothing did.
	Stopped string
	// Carried: TLS came to the tunnel while the answer was waited for.
	Carried bool
	// Unknown: nginx itself says that it has no such page.
	Unknown bool
	// Late: it is Nobody because what nginx reached there did not answer in nginx's time (504).
	Late  bool
	nginx bool // the page is one that nginx has built in
	// Time is the proxy's: of TimeHeader, or else of the header Date, which has whole seconds. Zero if
	// the answer has neither.
	Time time.Time
	// Took is how long the answer was waited for: Time is older than now by so much at most.
	Took time.Duration
	// Err is why it is Unreachable; nil where something answered in its place.
	Err error
}

// Refused reports whether nobody listens there.
func (f Finding) Refused() bool {
	op, ok := errors.AsType[*net.OpError](f.Err)
	return ok && op.Op == "dial" && errors.Is(op, syscall.ECONNREFUSED)
}

// Visited is where visitors of a URL come to, as the question did: from http to https.
func (f Finding) Visited(of string) string {
	u, err := url.Parse(of)
	if err != nil || f.At == nil {
		return of
	}
	u.Scheme, u.Host = f.At.Scheme, f.At.Host
	return u.String()
}

// ownPage is in the error pages that nginx has built in.
const ownPage = "<hr><center>nginx"

// URL asks q until it is Ours, cannot be told, or ctx ends; an address that cannot be opened is
// given up after one try.
func URL(ctx context.Context, q Question) Finding {
	last, began := Finding{Kind: Unreachable, Answer: "no answer"}, time.Now()
	c := client(q.Dial)
	c.HTTPClient.Timeout = cmp.Or(q.Timeout, askTimeout)
	transport := c.HTTPClient.Transport.(*http.Transport)
	if q.AnyCertificate {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	if q.Ahead != nil && q.Dial == nil {
		transport.DialContext, transport.ForceAttemptHTTP2 = q.Ahead.dial, true // which is the default without DialContext
	}
	carried := func() bool { return false }
	if q.Carried != nil {
		c.RequestLogHook = func(retryablehttp.Logger, *http.Request, int) { carried = q.Carried() }
	}
	c.RetryMax = 1 << 20 // ctx ends it
	c.Backoff = func(_, _ time.Duration, n int, _ *http.Response) time.Duration {
		return min(askAgain<<min(n, 8), askLonger)
	}
	c.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if ctx.Err() == nil || last.Kind == Unreachable { // what was seen outweighs that time is over
			last = judge(q, resp, err, carried())
			last.Took = time.Since(began)
		}
		elsewhere := last.Kind == Elsewhere || last.Kind == Nobody || last.Kind == Newer || last.Kind == Older || last.Kind == Another
		lost := q.Ahead != nil && q.Ahead.taken.Swap(false) && last.Kind == Unreachable // it may have been closed before
		return (elsewhere && !q.Once || lost) && ctx.Err() == nil, nil
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return Finding{Kind: Unreachable, Answer: "not a URL"}
	}
	req.Header.Set(Header, q.Ask)
	req.Header.Set(ExposedHeader, q.Exposed.String())
	req.Header.Set("User-Agent", "taipy-tunnel")
	if resp, err := c.Do(req); err == nil {
		_ = resp.Body.Close()
	}
	return last
}

// judge tells what one answer means. carried: TLS came while it was waited for.
func judge(q Question, resp *http.Response, err error, carried bool) Finding {
	if errors.Is(err, http.ErrSchemeMismatch) { // no visitor gets past that
		return Finding{Kind: Elsewhere, Answer: fault.SpeaksHTTP}
	}
	if err != nil {
		at := ""
		if u, ok := errors.AsType[*url.Error](err); ok {
			at, err = redirected(q.URL, u.URL), u.Err // without the URL
		}
		if byProxy(q) {
			return Finding{Kind: Unreachable, Answer: at + err.Error() + ", through this machine's HTTP proxy", Err: err}
		}
		return Finding{Kind: Unreachable, Answer: at + untrusted(err), Err: err}
	}
	f := meaning(q, resp)
	foreign := f.Kind == Elsewhere || f.Kind == Nobody
	if carried && !q.Gate && (foreign || f.Kind == Guarded) || q.Within && foreign && !f.nginx {
		f = Finding{Kind: Guarded, Answer: f.Answer + fault.WithinTLS}
	}
	f.Carried = carried
	f.Time = timeOf(resp.Header)
	f.Opening = resp.Header.Get(OpeningHeader) != ""
	return f
}

// redirected says where a question was sent that found no answer, if that is not where it was asked.
func redirected(asked, at string) string {
	from, err := url.Parse(asked)
	to, bad := url.Parse(at)
	if err != nil || bad != nil || from.Scheme == to.Scheme && from.Host == to.Host {
		return ""
	}
	return fmt.Sprintf("it redirects to %s://%s, and there: ", to.Scheme, to.Host)
}

// untrusted is why nothing was opened; of a certificate in fewer words than Go has.
func untrusted(err error) string {
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); !is {
		return err.Error()
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return "its certificate is not trusted here: it is self-signed, or of an authority that this machine does not know"
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return "its certificate is for another name"
	}
	if e, is := errors.AsType[x509.CertificateInvalidError](err); is && e.Reason == x509.Expired {
		return "its certificate has expired, or this machine's clock is wrong"
	}
	return err.Error()
}

// Untrusted reports whether it is Unreachable because of a certificate that is not trusted.
func (f Finding) Untrusted() bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](f.Err)
	return is
}

// PastCertificate says in the words of an Answer what was found where a certificate is not trusted; "" if nothing was.
func (f Finding) PastCertificate() string {
	switch f.Kind {
	case Unreachable:
		return ""
	case Ours:
		return "; past its certificate it leads here"
	case Elsewhere, Nobody:
		return fmt.Sprintf("; past its certificate it answers %q, but not from this tunnel", fault.Clip(f.Answer))
	}
	return fmt.Sprintf("; past its certificate it answers %q", fault.Clip(f.Answer))
}

func meaning(q Question, resp *http.Response) Finding {
	answer := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch {
	case resp.Header.Get(Header) == q.Reply:
		return Finding{Kind: Ours, Answer: answer, At: resp.Request.URL, Host: otherHost(resp), Server: resp.Header.Get("Server")}
	case resp.Header.Get(ExposedHeader) == SaysNewer:
		return Finding{Kind: Newer, Answer: "a newer taipy-tunnel"}
	case resp.Header.Get(ExposedHeader) == SaysOlder:
		return Finding{Kind: Older, Answer: "an older taipy-tunnel"}
	case resp.Header.Get(ExposedHeader) == SaysUnknown:
		return Finding{Kind: Another, Answer: "another taipy-tunnel"}
	}
	if resp.StatusCode == http.StatusProxyAuthRequired && byProxy(q) {
		return Finding{Kind: Unreachable, Answer: answer + ", from this machine's HTTP proxy"}
	}
	page, _ := io.ReadAll(io.LimitReader(resp.Body, pageMost))
	if guard, is := guarded(q, resp, page); is {
		return Finding{Kind: Guarded, Answer: answer + guard}
	}
	switch resp.StatusCode {
	case http.StatusBadRequest:
		if bytes.Contains(page, []byte("plain HTTP request was sent to HTTPS port")) { // nginx's words
			answer = fault.SpeaksHTTPS
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		own := bytes.Contains(page, []byte(ownPage)) || resp.Header.Get(TimeHeader) != ""
		if !own && resp.Request.URL.Scheme == "http" && byProxy(q) { // it may not have come so far
			return Finding{Kind: Unreachable, Answer: answer + ", from this machine's HTTP proxy or from what is behind it"}
		}
		return Finding{Kind: Nobody, Answer: answer, Late: resp.StatusCode == http.StatusGatewayTimeout, nginx: own}
	}
	own := bytes.Contains(page, []byte(ownPage))
	return Finding{Kind: Elsewhere, Answer: answer, Unknown: resp.StatusCode == http.StatusNotFound && own, nginx: own}
}

// byProxy reports whether a question goes through an HTTP proxy of this machine's settings. To that an http request is given whole, and
// it may answer in place of the site; for https it opens a way to the site, and its own answers are errors of the connection.
func byProxy(q Question) bool {
	u, err := url.Parse(q.URL)
	if q.Dial != nil || err != nil {
		return false
	}
	by, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	return by != nil && err == nil
}

// timeOf is the time of whichever web server sent h: nginx passes no header Date on.
func timeOf(h http.Header) time.Time {
	seconds, milli, _ := strings.Cut(h.Get(TimeHeader), ".")
	if n, err := strconv.ParseUint(seconds+milli, 10, 53); err == nil && len(milli) == 3 {
		return time.UnixMilli(int64(n))
	}
	date, _ := http.ParseTime(h.Get("Date")) // zero with an error
	return date
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
