// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// frame is one of a websocket, masked as a browser's are.
func frame(opcode byte, size int, masked bool) []byte {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	b := []byte{opcode}
	switch {
	case size < 126:
		b = append(b, bit|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(size))
	}
	if masked {
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, size)...) // which looks like another's head
}

// However the bytes come, the ends of frames are found where they are.
func TestFrames(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var b []byte
		ends := map[int]bool{0: true}
		for range 10 {
			size := []int{0, 1, rng.IntN(126), 125, 126, rng.IntN(1 << 16), 1<<16 - 1, 1 << 16, 70000}[rng.IntN(9)]
			b = append(b, frame(byte(rng.IntN(8)), size, rng.IntN(2) == 0)...)
			ends[len(b)] = true
		}
		var f frames
		for at := 0; at < len(b); {
			piece := b[at:min(len(b), at+1+rng.IntN(1<<rng.IntN(18)))]
			n := f.pass(piece)
			if n == 0 || n < len(piece) && !f.between() {
				t.Fatalf("seed %d: it stopped at %d, within a frame", seed, at+n)
			}
			for past := at + 1; past < at+n; past++ {
				if ends[past] {
					t.Fatalf("seed %d: it went past the end at %d", seed, past)
				}
			}
			if at += n; f.between() != ends[at] || f.closed {
				t.Fatalf("seed %d: between frames at %d: %v; closed: %v", seed, at, f.between(), f.closed)
			}
		}
		if f.pass(frame(0x88, 2, false)); !f.closed {
			t.Errorf("seed %d: a close frame was not seen", seed)
		}
	}
}

// wantFrames reads what was sent, and then a close frame with the status 1001, and nothing after it.
func wantFrames(t *testing.T, who string, r io.Reader, sent []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if rest, ok := bytes.CutPrefix(got, sent); !ok || err != nil {
		t.Errorf("%s: %d bytes, %v; they begin with the %d that were sent: %v", who, len(got), err, len(sent), ok)
	} else if masked := len(rest) == 8 && rest[0] == 0x88 && rest[1] == 0x82; masked && (rest[6]^rest[2] != 0x03 || rest[7]^rest[3] != 0xe9) ||
		!masked && !bytes.Equal(rest, []byte{0x88, 2, 0x03, 0xe9}) {
		t.Errorf("%s: the end is %x", who, rest)
	}
}

// TestDrainEndsWebsockets: both ends are told where a frame ends, and both are closed, whatever they do.
func TestDrainEndsWebsockets(t *testing.T) {
	check(t)
	type half struct{ first, second []byte } // of a message: the drain comes between them
	cut := func(b []byte) half { return half{b[:len(b)/2], b[len(b)/2:]} }
	for name, c := range map[string]struct {
		answers bool // the app closes when it is told
		down    half // from the app
		up      half
	}{
		"idle":                   {answers: true},
		"idle, deaf":             {},
		"under way":              {true, cut(frame(0x81, 3000, false)), cut(frame(0x81, 100000, true))},
		"within a head":          {true, half{frame(1, 70000, false)[:5], frame(1, 70000, false)[5:]}, half{frame(2, 300, true)[:1], frame(2, 300, true)[1:]}},
		"in a fragmented one":    {true, half{append(frame(0x01, 10, false), frame(0x00, 20, false)[:4]...), frame(0x00, 20, false)[4:]}, half{}},
		"under way and deaf too": {false, cut(frame(0x81, 3000, false)), cut(frame(0x81, 500, true))},
	} {
		t.Run(name, func(t *testing.T) {
			check(t)
			read, drained, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			g, addr := open(t, Config{Target: at(rawApp(t, func(conn *net.TCPConn, r *bufio.Reader, _ *http.Request) {
				defer close(done)
				_, _ = io.WriteString(conn, switched+string(c.down.first))
				first := make([]byte, len(c.up.first))
				_, _ = io.ReadFull(r, first)
				close(read)
				<-drained
				_, _ = conn.Write(c.down.second)
				sent := append(bytes.Clone(c.up.first), c.up.second...)
				if !c.answers {
					wantFrames(t, "app", io.MultiReader(bytes.NewReader(first), r), sent) // to the end that the gate makes
					return
				}
				told := make([]byte, len(c.up.second)+8)
				if _, err := io.ReadFull(r, told); err != nil {
					t.Error(err)
				}
				wantFrames(t, "app", io.MultiReader(bytes.NewReader(first), bytes.NewReader(told)), sent)
				_, _ = conn.Write(frame(0x88, 2, false)) // too late
				_, _ = conn.Write(frame(0x81, 100, false))
			}))})
			v, r := upgraded(t, g, addr, string(c.up.first))
			<-read
			if _, err := r.Peek(len(c.down.first)); err != nil {
				t.Fatal(err)
			}
			g.Drain()
			if len(c.down.first)+len(c.up.first) == 0 {
				if b, err := r.Peek(4); err != nil || b[0] != 0x88 {
					t.Fatalf("at once: %x, %v", b, err)
				}
			}
			close(drained)
			_, _ = v.Write(c.up.second)
			wantFrames(t, "visitor", r, append(bytes.Clone(c.down.first), c.down.second...))
			_ = v.CloseWrite()
			<-done
		})
	}
}

// A websocket that has closed by itself is told nothing more.
func TestDrainAfterTheClose(t *testing.T) {
	check(t)
	closing, drained := frame(0x88, 2, false), make(chan struct{})
	g, addr := open(t, Config{Target: at(rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		_, _ = io.WriteString(c, switched+string(closing))
		<-drained
	}))})
	c, r := upgraded(t, g, addr, "")
	if _, err := io.ReadFull(r, make([]byte, len(closing))); err != nil {
		t.Fatal(err)
	}
	g.Drain()
	close(drained)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("%x, %v", rest, err)
	}
}

// TestStuckVisitorIsShutOut: one who is not admitted any more, and reads nothing, holds nothing.
func TestStuckVisitorIsShutOut(t *testing.T) {
	check(t)
	full := make(chan struct{})
	g, addr := open(t, Config{Target: at(rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		_, _ = io.WriteString(c, switched)
		for {
			_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		close(full)
		_, _ = io.Copy(io.Discard, r)
	}))})
	_, _ = upgraded(t, g, addr, "")
	<-full
	g.SetToken(RandomToken(time.Time{}))
	for deadline := time.Now().Add(patience); g.Stats().Requests == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request goes on")
		}
	}
}

// TestAnAppThatRefusesWebsockets: servers do that allow few origins, and their pages stand still.
func TestAnAppThatRefusesWebsockets(t *testing.T) {
	check(t)
	status := http.StatusForbidden
	took := 0
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if status == http.StatusSwitchingProtocols {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(app.Close)
	told := 0
	g, addr := open(t, Config{Target: at(app.Listener.Addr().String()), Access: Access{Public: true}, Websocket: func(taken bool) {
		if taken {
			took++
		} else {
			told++
		}
	}})
	socket := func(status int, want int) {
		t.Helper()
		if got := ask(t, addr, "GET", "/ws", "", append([]string{"Origin: http://" + host}, upgrade...)...); got.StatusCode != status || told != want {
			t.Errorf("%s, told %d times, want %d", got.Status, told, want)
		}
	}
	socket(http.StatusForbidden, 1)
	if got := ask(t, addr, "GET", "/", ""); got.StatusCode != 403 || told != 1 {
		t.Errorf("a page: %s, told %d times", got.Status, told)
	}
	if refused := g.Stats().Refused; refused != 0 {
		t.Errorf("%d of the app's own refusals are counted as the gate's", refused)
	}
	if got := ask(t, addr, "GET", "/ws", "", append([]string{"Origin: https://evil.test"}, upgrade...)...); got.StatusCode != 403 || told != 1 {
		t.Errorf("of another site: %s, told %d times", got.Status, told)
	}
	status = http.StatusNotFound
	socket(http.StatusNotFound, 1)
	status = http.StatusSwitchingProtocols
	socket(http.StatusSwitchingProtocols, 1)
	if took != 1 {
		t.Errorf("told of %d websockets that were taken, want 1", took)
	}
}

// That the app refuses websockets of its own page is told of those alone: not of another protocol, nor of what is asked by
// something else than a page of it, which has no Origin (RFC 6455, section 10.2).
func TestWebsocketsThatAreNoneOfThePage(t *testing.T) {
	for name, header := range map[string][]string{
		"curl --http2":   {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"},
		"without a page": upgrade,
	} {
		t.Run(name, func(t *testing.T) {
			check(t)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			t.Cleanup(app.Close)
			told := 0
			_, addr := open(t, Config{Target: at(app.Listener.Addr().String()), Access: Access{Public: true}, Websocket: func(bool) { told++ }})
			if got := ask(t, addr, "GET", "/admin", "", header...); got.StatusCode != http.StatusForbidden || told != 0 {
				t.Errorf("%d, told %d times that the app refuses the websockets of its page", got.StatusCode, told)
			}
		})
	}
}
