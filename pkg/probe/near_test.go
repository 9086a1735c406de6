// SPDX-License-Identifier: Apache-2.0

//go:build linux

package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

func spawn(f func()) bool { go f(); return true }

// nearAt is what is found at a port of this machine; nil if nothing is.
func nearAt(found []Near, port int) *Near {
	for i := range found {
		if strings.HasSuffix(found[i].Addr, fmt.Sprintf(":%d", port)) {
			return &found[i]
		}
	}
	return nil
}

func portOf(t *testing.T, l net.Listener, err error) int {
	t.Helper()
	if err != nil {
		missing.Skip(t, "%v", err)
	}
	return l.Addr().(*net.TCPAddr).Port
}

// An app of this process is found wherever it listens, and asked once.
func TestAppOfThisProcessIsFound(t *testing.T) {
	var n Neighbours
	var asked atomic.Int32
	for at, host := range map[string]string{"127.0.0.1:0": "localhost", "[::1]:0": "localhost", ":0": "localhost", "127.0.0.2:0": "127.0.0.2"} {
		l, err := net.Listen("tcp", at)
		port := portOf(t, l, err)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.Method != http.MethodGet || r.URL.Path != "/" {
				t.Errorf("asked %s %s", r.Method, r.URL)
			}
		})}
		go func() { _ = s.Serve(l) }()
		defer s.Close()
		got := nearAt(n.Look(t.Context(), nil, spawn), port)
		if got == nil || got.Addr != fmt.Sprintf("%s:%d", host, port) || !got.Here || got.Below || got.PID != os.Getpid() {
			t.Errorf("%s: %+v", at, got)
		}
	}
	n.Look(t.Context(), nil, spawn)
	if asked.Load() != 4 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// What is no web app, does not answer well, or is not to be asked is not proposed; what said nothing is waited for, and asked again if that ended.
func TestWhatIsNoAppIsNotFound(t *testing.T) {
	var n Neighbours
	stopped := httptest.NewServer(answers(501, ""))
	defer stopped.Close()
	never := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked though it must not be") }))
	defer never.Close()
	zmq, err := net.Listen("tcp", "127.0.0.1:0") // as a kernel's port it greets first (ZMTP 3.1)
	mute := portOf(t, zmq, err)
	defer zmq.Close()
	go func() {
		for {
			c, err := zmq.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f")
			_ = c.Close()
		}
	}()
	spared := []int{never.Listener.Addr().(*net.TCPAddr).Port}
	found := n.Look(t.Context(), spared, spawn)
	for _, port := range []int{stopped.Listener.Addr().(*net.TCPAddr).Port, mute, never.Listener.Addr().(*net.TCPAddr).Port} {
		if got := nearAt(found, port); got != nil {
			t.Errorf("%+v", got)
		}
	}

	ready := make(chan struct{})
	var asked atomic.Int32
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-ready:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	port := slow.Listener.Addr().(*net.TCPAddr).Port
	first, end := context.WithCancel(t.Context())
	defer end()
	var questions sync.WaitGroup
	for i, ctx := range []context.Context{first, first, t.Context()} {
		if i == 2 {
			end()
			questions.Wait()
		}
		if got := nearAt(n.Look(ctx, spared, func(f func()) bool { questions.Go(f); return true }), port); got != nil {
			t.Errorf("%+v", got)
		}
		if want := int32(1 + i/2); asked.Load() != want {
			t.Errorf("look %d: asked %d times", i, asked.Load())
		}
	}
	close(ready)
	if nearAt(n.Look(t.Context(), spared, spawn), port) == nil || asked.Load() != 2 {
		t.Errorf("not found, or asked %d times", asked.Load())
	}
}

// serving runs a program that listens, with Python, by a name of its own, and returns its port.
func serving(t *testing.T, argv ...string) int {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missing.Skip(t, "%v", err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "app.py")
	if err := os.WriteFile(script, []byte(`
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port, flush=True)
server.serve_forever()
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, arg := range argv {
		argv[i] = strings.ReplaceAll(arg, "APP", script)
	}
	cmd := exec.CommandContext(t.Context(), python, argv...)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	port := 0
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// Processes that this one has started come before others; those that serve a notebook or a debugger are left alone.
func TestAppOfAnotherProcess(t *testing.T) {
	var n Neighbours
	app, argument := serving(t, "APP"), serving(t, "APP", "-f", "some.json")
	debugger := serving(t, "APP", "/usr/lib/debugpy/adapter")
	module := serving(t, "APP", "-m", "debugpy.adapter")
	worker := serving(t, "APP", "pyspark.daemon")
	kernel := serving(t, "APP", "-m", "ipykernel_launcher")
	here := httptest.NewServer(http.NotFoundHandler())
	defer here.Close()
	found := n.Look(t.Context(), nil, spawn)
	for _, port := range []int{app, argument} {
		if got := nearAt(found, port); got == nil || !got.Below || got.Here || got.PID == os.Getpid() || !strings.HasPrefix(got.Program, "python") {
			t.Errorf("%+v", got)
		}
	}
	for name, port := range map[string]int{"debugger": debugger, "debugger as a module": module, "worker": worker, "kernel": kernel} {
		if got := nearAt(found, port); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	first := slices.IndexFunc(found, func(n Near) bool { return n.Below })
	if last := slices.IndexFunc(found, func(n Near) bool { return !n.Here }); first != last || first < 1 {
		t.Errorf("not the nearest first: %+v", found)
	}
}

// The ports in the connection file of a kernel are not asked, and what else its process has is.
func TestKernelKeepsItsPorts(t *testing.T) {
	var n Neighbours
	connection := filepath.Join(t.TempDir(), "kernel-1.json")
	one, two := serving(t, "APP", "-f", connection, "ipykernel"), serving(t, "APP", "ipykernel", "-f="+connection)
	if err := os.WriteFile(connection, fmt.Appendf(nil, `{"shell_port": %d, "ip": "127.0.0.1", "key": "a-b"}`, one), 0o600); err != nil {
		t.Fatal(err)
	}
	found := n.Look(t.Context(), nil, spawn)
	if nearAt(found, one) != nil || nearAt(found, two) == nil {
		t.Errorf("%d must not be asked, %d may: %+v", one, two, found)
	}
}

// Kernels of other languages name their connection file each in a way of its own, and perhaps from their own directory.
func TestOtherKernelsKeepTheirPorts(t *testing.T) {
	var n Neighbours
	dir := t.TempDir()
	for _, args := range [][]string{{"CONNECTION"}, {"--args", "CONNECTION"}, {"--conn", "CONNECTION"}, {"--connection-file=CONNECTION"}, {"-f", "RELATIVE"}} {
		connection := filepath.Join(dir, "kernel-1.json")
		for i, arg := range args {
			args[i] = strings.Replace(arg, "CONNECTION", connection, 1)
		}
		if args[len(args)-1] == "RELATIVE" {
			args[len(args)-1] = "kernel-2.json"
		}
		port := serving(t, append([]string{"APP"}, args...)...)
		if args[len(args)-1] == "kernel-2.json" {
			found := n.Look(t.Context(), nil, spawn)
			at := nearAt(found, port)
			if at == nil {
				t.Fatalf("%v", found)
			}
			cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", at.PID))
			if err != nil {
				t.Fatal(err)
			}
			connection = filepath.Join(cwd, "kernel-2.json")
		}
		if err := os.WriteFile(connection, fmt.Appendf(nil, `{"hb_port": %d}`, port), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := n.Look(t.Context(), nil, spawn); nearAt(found, port) != nil {
			t.Errorf("%v: %+v", args, found)
		}
	}
}

// What another program calls a file may be a FIFO, which would have the look wait for ever.
func TestLookOpensNoFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "events.json")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	port := serving(t, "APP", "-f", fifo)
	found := make(chan []Near, 1)
	go func() { found <- new(Neighbours).Look(t.Context(), nil, spawn) }()
	select {
	case found := <-found:
		if nearAt(found, port) == nil {
			t.Errorf("%+v", found)
		}
	case <-time.After(10 * time.Second):
		t.Error("waits")
		if f, err := os.OpenFile(fifo, os.O_RDWR, 0); err == nil { // lets it go on
			_ = f.Close()
		}
	}
}

// A look is over in time, whatever listens.
func TestLookIsOverInTime(t *testing.T) {
	var n Neighbours
	for range nearMost + 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		portOf(t, l, err)
		defer l.Close()
	}
	begin := time.Now()
	n.Look(t.Context(), nil, spawn)
	if took := time.Since(begin); took > nearTimeout+2*time.Second {
		t.Errorf("took %v", took)
	}
}
