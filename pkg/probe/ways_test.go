// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What is told from each place, and what follows.
func TestWays(t *testing.T) {
	server := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	leads := server(ours)
	elsewhere := server(answers(200, "another app"))
	guarded := server(answers(406, ""))
	nowhere := "http://127.0.0.1:1/"
	slow := server(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-r.Context().Done():
		}
		ours(w, r)
	})
	for _, c := range []struct {
		name, here, there string
		start             time.Duration
		kind              Kind
		byThere           bool
	}{
		{"both lead here", leads, leads, time.Minute, Ours, false},
		{"elsewhere from here", elsewhere, leads, time.Minute, Elsewhere, false},
		{"no way from here", nowhere, leads, time.Minute, Ours, true},
		{"no way from here, and the proxy does not know the URL", nowhere, leads, 0, Ours, true},
		{"no way from here, elsewhere from the proxy", nowhere, elsewhere, time.Minute, Elsewhere, true},
		{"no way at all", nowhere, nowhere, time.Minute, Unreachable, true},
		{"a guard lets the proxy pass", guarded, leads, time.Minute, Ours, true},
		{"a guard lets the proxy pass, which does not know the URL", guarded, leads, 0, Guarded, false},
		{"a guard, and elsewhere from the proxy", guarded, elsewhere, time.Minute, Guarded, false},
		{"a guard everywhere", guarded, guarded, time.Millisecond, Guarded, false},
		{"no way for the proxy, which is asked first", slow, nowhere, time.Millisecond, Ours, false},
		{"a guard for the proxy, which is asked first", slow, guarded, time.Millisecond, Ours, false},
		{"the proxy is asked as well after a while", slow, leads, time.Millisecond, Ours, true},
		{"from here alone", leads, "", time.Minute, Ours, false},
		{"from here alone, a guard", guarded, "", time.Minute, Guarded, false},
		{"from here alone, no way", nowhere, "", time.Minute, Unreachable, false},
		{"by the proxy alone", "", leads, time.Minute, Ours, true},
		{"by the proxy alone, elsewhere", "", elsewhere, time.Minute, Elsewhere, true},
		{"by the proxy alone, a guard", "", guarded, 0, Guarded, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			question := func(url string) *Question {
				if url == "" {
					return nil
				}
				return &Question{URL: url, Ask: "question", Reply: "answer", Once: true}
			}
			w := Ways{Here: question(c.here), There: question(c.there), HeadStart: c.start}
			f, there := w.Ask(t.Context(), func(f func()) bool { go f(); return true })
			if f.Kind != c.kind || there != c.byThere {
				t.Errorf("found %+v, there %v", f, there)
			}
		})
	}
	w := Ways{Here: &Question{URL: leads}}
	if f, _ := w.Ask(t.Context(), func(func()) bool { return false }); f.Kind != Unreachable {
		t.Errorf("nothing is spawned any more: %+v", f)
	}
}
