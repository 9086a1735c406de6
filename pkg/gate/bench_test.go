// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/forward"
)

const bulkSize = 64 << 20

// doors are the ways to the same trivial app: through the gate, and as raw=True forwards bytes.
func doors(b *testing.B) (gate, raw, line string) {
	b.Helper()
	bulk := make([]byte, bulkSize)
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bulk" {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", fmt.Sprint(bulkSize))
			_, _ = w.Write(bulk)
			return
		}
		_, _ = io.WriteString(w, "hello, world")
	}))
	b.Cleanup(a.Close)
	target := &forward.Target{}
	target.Set(a.Listener.Addr().String())
	g, gate := open(b, Config{Target: target})
	f := &forward.Forwarder{Target: target}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = f.Serve(l) })
	b.Cleanup(func() { _ = l.Close(); _ = f.Close(); tasks.Wait() })
	return gate, l.Addr().String(), admitted(g)
}

// keepalive asks over and over on conns connections.
func keepalive(b *testing.B, addr, line string, conns int) {
	text := []byte(request("GET", "/", "", line, "Accept-Encoding: gzip, zstd"))
	var tasks sync.WaitGroup
	b.ResetTimer()
	for i := range conns {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		tasks.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for range n {
				_, _ = c.Write(text)
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != 200 {
					b.Errorf("%v %v", resp, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		})
	}
	tasks.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkKeepalive1Gate(b *testing.B)  { gate, _, line := doors(b); keepalive(b, gate, line, 1) }
func BenchmarkKeepalive1Raw(b *testing.B)   { _, raw, line := doors(b); keepalive(b, raw, line, 1) }
func BenchmarkKeepalive16Gate(b *testing.B) { gate, _, line := doors(b); keepalive(b, gate, line, 16) }
func BenchmarkKeepalive16Raw(b *testing.B)  { _, raw, line := doors(b); keepalive(b, raw, line, 16) }

// bulk downloads; MB/s are the benchmark's own.
func bulk(b *testing.B, addr, line string) {
	b.SetBytes(bulkSize)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 256<<10)
	for b.Loop() {
		_, _ = io.WriteString(c, request("GET", "/bulk", "", line))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != bulkSize || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkBulkGate(b *testing.B) { gate, _, line := doors(b); bulk(b, gate, line) }
func BenchmarkBulkRaw(b *testing.B)  { _, raw, line := doors(b); bulk(b, raw, line) }
