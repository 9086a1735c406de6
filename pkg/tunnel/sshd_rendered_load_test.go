// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What nginx keeps of a page it gives to those whom the tunnel admits at that moment, and to nobody else.
func TestRenderedProxyKeepsWhatTheGateMarks(t *testing.T) {
	const text = "export const shared = true;"
	var sent, unchanged atomic.Int64
	var version atomic.Value
	version.Store(`"1"`)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/code.js" {
			return
		}
		tag := version.Load().(string)
		w.Header().Set("Content-Type", "text/javascript")
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Etag", tag)
		if strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/") == tag {
			unchanged.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent.Add(1)
		_, _ = io.WriteString(w, strings.Repeat(text+tag, 5000))
	})
	r := newRendered(t)
	for _, c := range []struct{ name, host, path string }{
		{"sales", "127.0.0.1", "/sales/code.js"}, {"board", "board.invalid", "/code.js"}, {"mine", "mine--" + r.User + ".apps.invalid", "/code.js"},
	} {
		sent.Store(0)
		unchanged.Store(0)
		version.Store(`"1"`)
		public := r.described(c.name, target)
		public.Access.Public = true
		tun := open(t, public)
		for range 3 {
			if resp, got := r.visit(t, "GET", c.host, c.path, "", nil); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, text+`"1"`) {
				t.Fatalf("%s: %s %.80q", c.name, resp.Status, got)
			}
		}
		_ = tun.Close()
		tun = r.exposed(t, c.name, target) // for those who have the link, with a cache that is warm
		token := tokenOf(tun)
		for range 2 {
			if resp, got := r.visit(t, "GET", c.host, c.path, "", nil); resp.StatusCode != http.StatusForbidden || strings.Contains(got, text) {
				t.Errorf("%s: without the token %s %.80q", c.name, resp.Status, got)
			}
			if resp, got := r.visit(t, "GET", c.host, c.path, token, nil); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, text+`"1"`) || !strings.Contains(resp.Header.Get("Cache-Control"), "no-cache") {
				t.Errorf("%s: with it %s %.80q", c.name, resp.Status, got)
			}
		}
		if sent.Load() != 1 || unchanged.Load() != 4 {
			t.Errorf("%s: the app sent it %d times, and %d times said that it is the same", c.name, sent.Load(), unchanged.Load())
		}
		version.Store(`"2"`)
		if _, got := r.visit(t, "GET", c.host, c.path, token, nil); !strings.HasPrefix(got, text+`"2"`) {
			t.Errorf("%s: an old one: %.80q", c.name, got)
		}
		_ = tun.Close()
		if resp, got := r.visit(t, "GET", c.host, c.path, token, nil); resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(got, text) {
			t.Errorf("%s: with nobody to ask: %s %.80q", c.name, resp.Status, got)
		}
	}
	log, err := os.ReadFile(r.proxy.Layout.Log + "/taipy-tunnel.access.log")
	must(t, err)
	if n := bytes.Count(log, []byte("cache=REVALIDATED")); n != 12 {
		t.Errorf("nginx gave %d from its cache:\n%s", n, log)
	}
}

// noise is text that does not shrink, the same for each seed.
type noise struct {
	left int64
	from *rand.ChaCha8
	hash hash.Hash
}

func newNoise(n int64, seed byte) *noise {
	return &noise{n, rand.NewChaCha8([32]byte{seed}), sha256.New()}
}

func (n *noise) Read(p []byte) (int, error) {
	if n.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), n.left)]
	_, _ = n.from.Read(p)
	_, _ = n.hash.Write(p)
	n.left -= int64(len(p))
	return len(p), nil
}

// What is large arrives whole, both ways at once.
func TestRenderedProxyCarriesMuch(t *testing.T) {
	size := int64(rounds(100_000_000, 300_000_000))
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.Copy(w, newNoise(size, 1))
			return
		}
		got := sha256.New()
		n, _ := io.Copy(got, r.Body)
		_, _ = fmt.Fprintf(w, "%d %x", n, got.Sum(nil))
	})
	r := newRendered(t)
	tun := r.exposed(t, "sales", target)
	await(t, tun, "two links", whole)
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method string, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequest(method, r.url+"file", body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+tokenOf(tun))
		if body != nil {
			req.ContentLength = size
		}
		return client.Do(req)
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		resp, err := ask("GET", nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		got, want := sha256.New(), newNoise(size, 1)
		n, err := io.Copy(got, resp.Body)
		_, _ = io.Copy(io.Discard, want)
		if err != nil || n != size || !bytes.Equal(got.Sum(nil), want.hash.Sum(nil)) {
			t.Errorf("down: %d bytes, %v", n, err)
		}
	})
	tasks.Go(func() {
		sent := newNoise(size, 2)
		resp, err := ask("POST", sent)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		said, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("%d %x", size, sent.hash.Sum(nil)); err != nil || string(said) != want {
			t.Errorf("up: %q, %v, want %q", said, err, want)
		}
	})
}

// A company behind one address meets no limit: 200 requests a second, on connections of a browser's kind and on new ones.
func TestRenderedProxyServesACompany(t *testing.T) {
	const rate, seconds = 200, 5
	r := newRendered(t)
	tun := r.exposed(t, "sales", app(t, "figures"))
	await(t, tun, "two links", whole)
	token := tokenOf(tun)
	kept, fresh := &http.Transport{MaxIdleConnsPerHost: 100}, &http.Transport{DisableKeepAlives: true}
	defer kept.CloseIdleConnections()
	var refused atomic.Int64
	var tasks sync.WaitGroup
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for n := range rate * seconds {
		<-tick.C
		transport := kept
		if n%4 == 0 {
			transport = fresh
		}
		tasks.Go(func() {
			req, err := http.NewRequest("GET", r.url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(text) != "figures" {
				refused.Add(1)
			}
		})
	}
	tasks.Wait()
	if refused.Load() != 0 {
		t.Errorf("%d of %d were refused", refused.Load(), rate*seconds)
	}
}
