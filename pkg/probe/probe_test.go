// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

func TestApp(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()

	if err := (App{Addr: free.Addr().String()}).Answers(t.Context()); err != nil {
		t.Errorf("something that takes its time: %v", err)
	}
	free.Close()
	for _, raw := range []bool{false, true} {
		if err := (App{Addr: free.Addr().String(), Raw: raw}).Answers(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("raw %v: nothing listens, but %v", raw, err)
		}
		if err := (App{Addr: web.Listener.Addr().String(), Raw: raw}).Answers(t.Context()); err != nil {
			t.Errorf("raw %v: an app that answers 404: %v", raw, err)
		}
	}
}

// An app that speaks TLS is told from one that does not, also from one that refuses the request or breaks it off.
func TestAppThatSpeaksTLS(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	wantsCertificate := httptest.NewUnstartedServer(http.NotFoundHandler())
	wantsCertificate.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	wantsCertificate.StartTLS()
	defer wantsCertificate.Close()
	wantsCertificate.Config.ErrorLog = log.New(io.Discard, "", 0)
	refuses := httptest.NewServer(answers(400, ""))
	defer refuses.Close()
	breaks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer breaks.Close()
	for _, c := range []struct {
		name string
		at   *httptest.Server
		want error
	}{
		{"TLS", secure, fault.ErrTLS},
		{"TLS with certificates of clients", wantsCertificate, fault.ErrTLS},
		{"an app that refuses", refuses, nil},
		{"an app that breaks off", breaks, nil},
	} {
		for _, raw := range []bool{false, true} {
			want := c.want
			if raw {
				want = nil
			}
			if err := (App{Addr: c.at.Listener.Addr().String(), Raw: raw}).Answers(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s, raw %v: %v, want %v", c.name, raw, err, want)
			}
		}
	}
}

// ask runs a check against a server that answers with handler.
func ask(t *testing.T, once bool, handler http.HandlerFunc) Finding {
	t.Helper()
	s := httptest.NewServer(handler)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return URL(ctx, Question{URL: s.URL, Ask: "question", Reply: "answer", Once: once})
}

func ours(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(Header) == "question" {
		w.Header().Set(Header, "answer")
	}
	w.WriteHeader(http.StatusNoContent)
}

func answers(code int, page string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(page))
	}
}

// Once a tunnel has carried TLS, into which it cannot look, any answer may be the app's own.
func TestAnswersWithinTLS(t *testing.T) {
	for name, row := range map[string]struct {
		page   http.HandlerFunc
		beside Kind
	}{
		"no such page":             {http.NotFound, Elsewhere},
		"an app that is busy":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, Nobody},
		"nginx, perhaps as an app": {answers(502, "<center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center>"), Nobody},
		"a login":                  {answers(401, ""), Guarded},
	} {
		s := httptest.NewTLSServer(row.page)
		for carried, want := range map[bool]Kind{true: Guarded, false: row.beside} {
			f := URL(t.Context(), Question{URL: s.URL, Ask: "question", Reply: "answer", Once: true, AnyCertificate: true, Carried: func() func() bool { return func() bool { return carried } }})
			if f.Kind != want || strings.HasSuffix(f.Answer, fault.WithinTLS) != carried {
				t.Errorf("%s, %v: %+v", name, carried, f)
			}
		}
		s.Close()
	}
}

// The host that a question arrives with is told where it is another one, in whatever way it is written.
func TestHostThatAQuestionArrivesWith(t *testing.T) {
	for _, row := range []struct {
		sent, arrives, want string
	}{
		{"http://apps.corp/", "apps.corp", ""}, {"http://apps.corp/", "APPS.corp:80", ""}, {"https://apps.corp:443/", "apps.corp", ""}, {"http://bücher.example/", "xn--bcher-kva.example", ""},
		{"http://apps.corp:8080/", "apps.corp", "apps.corp"}, {"http://apps.corp/", "127.0.0.1:8080", "127.0.0.1:8080"}, {"http://apps.corp/", "", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, row.sent, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := otherHost(&http.Response{Request: req, Header: http.Header{HostHeader: {row.arrives}}}); got != row.want {
			t.Errorf("%+v: %q", row, got)
		}
	}
}

func TestFindings(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    Kind
	}{
		"the tunnel":              {ours, Ours},
		"another page":            {status(200), Elsewhere},
		"a newer tunnel":          {another(SaysNewer), Newer},
		"an older tunnel":         {another(SaysOlder), Older},
		"nginx without tunnel":    {status(502), Nobody},
		"the away page":           {status(503), Nobody},
		"a mute socket":           {status(504), Nobody},
		"a broken app":            {status(500), Elsewhere},
		"a password of HTTP":      {status(401), Guarded},
		"a rule for addresses":    {status(403), Guarded},
		"a 406":                   {status(406), Guarded},
		"too many questions":      {status(429), Guarded},
		"a network's sign-in":     {status(511), Guarded},
		"no such page":            {status(404), Elsewhere},
		"a proxy's password":      {status(407), Guarded}, // of one in front of the site: this machine has none
		"a host that is unknown":  {status(421), Guarded},
		"a page that was removed": {status(410), Guarded},
		"a client certificate":    {answers(400, "<title>400 No required SSL certificate was sent</title>"), Guarded},
		"TLS that was not spoken": {answers(400, "<title>400 The plain HTTP request was sent to HTTPS port</title>"), Elsewhere},
		"a login form":            {answers(200, `<form><input name="p" type="password"></form>`), Guarded},
		"a page without a form":   {answers(200, `<p>type="password"</p>`), Elsewhere},
		"a firewall that examines browsers (Anubis)": {answers(200, `<script id="anubis_challenge" type="application/json">`), Guarded},
		"a firewall that rejects the request (F5)":   {answers(200, "The requested URL was rejected. Please consult with your administrator."), Guarded},
		"Cloudflare's firewall, which examines browsers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("cf-mitigated", "challenge")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, Guarded},
		"a redirect to a login of that host": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hub/login" {
				http.Redirect(w, r, "/hub/login?next=%2F", http.StatusFound)
			}
		}, Guarded},
		"a redirect to nothing": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/nothing" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			http.Redirect(w, r, "/nothing", http.StatusFound)
		}, Elsewhere},
		"a redirect elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.invalid/", http.StatusFound)
		}, Guarded},
		"a redirect within": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/app/", http.StatusFound)
				return
			}
			ours(w, r)
		}, Ours},
		"an echo of the question": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(Header, r.Header.Get(Header))
		}, Elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := ask(t, true, c.handler)
			if f.Kind != c.want || f.Late != (name == "a mute socket") {
				t.Errorf("found %+v, want kind %d", f, c.want)
			}
			if strings.Contains(name, "firewall") || strings.Contains(name, "a network's") {
				compat.Row(t, "servers", name+", before the tunnel", compat.Taken+": the URL could not be checked: "+fault.Unchecked(f.Answer, true, "token"))
			}
		})
	}
}

// What is seen of what stands before the tunnel is told; of a redirect nothing but the host, for what follows may be a secret.
func TestWhatStandsBeforeIsTold(t *testing.T) {
	for want, handler := range map[string]http.HandlerFunc{
		"400 Bad Request, it wants a client certificate": answers(400, "400 No required SSL certificate was sent"),
		"200 OK, a page that asks for a password":        answers(200, "<INPUT TYPE='password'>"),
		"302 Found, to login.invalid": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.invalid/authorize?state=secret", http.StatusFound)
		},
	} {
		if f := ask(t, true, handler); f.Answer != want {
			t.Errorf("%q, want %q", f.Answer, want)
		}
	}
}

func TestAddressThatIsAboutToLeadHere(t *testing.T) {
	var n atomic.Int32
	f := ask(t, false, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		ours(w, r)
	})
	if f.Kind != Ours || n.Load() != 3 {
		t.Errorf("found %+v after %d questions", f, n.Load())
	}
}

func TestUnreachableIsToldOnceWithoutTheURL(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site := "http://" + l.Addr().String() + "/?secret=1"
	l.Close()
	f := URL(t.Context(), Question{URL: site, Ask: "q", Reply: "a"})
	if f.Kind != Unreachable || strings.Contains(f.Answer, "secret") {
		t.Errorf("found %+v", f)
	}
}

// An address whose scheme the server does not speak is wrong, and not one that could not be asked; the other one is proposed.
func TestAnAddressOfAnotherScheme(t *testing.T) {
	plain, overTLS := httptest.NewServer(http.HandlerFunc(ours)), httptest.NewServer(answers(400, "<title>400 The plain HTTP request was sent to HTTPS port</title>"))
	defer plain.Close()
	defer overTLS.Close()
	for url, want := range map[string]string{strings.Replace(plain.URL, "http:", "https:", 1): plain.URL, overTLS.URL: strings.Replace(overTLS.URL, "http:", "https:", 1)} {
		f := URL(t.Context(), Question{URL: url, Ask: "q", Reply: "a", Once: true})
		if told := fault.NotOurs(url, f.Answer, &net.TCPAddr{}, false); f.Kind != Elsewhere || told.Hint != fault.Hintf("write {url=%q}", want) {
			t.Errorf("%s: %+v: %s; %s", url, f, told, told.Hint)
		}
	}
}

func TestDialInPlaceOfTheNetwork(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(ours))
	defer s.Close()
	f := URL(t.Context(), Question{URL: "http://only.the.proxy.knows/", Ask: "question", Reply: "answer",
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
		}})
	if f.Kind != Ours {
		t.Errorf("found %+v", f)
	}
}

func another(says string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(ExposedHeader, says)
		w.WriteHeader(http.StatusNotFound)
	}
}

// A question that is asked once is not asked again, whatever the answer.
func TestAskedOnce(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++ }))
	defer s.Close()
	if f := URL(t.Context(), Question{URL: s.URL, Ask: "a", Reply: "b", Once: true}); f.Kind != Elsewhere || asked != 1 {
		t.Errorf("found %+v after %d questions", f, asked)
	}
}

// The time is the web server's: to the millisecond where it is a prepared proxy's, else to the second. It comes with
// every answer; a text that is no time is none.
func TestTimeOfTheProxy(t *testing.T) {
	for _, c := range []struct{ precise, date, want string }{
		{"1764410643.123", "Fri, 28 Nov 2025 12:00:00 GMT", "2025-11-29T10:04:03.123Z"},
		{"", "Fri, 28 Nov 2025 12:00:00 GMT", "2025-11-28T12:00:00Z"},
		{"1764410643", "Fri, 28 Nov 2025 12:00:00 GMT", "2025-11-28T12:00:00Z"},
		{"-1.000", "yesterday", ""},
		{"1e9.123", "", ""},
		{"99999999999999999999.123", "", ""},
		{"NaN", "", ""},
		{"", "", ""},
	} {
		for _, status := range []int{200, 204, 404, 502, 401} {
			h := http.Header{}
			for name, value := range map[string]string{TimeHeader: c.precise, "Date": c.date} {
				if value != "" {
					h.Set(name, value)
				}
			}
			f := judge(Question{Reply: "answer"}, &http.Response{StatusCode: status, Header: h, Body: http.NoBody, Request: &http.Request{URL: &url.URL{}}}, nil, false)
			got := ""
			if !f.Time.IsZero() {
				got = f.Time.UTC().Format(time.RFC3339Nano)
			}
			if got != c.want {
				t.Errorf("%+v with %d: %s", c, status, got)
			}
		}
	}
}

// What is asked, and for how long.
func TestQuestionIsAskedAsItSays(t *testing.T) {
	me := Exposed{At: 1764410643123, ID: "ABC"}
	got := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get(ExposedHeader)
		<-r.Context().Done()
	}))
	defer s.Close()
	began := time.Now()
	f := URL(t.Context(), Question{URL: s.URL, Ask: "a", Reply: "b", Exposed: me, Timeout: 50 * time.Millisecond})
	if took := time.Since(began); f.Kind != Unreachable || took >= askTimeout {
		t.Errorf("found %+v after %v", f, took)
	}
	if asked, ok := ParseExposed(<-got); !ok || asked != me {
		t.Errorf("asked as %v", asked)
	}
}
