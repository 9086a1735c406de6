// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net"
	"net/http"
)

type connKey struct{}

// noteConn has requests find their connection.
func noteConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // as crypto/tls names what lies below
		c = over.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// leaver is a connection that knows whether the way by which it came is about to be given up.
type leaver interface{ Leaves() bool }

// lastOn marks an answer as the last on its connection, if that leaves: the proxy takes another one for what it asks next (RFC 9112,
// section 9.6). nginx keeps connections for an hour or 1000 requests each. One that it keeps and does not use is left to
// its keepalive_timeout: an upload that it sends there just as it is closed would be lost, for nginx repeats none.
func lastOn(h http.Header, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(leaver); ok && c.Leaves() {
		h.Set("Connection", "close")
	}
}
