// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// Ahead is a connection to the host of a URL that is made while something else is waited for: the first question that
// has it ([Question].Ahead) takes one round trip less. It is a TCP connection on which nothing is sent before the
// question, not even TLS. If it cannot be made, or is closed before, no error says so.
type Ahead struct {
	to    string        // "host:port"
	made  chan net.Conn // closed when there is none
	taken atomic.Bool   // by a question whose answer was not looked at yet
}

// NewAhead returns one for Connect. Questions that have it wait until Connect has connected, or failed.
func NewAhead() *Ahead { return &Ahead{made: make(chan net.Conn)} }

// ports are those that net/http takes where a URL or proxy has none.
var ports = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// Connect connects to where a question to site does, by this machine's proxy settings, and returns when a question
// has taken the connection, or there is none. It is closed after 3 s, or when ctx ends. Call it once.
func (a *Ahead) Connect(ctx context.Context, site string) {
	defer close(a.made)
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequest(http.MethodGet, site, nil)
	if err != nil {
		return
	}
	at := req.URL
	if proxy, _ := http.ProxyFromEnvironment(req); proxy != nil {
		at = proxy
	}
	a.to = net.JoinHostPort(at.Hostname(), cmp.Or(at.Port(), ports[at.Scheme]))
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.to)
	if err != nil {
		return
	}
	select {
	case a.made <- c:
	case <-ctx.Done():
		_ = c.Close()
	}
}

// dial has the first call take the connection. Others connect as http.Transport does by itself.
func (a *Ahead) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case c, ok := <-a.made:
		if ok && a.to == addr {
			a.taken.Store(true)
			return c, nil
		}
		if ok {
			_ = c.Close()
		}
	case <-ctx.Done():
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
