// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// counting is a server that tells of each connection, before anything is read from it.
func counting(t *testing.T, tls bool) (s *httptest.Server, came chan net.Conn) {
	t.Helper()
	leak.Check(t)
	came = make(chan net.Conn, 10)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tls != (r.ProtoMajor == 2) {
			t.Errorf("TLS %v: asked by %s", tls, r.Proto)
		}
		ours(w, r)
	}))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			came <- c
		}
	}
	if tls {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, came
}

// connect has a connect to a URL; left is closed when it does not any more.
func connect(ctx context.Context, a *Ahead, site string) (left chan struct{}) {
	left = make(chan struct{})
	go func() { defer close(left); a.Connect(ctx, site) }()
	return left
}

// The first question takes the connection, through TLS, too; the next makes its own.
func TestQuestionTakesTheConnectionMadeAhead(t *testing.T) {
	for _, tls := range []bool{false, true} {
		s, came := counting(t, tls)
		a := NewAhead()
		left := connect(t.Context(), a, s.URL)
		<-came
		q := Question{URL: s.URL + "/path", Ask: "question", Reply: "answer", AnyCertificate: true, Ahead: a}
		if f := URL(t.Context(), q); f.Kind != Ours || len(came) != 0 {
			t.Errorf("TLS %v: found %+v with %d connections more", tls, f, len(came))
		}
		<-left
		if f := URL(t.Context(), q); f.Kind != Ours || len(came) != 1 {
			t.Errorf("TLS %v: found %+v with %d connections more", tls, f, len(came))
		}
	}
}

// A question waits for the connection that is under way.
func TestConnectionUnderWay(t *testing.T) {
	s, came := counting(t, false)
	a := NewAhead()
	found := make(chan Finding)
	go func() { found <- URL(t.Context(), Question{URL: s.URL, Ask: "question", Reply: "answer", Ahead: a}) }()
	select {
	case f := <-found:
		t.Errorf("found %+v", f)
	case <-time.After(50 * time.Millisecond):
	}
	<-connect(t.Context(), a, s.URL)
	if f := <-found; f.Kind != Ours || len(came) != 1 {
		t.Errorf("found %+v with %d connections", f, len(came))
	}
}

// A connection that is of no use costs the question nothing but another one.
func TestConnectionOfNoUse(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	s, came := counting(t, false)
	for name, prepare := range map[string]func(a *Ahead){
		"closed by the server": func(a *Ahead) {
			connect(t.Context(), a, s.URL)
			_ = (<-came).Close()
		},
		"of another host": func(a *Ahead) { connect(t.Context(), a, other.URL) },
		"refused":         func(a *Ahead) { <-connect(t.Context(), a, "http://127.0.0.1:1/") },
		"of no URL":       func(a *Ahead) { <-connect(t.Context(), a, "://") },
		"given up": func(a *Ahead) {
			ctx, cancel := context.WithCancel(t.Context())
			left := connect(ctx, a, s.URL)
			<-came
			cancel()
			<-left
		},
	} {
		a := NewAhead()
		prepare(a)
		if f := URL(t.Context(), Question{URL: s.URL, Ask: "question", Reply: "answer", Once: true, Ahead: a}); f.Kind != Ours || len(came) != 1 {
			t.Errorf("%s: found %+v with %d connections", name, f, len(came))
		}
		for len(came) > 0 {
			<-came
		}
	}
}

// A site that closes every connection is asked once, and once more only where one was made ahead.
func TestLostConnectionIsMadeAgainOnce(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			_ = c.Close()
		}
	}()
	site, a := "http://"+l.Addr().String(), NewAhead()
	connect(t.Context(), a, site)
	for want := 2; want > 0; want-- {
		if f := URL(t.Context(), Question{URL: site, Ahead: a}); f.Kind != Unreachable || len(came) != want {
			t.Errorf("found %+v with %d connections, want %d", f, len(came), want)
		}
		for len(came) > 0 {
			<-came
		}
	}
}

const childURL = "TAIPY_TUNNEL_TEST_AHEAD"

// Where this machine has an egress proxy the connection is one to that. net/http reads the environment once, so it is a
// process of its own.
func TestConnectionToTheEgressProxy(t *testing.T) {
	if site := os.Getenv(childURL); site != "" {
		a := NewAhead()
		left := connect(t.Context(), a, site)
		f := URL(t.Context(), Question{URL: site, Ask: "question", Reply: "answer", Ahead: a})
		if <-left; f.Kind != Ours || "http://"+a.to != os.Getenv("HTTP_PROXY") {
			t.Errorf("found %+v through %s", f, a.to)
		}
		return
	}
	s, came := counting(t, false)
	proxy, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), childURL+"=http://only.the.proxy.knows/", "HTTP_PROXY=http://"+proxy.Host)
	if said, err := child.CombinedOutput(); err != nil || len(came) != 1 {
		t.Errorf("%v with %d connections: %s", err, len(came), said)
	}
}
