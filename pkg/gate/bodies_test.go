// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A body is held until the app has taken it, not until it answers; what is too much is passed on as it
// comes.
func TestBodiesAreLetGo(t *testing.T) {
	check(t)
	var came atomic.Int64
	taken, end := make(chan struct{}, 20), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(end) })
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		came.Add(n)
		taken <- struct{}{}
		<-end
	})
	t.Cleanup(letGo) // before the app is closed
	g, addr := open(t, Config{Target: at(a.addr()), TrustProxy: true})
	body := strings.Repeat("x", onceAsked)
	before := bodies.used.Load()
	for i := range 20 {
		c := dial(t, addr)
		go func() {
			_, _ = io.WriteString(c, request("POST", "/", body, admitted(g), "X-Taipy-Tunnel-Request: 0123456789abcdef"+string(rune('a'+i))))
		}()
	}
	for range 20 {
		<-taken
	}
	if came.Load() != 20*onceAsked || bodies.used.Load() > before+bodiesMost {
		t.Errorf("%d bytes came, %d are held", came.Load(), bodies.used.Load()-before)
	}
	for late := time.Now().Add(patience); bodies.used.Load() != before; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("%d bytes are held of what the app has taken", bodies.used.Load()-before)
		}
	}
	letGo()
}
