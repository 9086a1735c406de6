// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/pump"
)

// counted is a connection after its upgrade. io.Copy lets it choose how to copy, so that an idle
// websocket holds 2 KiB each way instead of 32.
type counted struct {
	net.Conn
	socket         *socket // nil: it is no websocket
	early          []byte  // what came with the head
	received, sent *atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (c *counted) ReadFrom(r io.Reader) (int64, error) {
	if c.socket != nil {
		return pump.Copy(c.socket.toVisitor.start(plainWriter{c}), r)
	}
	return pump.Copy(plainWriter{c}, r)
}

// WriteTo implements io.WriterTo.
func (c *counted) WriteTo(w io.Writer) (int64, error) {
	if c.socket != nil {
		w = c.socket.toApp.start(w)
	}
	return pump.Copy(w, c)
}

// CloseWrite ends one direction.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

type plainWriter struct{ io.Writer }

// kept is a listener that http.Server must not close: it is its caller's, and may be what waits for
// the server to end.
type kept struct{ net.Listener }

// Close does nothing.
func (kept) Close() error { return nil }
