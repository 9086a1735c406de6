// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// wire carries the SDK's requests. Each ends within patience; its answer is read whole, up to
// maxAnswer bytes, before the SDK sees any of it; and a redirect is an answer of somebody else: the
// SDK would follow it with the body that was sent, the token too where only the port or the scheme
// differs.
type wire struct {
	base  *http.Transport
	token atomic.Pointer[string] // the last one; to keep it out of what a server says
	asked atomic.Bool            // for what is not itself part of a login
}

func newWire() *wire {
	return &wire{base: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    maxTogether,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, token, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok && token != "" {
		w.token.Store(&token)
	}
	if strings.HasPrefix(req.URL.Path, "/api/") {
		w.asked.Store(true)
	}
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	resp, err := w.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	host := req.URL.Host
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		to := "elsewhere"
		if u, err := resp.Location(); err == nil && u.Host != "" {
			to = "to " + u.Host
		}
		return nil, fault.NotWorkspace(host, "with a redirect "+to)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fault.NotWorkspace(host, "with more than 4 MiB")
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotFound {
		if err := readable(host, body); err != nil {
			return nil, err
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

// readable reports an answer that is no JSON object. An empty one is what some routes answer.
func readable(host string, body []byte) error {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0 || body[0] == '{':
		return nil
	case body[0] == '<':
		return fault.NotWorkspace(host, "a web page")
	}
	return fault.NotWorkspace(host, "something that is not JSON")
}
