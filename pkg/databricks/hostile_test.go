// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// calls are all that can be asked.
var calls = map[string]func(context.Context, *Workspace) error{
	"Secrets": func(ctx context.Context, w *Workspace) error {
		_, err := w.Secrets(ctx, "s", []string{"k"})
		return err
	},
	"Secret":  func(ctx context.Context, w *Workspace) error { _, err := w.Secret(ctx, "s", "k"); return err },
	"Cluster": func(ctx context.Context, w *Workspace) error { _, err := w.Cluster(ctx, cluster); return err },
	"Me":      func(ctx context.Context, w *Workspace) error { _, err := w.Me(ctx); return err },
	"Store": func(ctx context.Context, w *Workspace) error {
		_, err := w.Store(ctx, StoreConfig{Server: server, HostKey: hostKey})
		return err
	},
}

// says answers everything with one text.
func says(status int, kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

const (
	inJSON = "application/json"
	inHTML = "text/html"
)

// breaks ends the connection in the middle of what text begins.
func breaks(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

const (
	theAddress = "the address that the browser shows"
	wayThere   = "the way there from this machine"
	later      = "try again in a minute"
	newToken   = "the token has ended"
)

func TestWorkspacesThatAreNone(t *testing.T) {
	for _, c := range []struct {
		name      string
		answer    http.HandlerFunc
		words     string
		hint      string
		permanent bool
	}{
		{"500", says(500, inJSON, `{"error_code":"INTERNAL_ERROR","message":"`+token+`"}`), "does not answer for now: 500 Internal Server Error: (secret) (INTERNAL_ERROR)", later, false},
		{"500 without words", says(500, inJSON, `{}`), "does not answer for now: 500 Internal Server Error", later, false},
		{"502", says(502, inHTML, "<html><pre>"+token+"</pre>"), "502 Bad Gateway", later, false},
		{"401", says(401, inJSON, `{"error_code":"401","message":"Credential was not sent"}`), "refuses the token: 401 Unauthorized: Credential was not sent (401)", newToken, true},
		{"401 without words", says(401, inHTML, ""), "refuses the token: 401", newToken, true},
		{"403", says(403, inJSON, `{"error_code":403,"message":"Invalid access token `+token+`"}`), "refuses the token: 403 Forbidden: Invalid access token (secret) (403)", newToken, true},
		{"403 of a list of addresses", says(403, inHTML, "Source IP address is blocked by Databricks IP ACL"), "refuses the token: 403", "IP access list", true},
		{"404", says(404, inHTML, "<html>not here"), "a web page", theAddress, true},
		{"404 in JSON", says(404, inJSON, `{"error_code":"ENDPOINT_NOT_FOUND","message":"No API found"}`), "No API found", "", true},
		{"a login page", says(200, inHTML, "\n<!doctype html><title>Sign in</title>"+token), "a web page", theAddress, true},
		{"garbage", says(200, inJSON, "\x00\xff\xfe"), "not JSON", theAddress, true},
		{"a list", says(200, inJSON, `[1]`), "not JSON", theAddress, true},
		{"other types", says(200, inJSON, `{"secrets":7,"key":{},"cluster_id":[],"userName":""}`), "something that is not", theAddress, true},
		{"half of it", says(200, inJSON, `{"secrets":[{"key":"`), "not what was asked for", theAddress, true},
		{"a breach", breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"secrets\":"), "no connection", wayThere, false},
		{"nothing", breaks(""), "no connection", wayThere, false},
		{"no HTTP", breaks("SSH-2.0-OpenSSH_9.6\r\n"), "no connection", wayThere, false},
		{"endless headers", breaks("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), "no connection", wayThere, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, w := opened(t)
			f.Handler = c.answer
			for call, do := range calls {
				e := asError(t, do(t.Context(), w))
				if !strings.Contains(e.Error(), c.words) || e.Hint == "" || !strings.Contains(e.Hint.String(), c.hint) || e.Permanent != c.permanent {
					t.Errorf("%s: %v; %s; permanent %v", call, e, e.Hint, e.Permanent)
				}
				holdsNone(t, call, e, token, "<nil>")
			}
		})
	}
}

// A server that repeats the token where its words are cut off.
func TestHalfATokenIsOneToo(t *testing.T) {
	f, w := opened(t)
	for n := range len(token) {
		f.Handler = says(500, inJSON, `{"error_code":"E","message":"`+strings.Repeat("x", 300-n)+token+`"}`)
		if e := asError(t, calls["Me"](t.Context(), w)); strings.Contains(e.Error(), token[:4]) {
			t.Fatal(e)
		}
	}
}

// What no route of this package asks for is no answer to it.
func TestAnswersToOtherQuestions(t *testing.T) {
	f, w := opened(t)
	for call, answer := range map[string]string{
		"Secret":  `{"key":"other","value":"djE="}`,
		"Cluster": `{"cluster_id":"other"}`,
		"Me":      `{"id":"42"}`,
	} {
		for _, answer := range []string{answer, `{}`, ``} {
			f.Handler = says(200, inJSON, answer)
			if e := asError(t, calls[call](t.Context(), w)); !strings.Contains(e.Error(), "not a") {
				t.Errorf("%s, %s: %v", call, answer, e)
			}
		}
	}
	f.Handler = says(200, inJSON, `{"key":"k","value":"not base64 `+token+`"}`)
	holdsNone(t, "bad base64", asError(t, calls["Secret"](t.Context(), w)), token, "not base64")
}

// A token is not carried to where a redirect leads, nor is what is to be stored.
func TestRedirectsAreNotFollowed(t *testing.T) {
	f, w := opened(t)
	elsewhere := newFake(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere.address, "http://" + token + "@" + strings.TrimPrefix(elsewhere.address, "http://"), "/login", ""} {
			f.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(to, "http") {
					rw.Header().Set("Location", to+r.URL.RequestURI())
				} else if to != "" {
					rw.Header().Set("Location", to)
				}
				rw.WriteHeader(status)
			})
			for call, do := range calls {
				e := asError(t, do(t.Context(), w))
				if !strings.Contains(e.Error(), "redirect") || !e.Permanent {
					t.Errorf("%d to %q, %s: %v", status, to, call, e)
				}
				holdsNone(t, call, e, token)
			}
		}
	}
	if got := elsewhere.taken(); len(got) != 0 {
		t.Errorf("%d requests went elsewhere", len(got))
	}
}

// However much comes, packed or not, little is taken.
func TestHugeAnswers(t *testing.T) {
	f, w := opened(t)
	piece := bytes.Repeat([]byte(" "), 1<<16)
	var member bytes.Buffer // of gzip, of which there may be many one after the other (RFC 1952, section 2.2): packed once, not as they go
	z := gzip.NewWriter(&member)
	if _, err := z.Write(piece); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for _, packed := range []bool{false, true} {
		f.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			sends := piece
			if packed {
				rw.Header().Set("Content-Encoding", "gzip")
				sends = member.Bytes()
			}
			for sent := 0; sent < 1<<30; sent += len(piece) {
				if _, err := rw.Write(sends); err != nil {
					return
				}
			}
		})
		before := allocated()
		e := asError(t, calls["Me"](t.Context(), w))
		used := allocated() - before
		if !strings.Contains(e.Error(), "more than 4 MiB") || !strings.Contains(e.Hint.String(), theAddress) {
			t.Errorf("packed %v: %v", packed, e)
		}
		if used > 100<<20 {
			t.Errorf("packed %v: %d MiB were allocated", packed, used>>20)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	leak.Check(t)
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	w := open(t, Config{Host: s.URL, Token: fixed(token)})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	e := asError(t, calls["Me"](ctx, w))
	if !strings.Contains(e.Hint.String(), wayThere) || e.Permanent {
		t.Errorf("%v; %s", e, e.Hint)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	f, w := opened(t)
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"} {
		asked, end := make(chan struct{}, 100), make(chan struct{})
		f.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			conn, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer)
			asked <- struct{}{}
			<-end
		})
		for call, do := range calls {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- do(ctx, w) }()
			<-asked
			cancel()
			if e := asError(t, <-done); !errors.Is(e, context.Canceled) || e.Permanent {
				t.Errorf("%s after %q: %v", call, answer, e)
			}
		}
		close(end)
	}
}

// inMemory is a Workspace, in a bubble of synctest, whose connections lead to a handler.
func inMemory(t *testing.T, h http.Handler) *Workspace {
	t.Helper()
	conns := make(chan net.Conn)
	server := &http.Server{Handler: h}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener{conns, make(chan struct{})}) }()
	w := open(t, Config{Host: "http://127.0.0.1", Token: fixed(token)})
	w.wire.base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		conns <- far
		return near, nil
	}
	return w
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error { close(l.closed); return nil }
func (listener) Addr() net.Addr { return &net.TCPAddr{} }

// A person waits less than 10 s, whatever the workspace does and whoever forgot a deadline.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		words  string
		hint   string
		more   bool // it is asked again
	}{
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer from 127.0.0.1 within 9s", wayThere, false},
		{"drips", func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(rw, " ")
				_ = http.NewResponseController(rw).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(time.Second):
				}
			}
		}, "no answer from 127.0.0.1 within 9s", wayThere, false},
		{"429", says(429, inJSON, `{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"Too many"}`), "does not answer for now: 429 Too Many Requests: Too many (REQUEST_LIMIT_EXCEEDED)", later, true},
		{"429 for an hour", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Retry-After", "3600")
			says(429, inHTML, "slow down")(rw, r)
		}, "does not answer for now: 429 Too Many Requests", later, false},
		{"503", says(503, inJSON, `{"error_code":"TEMPORARILY_UNAVAILABLE","message":"Soon"}`), "does not answer for now: 503", later, true},
	} {
		for call, do := range calls {
			t.Run(c.name+" "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var asked atomic.Int64
					w := inMemory(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						asked.Add(1)
						c.answer(rw, r)
					}))
					started := time.Now()
					e := asError(t, do(context.Background(), w))
					if waited := time.Since(started); waited > 10*time.Second {
						t.Errorf("%v passed", waited)
					}
					if !strings.Contains(e.Error(), c.words) || !strings.Contains(e.Hint.String(), c.hint) || e.Permanent {
						t.Errorf("%v; %s", e, e.Hint)
					}
					if n := asked.Load(); (n > 1) != c.more {
						t.Errorf("asked %d times", n)
					}
				})
			})
		}
	}
}

// A workspace that is busy for a moment only is asked again, and what is stored is sent again whole.
func TestABusyMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scopes: map[string]map[string]string{}, acls: map[string]string{}}
		var n atomic.Int64
		w := inMemory(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if n.Add(1)%2 == 1 {
				_, _ = io.Copy(io.Discard, r.Body)
				reply(rw, 503, map[string]string{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "Soon"})
				return
			}
			f.answer(rw, r)
		}))
		got, err := w.Store(context.Background(), StoreConfig{Server: server, HostKey: hostKey})
		if err != nil || !belongs(t, f.scopes[DefaultScope]["key"], got.PublicKey) {
			t.Errorf("%+v, %v", got, err)
		}
		equal(t, "asked", f.routes(), []string{"GET/secrets/list", "POST/secrets/scopes/create",
			"POST/secrets/put", "POST/secrets/put", "POST/secrets/put", "POST/secrets/acls/put"})
	})
}

// allocated is how many bytes this process has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
