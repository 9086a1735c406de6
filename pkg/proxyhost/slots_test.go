// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

const (
	question   = "/.well-known/taipy-tunnel"
	timeHeader = "X-Taipy-Tunnel-Time"
)

// names says who serves a slot and what it was asked for, and lies about the time.
func names(what string, asked *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set(timeHeader, "1.000")
		_, _ = fmt.Fprintf(w, "%s: %s", what, r.URL.Path)
	}
}

func newSlots(t *testing.T) (w *web, check int) {
	h := proxyhost.Host{Tenants: []proxyhost.Tenant{{Name: "alice", Keys: []string{key(t, 1)}, Host: "192.0.2.1", SelfService: "free.example.com",
		Apps: []proxyhost.Declared{{Name: "sales"}, {Name: "hr"}, {Name: "board", Host: "board.example.com"}}}}}
	w = newWeb(t, h, func(text string) string {
		return strings.ReplaceAll(text, "proxy_read_timeout 10s;", "proxy_read_timeout 1s;")
	})
	return w, h.Tenants[0].Check
}

// dead is a slot whose link has ended, mute one whose link is silent.
func (w *web) dead(path string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(w.dir, "run", path), Net: "unix"})
	must(w.t, err)
	l.SetUnlinkOnClose(false)
	must(w.t, l.Close())
}

func (w *web) mute(path string) {
	l, err := net.Listen("unix", filepath.Join(w.dir, "run", path))
	must(w.t, err)
	w.t.Cleanup(func() { _ = l.Close() })
}

// told fails unless an answer has nginx's time, once, to the millisecond.
func told(t *testing.T, what string, resp *http.Response) {
	t.Helper()
	values := resp.Header.Values(timeHeader)
	seconds, milli, _ := strings.Cut(strings.Join(values, " "), ".")
	n, err := strconv.ParseInt(seconds+milli, 10, 64)
	if off := time.Since(time.UnixMilli(n)); err != nil || len(milli) != 3 || off.Abs() > time.Minute {
		t.Errorf("%s, %s: it is %q", what, resp.Status, values)
	}
}

// Each slot is asked at its own address on the check port, and told as it is.
func TestEachSlotIsAskedByItself(t *testing.T) {
	w, check := newSlots(t)
	var asked atomic.Int32
	for _, slot := range []string{"sales.0", "sales.2", "hr.1", "board.3", "mine.1"} {
		w.slot("alice/s/"+slot+".sock", names(slot, &asked))
	}
	w.dead("alice/s/sales.1.sock")
	w.mute("alice/s/sales.3.sock")
	for _, c := range []struct {
		at, slot string
		status   int
		says     string
	}{
		{"192.0.2.1/sales", "0", 200, "sales.0"},
		{"192.0.2.1/sales", "1", 502, ""},
		{"192.0.2.1/sales", "2", 200, "sales.2"},
		{"192.0.2.1/sales", "3", 504, ""},
		{"192.0.2.1/sales", "4", 404, ""},
		{"192.0.2.1/hr", "0", 502, ""},
		{"192.0.2.1/hr", "1", 200, "hr.1"},
		{"192.0.2.1", "0", 404, ""},
		{"192.0.2.1/board", "3", 404, ""},
		{"board.example.com", "3", 200, "board.3"},
		{"board.example.com", "2", 502, ""},
		{"mine--alice.free.example.com", "0", 502, ""},
		{"mine--alice.free.example.com", "1", 200, "mine.1"},
		{"mine--alice.free.example.com", "2", 404, ""},
		{"other.example.com", "0", 404, ""},
		{"board.example.com", "", 404, ""},
		{"board.example.com", "03", 404, ""},
		{"board.example.com", "3/", 404, ""},
		{"board.example.com", "3.sock", 404, ""},
		{"board.example.com", "-1", 404, ""},
		{"board.example.com", "%2e%2e%2fboard.3", 404, ""},
	} {
		host, prefix, _ := strings.Cut(c.at, "/")
		if prefix != "" {
			prefix = "/" + prefix
		}
		if c.says != "" {
			c.says += ": " + question
		}
		for range 3 { // nginx takes no turns
			asked.Store(0)
			resp, said := w.do("GET", nil, check, host, prefix+question+"/slots/"+c.slot)
			if resp.StatusCode != c.status || c.says != "" && said != c.says || strings.Contains(said, "away") || resp.Header.Get("Location")+resp.Header.Get("Retry-After") != "" {
				t.Errorf("%s slot %s: %s, %.200q, want %d %q", c.at, c.slot, resp.Status, said, c.status, c.says)
			}
			if n := asked.Load(); (n != 0) != (c.status == 200) || n > 1 {
				t.Errorf("%s slot %s: %d of our slots asked", c.at, c.slot, n)
			}
			told(t, c.at+" slot "+c.slot, resp)
			if c.status == 504 {
				break
			}
		}
	}
}

// A socket that was taken by another link is asked there, although its former one still serves its connections.
func TestSlotIsAskedWhereItIsNow(t *testing.T) {
	w, check := newSlots(t)
	var asked atomic.Int32
	for _, link := range []string{"former", "present"} {
		must(t, os.RemoveAll(filepath.Join(w.dir, "run", "alice/s/board.0.sock"))) // as sshd does
		w.slot("alice/s/board.0.sock", names(link, &asked))
		for range 3 {
			if _, said := w.do("GET", nil, check, "board.example.com", question+"/slots/0"); said != link+": "+question {
				t.Errorf("%s: %s", link, said)
			}
		}
		w.ask(w.port, "board.example.com", "/") // nginx keeps this one
	}
}

// The check port tells the time with each answer; visitors are not told, and have none of its addresses.
func TestTimeIsToldAtTheCheckPort(t *testing.T) {
	w, check := newSlots(t)
	var asked atomic.Int32
	w.slot("alice/s/sales.0.sock", names("sales", &asked))
	w.slot("alice/s/board.0.sock", names("board", &asked))
	for _, c := range []struct {
		host, path string
		status     int
	}{
		{"board.example.com", question + "/time", 204},
		{"192.0.2.1", question + "/time", 204},
		{"mine--alice.free.example.com", question + "/time", 204},
		{fmt.Sprintf("127.0.0.1:%d", check), question + "/time", 204},
		{"other.example.com", "/", 404},
		{"board.example.com", "/", 404},
		{"board.example.com", question, 200},
		{"192.0.2.1", "/hr" + question, 503},
	} {
		resp, _ := w.do("GET", nil, check, c.host, c.path)
		if resp.StatusCode != c.status {
			t.Errorf("%s%s: %s, want %d", c.host, c.path, resp.Status, c.status)
		}
		told(t, c.host+c.path, resp)
	}
	for _, c := range []struct{ host, path, says string }{
		{"board.example.com", question + "/time", "200 board: " + question + "/time"}, // as any of the app's own
		{"board.example.com", question + "/slots/0", "200 board: " + question + "/slots/0"},
		{"192.0.2.1", "/sales" + question + "/slots/0", "200 sales: " + question + "/slots/0"},
		{"192.0.2.1", "/hr" + question + "/slots/0", "503 "},
		{"192.0.2.1", question + "/time", "404 "},
		{"other.example.com", question + "/time", "421 "},
		{"board.example.com", question, "200 board: " + question},
	} {
		resp, said := w.do("GET", nil, w.port, c.host, c.path)
		if got := fmt.Sprint(resp.StatusCode, " ", said); !strings.HasPrefix(got, c.says) || resp.Header.Values(timeHeader) != nil {
			t.Errorf("a visitor, %s%s: %.100q %v, want %q", c.host, c.path, got, resp.Header.Values(timeHeader), c.says)
		}
	}
}
