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

// inUse is what heap and stacks hold.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one empties what pools held
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestThousandIdleWebsockets: what they cost the gate is what they cost through it less what the
// same ones cost without it, since app and visitors live in this process too.
func TestThousandIdleWebsockets(t *testing.T) {
	if testing.Short() {
		t.Skip("4000 sockets")
	}
	check(t)
	const many = 1000
	var app sync.WaitGroup
	addr := rawApp(t, func(c *net.TCPConn, r *bufio.Reader, _ *http.Request) {
		app.Add(1)
		defer app.Done()
		_, _ = io.WriteString(c, switched+"hello")
		_, _ = io.Copy(c, r)
	})
	g, through := open(t, Config{Target: at(addr)})
	visit := func(addr string) (cost, left int64) {
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
		clear(conns)
		return cost, inUse() - before
	}
	visit(through) // grows what does not shrink, such as the ring of requests
	g.stats = newStats()
	direct, _ := visit(addr)
	cost, left := visit(through)
	t.Logf("1000 idle websockets: %.1f MB through the gate, %.1f MB without: %.1f MB are the gate's; %.1f MB are left after them", mb(cost), mb(direct), mb(cost-direct), mb(left))
	if cost-direct > 60e6 || left > 5e6 {
		t.Error("want less than 60 MB, and 5 MB left")
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }
