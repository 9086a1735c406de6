// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"
)

// inUse is what heap and stacks take; how much of that the runtime keeps for later is its own affair.
func inUse() int64 {
	m := collected()
	return int64(m.HeapInuse + m.StackInuse)
}

// alive is what of the heap is referred to.
func alive() int64 { return int64(collected().HeapAlloc) }

func collected() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // the second one empties what pools held
	runtime.ReadMemStats(&m)
	return m
}

// TestThousandIdleWebsockets: what they cost the gate is what they cost through it less what the
// same ones cost without it, since app and visitors live in this process too. A second thousand leaves
// nothing behind that the first did not.
func TestThousandIdleWebsockets(t *testing.T) {
	check(t)
	const many, mostLeft = 1000, 500_000 // bytes: half a kilobyte each; 0.00 to 0.04 MB were seen
	var app sync.WaitGroup
	addr := rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		app.Add(1)
		defer app.Done()
		_, _ = io.WriteString(c, switched+"hello")
		_, _ = io.Copy(c, r)
	})
	g, through := open(t, Config{Target: at(addr)})
	visit := func(addr string) (cost int64) {
		before := inUse()
		conns := make([]*net.TCPConn, many)
		for i := range conns {
			c, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns[i] = c.(*net.TCPConn)
			_, _ = io.WriteString(c, request("GET", "/ws", "", append(upgrade, admitted(g))...))
			r := bufio.NewReader(c)
			if got := read(t, r, "GET"); got.StatusCode != 101 {
				t.Fatal(got.Status)
			}
			_, _ = io.WriteString(c, "ping")
			said := make([]byte, len("helloping"))
			if _, err := io.ReadFull(r, said); err != nil || string(said) != "helloping" {
				t.Fatalf("%q, %v", said, err)
			}
		}
		cost = inUse() - before
		for _, c := range conns {
			_ = c.Close()
		}
		app.Wait()
		for end := time.Now().Add(patience); addr == through && g.Stats().Requests < many && time.Now().Before(end); {
			runtime.Gosched()
		}
		return cost
	}
	visit(through) // grows what does not shrink, such as the ring of requests
	direct := visit(addr)
	before := alive()
	g.stats = newStats()
	cost := visit(through)
	var left int64
	for end := time.Now().Add(patience); ; runtime.Gosched() { // the last handlers are still returning
		if left = alive() - before; left < mostLeft || time.Now().After(end) {
			break
		}
	}
	t.Logf("1000 idle websockets: %.1f MB through the gate, %.1f MB without: %.1f MB are the gate's; %.2f MB are left after them", mb(cost), mb(direct), mb(cost-direct), mb(left))
	if cost-direct > 60e6 || left > mostLeft {
		t.Errorf("want less than 60 MB, and %.1f MB left", mb(mostLeft))
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }
