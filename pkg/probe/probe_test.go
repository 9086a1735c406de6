// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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

	if err := App(t.Context(), free.Addr().String()); err != nil {
		t.Errorf("something that takes its time: %v", err)
	}
	free.Close()
	if err := App(t.Context(), free.Addr().String()); err == nil {
		t.Error("nothing listens, but it answers")
	}
	if err := App(t.Context(), web.Listener.Addr().String()); err != nil {
		t.Errorf("an app that answers 404: %v", err)
	}
}

// ask runs a check against a server that answers with handler.
func ask(t *testing.T, handler http.HandlerFunc) Finding {
	t.Helper()
	s := httptest.NewServer(handler)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return URL(ctx, Question{URL: s.URL, Ask: "question", Reply: "answer"})
}

func ours(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(Header) == "question" {
		w.Header().Set(Header, "answer")
	}
	w.WriteHeader(http.StatusNoContent)
}

func TestFindings(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    Kind
	}{
		"the tunnel":           {ours, Ours},
		"another page":         {status(200), Elsewhere},
		"a newer tunnel":       {another(SaysNewer), Newer},
		"an older tunnel":      {another(SaysOlder), Older},
		"nginx without tunnel": {status(502), Elsewhere},
		"a login":              {status(401), Guarded},
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
			if f := ask(t, c.handler); f.Kind != c.want {
				t.Errorf("found %+v, want kind %d", f, c.want)
			}
		})
	}
}

func TestAddressThatIsAboutToLeadHere(t *testing.T) {
	var n atomic.Int32
	f := ask(t, func(w http.ResponseWriter, r *http.Request) {
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
	url := "http://" + l.Addr().String() + "/?secret=1"
	l.Close()
	f := URL(t.Context(), Question{URL: url, Ask: "q", Reply: "a"})
	if f.Kind != Unreachable || strings.Contains(f.Answer, "secret") {
		t.Errorf("found %+v", f)
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
		w.Header().Set(AgeHeader, says)
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
