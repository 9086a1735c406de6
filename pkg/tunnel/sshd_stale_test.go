// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// goneWithin is how long sshd's ends of silent links may live: sshd asks the notebook after 1 to 2 s, that is not
// acknowledged for 2 s, and the program looks twice a second. 4 s on the average; a machine that is busy takes longer.
const goneWithin = 6 * time.Second

// gone waits until sshd has none of these links, and returns how long it took since then.
func (r *rendered) gone(t testing.TB, links []int, since time.Time) time.Duration {
	t.Helper()
	for {
		now := r.Links()
		if !slices.ContainsFunc(links, func(pid int) bool { return slices.Contains(now, pid) }) {
			return time.Since(since)
		}
		if time.Since(since) > 20*time.Second {
			t.Fatalf("of the links %v there are %v after 20 s", links, now)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Both links go silent under requests that the app has begun, and nothing of which is under way to the notebook any
// more. Sshd's ends of them are ended, so nginx asks the next links, and the gate gives each its first run's answer;
// where the whole way is silent nobody can answer, and visitors are told.
func TestStaleEndsGoWithinSeconds(t *testing.T) {
	for name, way := range map[string]bool{"its connections": false, "the way": true} {
		t.Run(name, func(t *testing.T) { goesSilent(t, way) })
	}
}

func goesSilent(t *testing.T, way bool) {
	r := newRendered(t)
	said := r.proxy.EndStale()
	app := &counting{ran: map[string]int{}, muted: make(chan struct{})}
	cfg := r.described("sales", serve(t, app.ServeHTTP))
	between := relay.Start(t, r.Addr())
	cfg.Server = tunnel.Servers{r.User + "@" + between.Addr()}
	tun := open(t, cfg)
	await(t, tun, "its links", whole)
	stale, token := r.Links(), tokenOf(tun)
	var visitors sync.WaitGroup
	answered := make(chan time.Time, 40)
	for n := range 40 {
		method, want := http.MethodGet, http.StatusOK
		if n%2 == 1 {
			method = http.MethodPost
		}
		if way {
			want = map[string]int{http.MethodGet: http.StatusServiceUnavailable, http.MethodPost: http.StatusBadGateway}[method]
		}
		app.begun.Add(1)
		visitors.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 60 * time.Second}
			id := fmt.Sprintf("%s.%d", method, n)
			status, text, err := askAs(client, method, r.url+"second?"+id, token, n%2*10)
			if err != nil || status != want || status == http.StatusOK && text != "done "+id {
				t.Errorf("%s: %d %.100q, %v", id, status, text, err)
			}
			answered <- time.Now()
		})
	}
	app.begun.Wait()
	if way {
		between.Drop()
	}
	between.Hole()
	silent := time.Now()
	close(app.muted)
	took := r.gone(t, stale, silent)
	visitors.Wait()
	close(answered)
	var longest time.Duration
	for at := range answered {
		longest = max(longest, at.Sub(silent))
	}
	t.Logf("the ends were gone after %.1f s, the last answer came after %.1f s", took.Seconds(), longest.Seconds())
	if took > promised(goneWithin) || longest > promised(8*time.Second) {
		t.Errorf("the ends were gone after %v, the last answer came after %v", took, longest)
	}
	for id, n := range app.ran {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	if n := strings.Count(said.String(), "ended"); n != len(stale) {
		t.Errorf("%d of %d ended: %s", n, len(stale), said)
	}
}

// Where one link after the other goes silent, of a thief who has the key, nobody else's is ended: not those of the same key,
// which have all that a far and narrow line takes, two apps and two kernels that hand over; not another tenant's; and not
// the admin's session, though it is as silent.
func TestLivingEndsAreNeverEnded(t *testing.T) {
	r := newRendered(t)
	said := r.proxy.EndStale()
	far, hole := relay.Start(t, r.Addr()), relay.Start(t, r.Addr())
	far.Delay(150 * time.Millisecond)
	far.Rate(1 << 20)
	target := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, newNoise(1<<30, 1)) })
	expose := func(name string) *tunnel.Tunnel {
		cfg := r.described(name, target)
		cfg.Server = tunnel.Servers{r.User + "@" + far.Addr()}
		tun := open(t, cfg)
		await(t, tun, "its links", whole)
		return tun
	}
	kernels := []*tunnel.Tunnel{expose("board"), expose("sales")}
	admin := r.session(t, "root", hole.Addr(), "while sleep 0.1; do echo x; done")
	neighbour := r.session(t, proxytest.Neighbour, r.Addr(), "")
	for range 6 { // downloads, until the test ends
		go download(t, r.url, tokenOf(kernels[1]))
	}
	kernels = append(kernels, expose("sales")) // by another kernel
	hole.Hole()
	living := r.Links()
	rounds, end := 0, time.Now().Add(8*time.Second)
	if faults {
		end = time.Now().Add(60 * time.Second)
	}
	for ; time.Now().Before(end); rounds++ {
		before := r.Links()
		thief := r.session(t, r.User, hole.Addr(), "")
		stale := slices.DeleteFunc(r.Links(), func(pid int) bool { return slices.Contains(before, pid) })
		hole.Hole()
		if took := r.gone(t, stale, time.Now()); took > promised(goneWithin) {
			t.Errorf("the thief's end was gone after %v", took)
		}
		_ = thief.Close()
	}
	over := 0 // links of the kernel that handed over, which end when it has learnt that and they have: its looks are slow on such a line
	for i, tun := range kernels {
		s := tun.Status()
		if s.State != tunnel.Up && i != 1 {
			t.Errorf("tunnel %d: %+v", i, s)
		} else if s.State != tunnel.Up {
			over = 2
		}
		if s.Reconnects != 0 {
			t.Errorf("tunnel %d lost links: %+v", i, s)
		}
	}
	if _, _, err := neighbour.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("another tenant's link: %v", err)
	}
	now := r.Links()
	_ = admin.Close()
	lost := slices.DeleteFunc(slices.Clone(living), func(pid int) bool { return slices.Contains(now, pid) })
	if n := strings.Count(said.String(), "ended"); n != rounds || rounds == 0 || len(lost) > over {
		t.Errorf("%d ended in %d rounds, and of %d links these are lost: %v", n, rounds, len(living), lost)
	}
	t.Logf("%d ended of a thief's, 0 of %d living ones", rounds, len(living))
}

// session logs in as an account, by a client that does nothing else; command is what it runs, "" for none.
func (r *rendered) session(t testing.TB, user, addr, command string) *ssh.Client {
	t.Helper()
	text, err := os.ReadFile(r.KeyFile)
	must(t, err)
	key, err := ssh.ParsePrivateKey(text)
	must(t, err)
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(r.HostKey)})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	if command != "" {
		s, err := c.NewSession()
		must(t, err)
		must(t, s.Start(command))
	}
	return c
}

// download takes what there is until the test ends, again and again.
func download(t testing.TB, url, token string) {
	for t.Context().Err() == nil {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
}
