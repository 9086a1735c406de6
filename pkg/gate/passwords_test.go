// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var words = map[string]string{"ann": "right password", "bob": "other: päss", "": "nobody's"}

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestPasswords(t *testing.T) {
	check(t)
	a := secretApp(t)
	g, addr := open(t, Config{Target: at(a.addr()), Access: Access{Passwords: words}})
	for _, c := range []struct {
		line string
		want int
	}{
		{basic("ann", "right password"), 200},
		{basic("bob", "other: päss"), 200},
		{basic("ann", "other: päss"), 401},
		{basic("Ann", "right password"), 401},
		{basic("ann", "right password "), 401},
		{basic("eve", g.policy.Load().words.session), 401},
		{"Authorization: Basic !", 401},
		{"Authorization: Bearer " + tokenText, 401},
		{admitted(g), 401},
		{"X-A: b", 401},
	} {
		_, before := a.last()
		got := ask(t, addr, "GET", "/?token="+tokenText, "", c.line)
		r, n := a.last()
		if got.StatusCode != c.want || (n > before) != (c.want == 200) {
			t.Errorf("%s: %s", c.line, got.Status)
		}
		if c.want == 200 && (r.Header.Get("Authorization") != "" || len(got.Cookies()) != 1 || !got.Cookies()[0].HttpOnly) {
			t.Errorf("%s: the app got %v, the visitor %v", c.line, r.Header, got.Header)
		}
		if c.want == 401 && got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no question for a password in %v", c.line, got.Header)
		}
	}
	// Safari sends no password with a websocket's request, but cookies.
	k := ask(t, addr, "GET", "/", "", basic("ann", "right password")).Cookies()[0]
	session := "Cookie: " + k.Name + "=" + k.Value
	if got := ask(t, addr, "GET", "/ws", "", append(upgrade, session)...); got.StatusCode != 101 {
		t.Errorf("a websocket by session: %s", got.Status)
	}
	for line, want := range map[string]string{"Authorization: Bearer of-the-app": "Bearer of-the-app", basic("ann", "right password"): ""} {
		ask(t, addr, "GET", "/", "", session, line)
		if r, _ := a.last(); r.Header.Get("Authorization") != want || r.Header.Get("Cookie") != "" {
			t.Errorf("%s next to the session: the app got %v", line, r.Header)
		}
	}
	_, elsewhere := open(t, Config{Target: at(a.addr()), Access: Access{Passwords: words}})
	if got := ask(t, elsewhere, "GET", "/", "", session); got.StatusCode != 401 {
		t.Errorf("the session of another gate: %s", got.Status)
	}
}

// TestGuessingIsSlow: five wrong answers are told at once and then two a second, whoever asks;
// beyond a hundred that wait, they are sent away. A right one never waits.
func TestGuessingIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reached := 0
		g, err := New(Config{Target: at(""), URL: "https://" + host, Access: Access{Passwords: words}})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		g.proxy = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })
		began := time.Now()
		try := func(ctx context.Context, password string) (int, time.Duration) {
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.SetBasicAuth("ann", password)
			w := httptest.NewRecorder()
			g.ServeHTTP(w, r)
			return w.Code, time.Since(began)
		}
		var tasks sync.WaitGroup
		var mu sync.Mutex
		var told []time.Duration
		away := 0
		for range 150 {
			tasks.Go(func() {
				code, after := try(t.Context(), "wrong")
				mu.Lock()
				defer mu.Unlock()
				switch code {
				case http.StatusUnauthorized:
					told = append(told, after)
				case http.StatusTooManyRequests:
					away++
				}
			})
		}
		synctest.Wait()
		if len(told) > wrongFree+1 || away < 40 {
			t.Errorf("%d wrong answers were told at once, %d sent away", len(told), away)
		}
		if code, after := try(t.Context(), "right password"); code != 200 || after != 0 || reached != 1 {
			t.Errorf("meanwhile the right one: %d after %s", code, after)
		}
		tasks.Wait()
		if took, least := time.Since(began), time.Duration(len(told)-wrongFree-1)*wrongEach; took < least || len(told)+away != 150 {
			t.Errorf("%d wrong answers took %s, want %s", len(told), took, least)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		for range wrongFree {
			if code, after := try(t.Context(), "wrong"); code != 401 || after != 0 {
				t.Errorf("an hour later: %d after %s", code, after)
			}
		}
		if _, after := try(t.Context(), "wrong"); after != 0 { // the sixth of five: the clock starts
			t.Errorf("and one more after %s", after)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, after := try(gone, "wrong"); after != 0 {
			t.Errorf("one that has gone was waited for: %s", after)
		}
		if _, after := try(t.Context(), "wrong"); after != 2*wrongEach {
			t.Errorf("the next after %s, want %s", after, 2*wrongEach)
		}
	})
}
