// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// events is an app that sends one event, and the next ones when it is told to.
func events(t *testing.T) (addr string, gone <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{}, 1)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	})
	return a.addr(), ended
}

// TestTokenEndsWhatItOpened: who was shut out hears nothing more, over what was open either.
func TestTokenEndsWhatItOpened(t *testing.T) {
	for name, trusted := range map[string]bool{"plain proxy": false, "prepared proxy": true} {
		t.Run(name, func(t *testing.T) {
			check(t)
			sockets, socketsAddr := open(t, Config{Target: at(rawApp(t, echo)), TrustProxy: trusted})
			c, r := upgraded(t, sockets, socketsAddr, "")
			app, gone := events(t)
			stream, streamAddr := open(t, Config{Target: at(app), TrustProxy: trusted})
			e, er := listening(t, stream, streamAddr, "X-Taipy-Tunnel-Request: 0123456789abcdef")

			sockets.SetToken(RandomToken(time.Time{}))
			stream.SetToken(RandomToken(time.Time{}))
			ends(t, c, r)
			ends(t, e, er)
			select {
			case <-gone:
			case <-time.After(patience):
				t.Error("the app was not told")
			}
		})
	}
}

// TestTokenExpiresUnderWay: an end that was set from the start is one, too.
func TestTokenExpiresUnderWay(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(rawApp(t, echo))})
	until := time.Now().Add(2 * time.Second)
	token, err := GivenToken(tokenText, until)
	if err != nil {
		t.Fatal(err)
	}
	g.SetToken(token)
	c := dial(t, addr)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, request("GET", "/ws", "", append(upgrade, cookieOf(g, token.Text()))...))
	if got := read(t, r, "GET"); got.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(got.Status)
	}
	ends(t, c, r)
	if time.Now().Before(until) {
		t.Error("it ended too early")
	}
}

// TestPublicLasts: a token that nobody is asked for ends nothing, and a download that was admitted
// is not cut in the middle.
func TestPublicLasts(t *testing.T) {
	check(t)
	half := make(chan struct{})
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		<-half
		_, _ = io.WriteString(w, "whole")
	})
	g, addr := open(t, Config{Target: at(a.addr())})
	c := dial(t, addr)
	_, _ = io.WriteString(c, request("GET", "/", "", admitted(g)))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	g.SetToken(RandomToken(time.Time{}))
	close(half)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "one whole" {
		t.Errorf("%q, %v", body, err)
	}

	sockets, addr := open(t, Config{Target: at(rawApp(t, echo)), Access: Access{Public: true}})
	ws, r := upgraded(t, sockets, addr, "")
	if _, err := io.WriteString(ws, "still here"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
}

// listening is a connection on which the first event has arrived.
func listening(t *testing.T, g *Gate, addr string, lines ...string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := dial(t, addr)
	_, _ = io.WriteString(c, request("GET", "/", "", append(lines, admitted(g))...))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); err != nil || line != "data: first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return c, r
}

// ends fails unless the connection does, without another word than the rest of an event.
func ends(t *testing.T, c net.Conn, r io.Reader) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(r)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() || len(rest) > 8 {
		t.Errorf("it went on: %q, %v", rest, err)
	}
}

// TestAccessEndsWhatItOpened: what the rules before admitted is ended, and judged by those that hold now.
func TestAccessEndsWhatItOpened(t *testing.T) {
	check(t)
	g, addr := open(t, Config{Target: at(rawApp(t, echo)), Access: Access{Public: true}, TrustProxy: true})
	words := Access{Passwords: map[string]string{"anna": "correct horse"}}
	here, elsewhere := "X-Forwarded-For: 192.0.2.7", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	ask := func(lines ...string) (net.Conn, *bufio.Reader, int) {
		c := dial(t, addr)
		r := bufio.NewReader(c)
		_, _ = io.WriteString(c, request("GET", "/ws", "", append(upgrade, append(lines, here)...)...))
		return c, r, read(t, r, "GET").StatusCode
	}
	c, r, code := ask()
	for _, now := range []struct {
		access  Access
		allow   []netip.Prefix
		without int
		with    string // what is asked for
	}{
		{Access{}, nil, 403, cookieOf(g, tokenText)},
		{words, nil, 401, "Authorization: Basic YW5uYTpjb3JyZWN0IGhvcnNl"},
		{words, elsewhere, 403, ""},
	} {
		if code != http.StatusSwitchingProtocols {
			t.Fatalf("before %+v: %d", now, code)
		}
		if err := g.SetAccess(now.access, now.allow); err != nil {
			t.Fatal(err)
		}
		ends(t, c, r)
		if _, _, code = ask(); code != now.without {
			t.Errorf("%+v: without what is asked for %d, want %d", now, code, now.without)
		}
		if now.with != "" {
			c, r, code = ask(now.with)
		}
	}
	if err := (&Gate{}).SetAccess(Access{}, elsewhere); err == nil {
		t.Error("addresses are asked for that a visitor could forge")
	}
}
