// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/proxy"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// maxHead is how long the head of a proxy's answer may be, interim ones included: bytes.
const maxHead = 8 << 10

// answer is what an HTTP proxy says to CONNECT.
type answer struct {
	status int
	line   string // "407 Proxy Authentication Required"
	html   bool   // a page is announced
	wants  string // kinds of login: "Basic, Negotiate"
}

// ask asks an HTTP proxy for a connection to addr (RFC 9110, section 9.3.6).
func (v *Via) ask(_ context.Context, conn net.Conn, addr string) error {
	head := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: taipy-tunnel\r\n"
	if v.login {
		head += "Proxy-Authorization: Basic " + v.basic() + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return err
	}
	a, seen, err := readAnswer(conn)
	switch line := v.Hide(a.line); {
	case errors.Is(err, errNotHTTP):
		return fault.ViaNoProxy(v.String(), v.Hide(seen))
	case err != nil:
		return err
	case a.status == http.StatusProxyAuthRequired, a.status == http.StatusUnauthorized: // as tinyproxy says to a wrong one
		return fault.ViaPassword(v.String(), v.login, otherThanBasic(a.wants))
	case a.status/100 == 3, a.status == http.StatusNetworkAuthenticationRequired, a.status/100 == 2 && a.html:
		return fault.ViaPage(v.String(), addr, line)
	case a.status/100 == 2:
		return nil
	case a.status == http.StatusBadRequest, a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		return fault.ViaNoProxy(v.String(), line)
	case a.status/100 == 4 && a.status != http.StatusTooManyRequests && a.status != http.StatusRequestTimeout:
		return fault.ViaForbidden(v.String(), addr, line)
	default:
		return fault.ViaConnect(v.String(), addr, line)
	}
}

var errNotHTTP = errors.New("not an HTTP answer")

// readAnswer reads the head of an answer and no byte more: what follows is the server's, and stays
// in the connection. seen is the beginning of what was read.
func readAnswer(r io.Reader) (a answer, seen string, err error) {
	head := make([]byte, 0, 256)
	begin := 0 // of the present line
	for len(head) < maxHead {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			if len(head) > 0 && errors.Is(err, io.EOF) {
				return a, string(head), errNotHTTP
			}
			return a, string(head), err
		}
		if head = append(head, b[0]); b[0] != '\n' {
			continue
		}
		line := strings.TrimRight(string(head[begin:]), "\r\n")
		switch {
		case a.status == 0:
			if a.status, a.line = statusLine(line); a.status == 0 {
				return a, string(head), errNotHTTP
			}
		case line != "":
			a.header(line)
		case a.status < 200: // interim (RFC 9110, section 15.2): the final one follows
			a = answer{}
		default:
			return a, string(head), nil
		}
		begin = len(head)
	}
	return a, string(head), errNotHTTP
}

// statusLine reads "HTTP/1.1 200 Connection established" (RFC 9112, section 4); 0: it is none.
func statusLine(line string) (status int, rest string) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	n, err := strconv.ParseUint(code, 10, 16)
	if !strings.HasPrefix(version, "HTTP/") || err != nil || n < 100 || n > 599 {
		return 0, ""
	}
	return int(n), strings.TrimSpace(rest)
}

func (a *answer) header(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch http.CanonicalHeaderKey(name) {
	case "Content-Type":
		kind, _, _ := mime.ParseMediaType(value)
		a.html = kind == "text/html" || kind == "application/xhtml+xml"
	case "Proxy-Authenticate":
		kind, _, _ := strings.Cut(value, " ")
		if a.wants != "" {
			kind = a.wants + ", " + kind
		}
		a.wants = kind
	}
}

// otherThanBasic returns the kinds of login that a proxy wants if the one that is spoken here is
// not among them.
func otherThanBasic(wants string) string {
	if strings.Contains(strings.ToLower(wants), "basic") {
		return ""
	}
	return wants
}

// heard is a connection to a SOCKS proxy that keeps what the proxy says: golang.org/x/net tells its
// refusals by their words alone.
type heard struct {
	net.Conn
	said []byte
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.said = append(h.said, p[:min(n, max(0, 16-len(h.said)))]...)
	return n, err
}

// Dial and DialContext give the connection to the library, which asks for one to the proxy.
func (h *heard) Dial(string, string) (net.Conn, error)                         { return h, nil }
func (h *heard) DialContext(context.Context, string, string) (net.Conn, error) { return h, nil }

// socks asks a SOCKS5 proxy for a connection to addr (RFC 1928). Its name goes to the proxy as it is.
func (v *Via) socks(ctx context.Context, conn net.Conn, addr string) error {
	var auth *proxy.Auth
	if v.login {
		auth = &proxy.Auth{User: v.user, Password: v.password}
	}
	h := &heard{Conn: conn}
	d, err := proxy.SOCKS5("tcp", v.addr(), auth, h)
	if err == nil {
		_, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
	}
	if err == nil {
		return nil
	}
	if refusal := v.refusal(h.said, addr); refusal != nil {
		return refusal
	}
	if fault.IsTimeout(err) || ctx.Err() != nil {
		return context.DeadlineExceeded
	}
	return errors.New("it sent no answer of SOCKS5")
}

// socksReplies are the refusals of RFC 1928, section 6, that speak of the server.
var socksReplies = map[byte]string{1: "general failure", 3: "network unreachable", 4: "host unreachable", 5: "connection refused", 6: "TTL expired"}

// refusal tells what a SOCKS5 proxy said: its choice of login, the answer to that (RFC 1929), and
// that to the request. Nil: it did not come to a refusal.
func (v *Via) refusal(said []byte, addr string) error {
	switch {
	case len(said) == 0:
		return nil
	case said[0] != 5:
		return fault.ViaNoProxy(v.String(), v.Hide(string(said)))
	case len(said) < 2:
		return nil
	case said[1] == 0xff:
		return fault.ViaPassword(v.String(), v.login, "")
	case said[1] == 2 && len(said) >= 4 && said[3] != 0:
		return fault.ViaPassword(v.String(), v.login, "")
	}
	reply := said[2:]
	if said[1] == 2 {
		reply = reply[min(2, len(reply)):]
	}
	if len(reply) < 2 || reply[1] == 0 {
		return nil
	}
	if why, ok := socksReplies[reply[1]]; ok {
		return fault.ViaConnect(v.String(), addr, why)
	}
	return fault.ViaForbidden(v.String(), addr, fmt.Sprintf("reply %d", reply[1]))
}
