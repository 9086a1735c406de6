// SPDX-License-Identifier: Apache-2.0

package loopcheck

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

const (
	peekSize    = 4 << 10                // of a connection's first bytes, where the question is looked for
	peekTimeout = 250 * time.Millisecond // for them: a visitor who waits to be spoken to is let through then
)

// Answer reads the first bytes of conn. If they are a question it answers and returns nil; otherwise it returns conn with
// those bytes still to be read.
func (c *Checker) Answer(conn net.Conn) net.Conn {
	head := make([]byte, 0, peekSize)
	_ = conn.SetReadDeadline(time.Now().Add(peekTimeout))
	for len(head) < peekSize && !startsTLS(head) && !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := conn.Read(head[len(head):peekSize])
		head = head[:len(head)+n]
		if err != nil {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
	reply, says := c.answerIn(head), http.Header(nil)
	if reply == "" && bytes.Contains(head, []byte(probe.ExposedHeader)) {
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head))); err == nil && strings.HasSuffix(r.URL.Path, gate.Path) {
			says = c.says(r.Header.Get(probe.ExposedHeader))
		}
	}
	switch {
	case reply != "":
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n%s: %s\r\nConnection: close\r\n\r\n", probe.Header, reply)
	case says != nil:
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\n")
		_ = says.Write(conn)
		_, _ = io.WriteString(conn, "Content-Length: 0\r\nConnection: close\r\n\r\n")
	default:
		if startsTLS(head) {
			c.carried.Add(1)
		}
		return &peeked{conn, head}
	}
	_ = conn.Close()
	return nil
}

// startsTLS reports whether a connection begins with a handshake of TLS: a record of that type (22), of major version 3 (RFC 8446, section 5.1).
func startsTLS(head []byte) bool { return bytes.HasPrefix(head, []byte{22, 3}) }

// CarriesTLS is a Question's Carried: it returns what reports whether a connection in TLS has come since.
func (c *Checker) CarriesTLS() func() bool {
	before := c.carried.Load()
	return func() bool { return c.carried.Load() != before }
}

// Heed returns conn for a gate, which answers questions itself: while one is open, and visitors were not seen to be led here, whether it
// begins with TLS is noted.
func (c *Checker) Heed(conn net.Conn, led bool) net.Conn {
	if led || !c.Busy() {
		return conn
	}
	return &heeded{Conn: conn, checker: c}
}

// peeked is a connection of which the first bytes were read already.
type peeked struct {
	net.Conn
	head []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

func (p *peeked) CloseWrite() error { return p.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// heeded is a connection that the gate serves, of which the first bytes are looked at as they are read.
type heeded struct {
	net.Conn
	checker *Checker
	begun   bool
}

func (h *heeded) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if !h.begun && n > 0 {
		if h.begun = true; startsTLS(b[:n]) {
			h.checker.carried.Add(1)
		}
	}
	return n, err
}

func (h *heeded) CloseWrite() error { return h.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// NetConn is for the gate, which asks the connection below for room, and whether its link leaves or lives.
func (h *heeded) NetConn() net.Conn { return h.Conn }
