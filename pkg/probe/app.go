// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const appTimeout = 2 * time.Second // an app that accepts but says nothing for so long is merely slow

// App is the app on this machine.
type App struct {
	// Addr is where it listens, "host:port".
	Addr string
	// Dial connects to an address. Nil: as the network does.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Raw: it may speak anything, and is asked nothing.
	Raw bool
}

// Answers reports nil if something accepts connections there and answers HTTP, or nothing that is known, or takes its time.
// It is fault.ErrTLS if the app was seen to speak that, which the gate does not; otherwise the error of the connection.
func (a App) Answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appTimeout)
	defer cancel()
	if a.Raw {
		c, err := a.dial(ctx)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	_, err := a.asked(ctx)
	return err
}

// OnlyHTTP reports whether the app was seen to answer HTTP, and not to speak TLS.
func (a App) OnlyHTTP(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, appTimeout)
	defer cancel()
	if answered, err := a.asked(within); !answered || err != nil {
		return false
	}
	within, cancel = context.WithTimeout(ctx, appTimeout)
	defer cancel()
	speaks, told := a.speaksTLS(within)
	return told && !speaks
}

// asked asks the app for its page. answered: it did, in HTTP.
func (a App) asked(ctx context.Context) (answered bool, err error) {
	c := client(func(ctx context.Context, _, _ string) (net.Conn, error) { return a.dial(ctx) })
	c.RetryMax = 0
	c.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Addr+"/", nil)
	if err != nil {
		return false, err
	}
	resp, err := c.Do(req)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false, op
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	if err != nil || resp.StatusCode == http.StatusBadRequest {
		if speaks, _ := a.speaksTLS(ctx); speaks {
			return err == nil, fault.ErrTLS
		}
	}
	return err == nil, nil
}

func (a App) dial(ctx context.Context) (net.Conn, error) {
	if a.Dial != nil {
		return a.Dial(ctx, a.Addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", a.Addr)
}

// speaksTLS reports whether a handshake succeeds, or fails by an alert. Nothing is said to it. told: it answered, in TLS or otherwise, or
// hung up.
func (a App) speaksTLS(ctx context.Context) (speaks, told bool) {
	c, err := a.dial(ctx)
	if err != nil {
		return false, false
	}
	defer func() { _ = c.Close() }()
	err = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	if err == nil {
		return true, true
	}
	_, alert := errors.AsType[tls.AlertError](err)
	if remote, ok := errors.AsType[*net.OpError](err); alert || ok && remote.Op == "remote error" { // crypto/tls: an alert of the other side
		return true, true
	}
	_, other := errors.AsType[tls.RecordHeaderError](err)
	return false, (other || errors.Is(err, io.EOF)) && ctx.Err() == nil
}
