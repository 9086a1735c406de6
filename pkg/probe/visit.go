// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Visit asks for the page that visitors open, as they do.
type Visit struct {
	// URL is that of the page.
	URL string
	// Authorization is sent in the header of that name, to that URL alone: no redirect is followed. "": none is sent.
	Authorization string
	// Form is sent by a POST. Nil: it is a GET.
	Form url.Values
	// Ask is sent in Header, by which the tunnel tells this visit from those of others; Reply is its answer.
	Ask, Reply string
	// Dial connects in place of the network. Nil: as this machine does, by its proxy settings.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// HostHeader carries in the answers to a Question at the URL, and to a Visit, the host that it arrived with.
const HostHeader = "X-Taipy-Tunnel-Host"

// Visited is what a visitor gets.
type Visited struct {
	// Status and Header are those of the answer, Ours whether it came through the tunnel.
	Status int
	Header http.Header
	Ours   bool
	// Host is the one that the visit arrived with, where it is not the URL's: something on the way has changed it. Else "".
	Host string
	// Took is how long it was waited for.
	Took time.Duration
	// Err is why there was no answer; Late: because that takes too long.
	Err  error
	Late bool
}

// Do asks once. Of the answer it reads the head alone.
func (v Visit) Do(ctx context.Context) Visited {
	c := client(v.Dial)
	c.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTPClient.Timeout = 0 // ctx ends it
	method := http.MethodGet
	if v.Form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, v.URL, strings.NewReader(v.Form.Encode()))
	if err != nil {
		return Visited{Err: errors.New("not a URL")}
	}
	if v.Form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "text/html, */*;q=0.1") // a browser's
	req.Header.Set(Header, v.Ask)
	req.Header.Set("User-Agent", "taipy-tunnel")
	if v.Authorization != "" {
		req.Header.Set("Authorization", v.Authorization)
	}
	began := time.Now()
	resp, err := c.HTTPClient.Do(req)
	took := time.Since(began)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return Visited{Err: err, Late: ctx.Err() != nil, Took: took}
	}
	_ = resp.Body.Close()
	got := Visited{Status: resp.StatusCode, Header: resp.Header, Ours: resp.Header.Get(Header) == v.Reply, Took: took}
	if got.Ours {
		got.Host = otherHost(resp)
	}
	return got
}

// otherHost is the host with which a request arrived that the tunnel has answered, where it is not the one that it was sent to; else "".
func otherHost(resp *http.Response) string {
	arrived, at := resp.Header.Get(HostHeader), resp.Request.URL
	if withPort(arrived, at.Scheme) == withPort(at.Host, at.Scheme) {
		return ""
	}
	return arrived
}

// withPort is a host as it is sent, in small letters and Punycode (RFC 5891), with the scheme's own port where it has none.
func withPort(host, scheme string) string {
	host = strings.ToLower(host)
	if ascii, err := httpguts.PunycodeHostPort(host); err == nil {
		host = ascii
	}
	if u := (&url.URL{Host: host}); u.Port() == "" {
		host = strings.TrimSuffix(host, ":") + map[string]string{"http": ":80", "https": ":443"}[scheme]
	}
	return host
}
