// SPDX-License-Identifier: Apache-2.0

//go:build linux

package command

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// served is a program with an app at so many ports. It answers with its variables of ours; /again has it go to another port, /end has it end with 7.
const served = `
import http.server, os, sys, threading
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end": os._exit(7)
        self.send_response(200); self.end_headers()
        self.wfile.write(("hello" + "".join(name for name in os.environ if name.startswith("TAIPY_TUNNEL_"))).encode())
        if self.path == "/again":
            serve()
            self.server.server_close()
    def log_message(self, *_): pass
def serve(): threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 0), App).serve_forever).start()
for _ in range(int(sys.argv[1])): serve()
`

// runsBeside is the command run, with a program in Python, on a proxy machine of its own.
func runsBeside(t *testing.T, face Face, program string, args ...string) (s *shown, public string, says *bufio.Reader) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missing.Skip(t, "%v", err)
	}
	t.Setenv("TAIPY_TUNNEL_TOKEN", "a-token-that-the-program-is-not-told")
	line, public := plain(t, "8501")
	line = append([]string{"run"}, line[2:]...)
	read, written, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close(); _ = written.Close() })
	face.Start = func(args []string) (*os.Process, error) {
		environment := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, Variables) })
		return os.StartProcess(args[0], args, &os.ProcAttr{Env: environment, Files: []*os.File{nil, written, os.Stderr}})
	}
	return goesOn(t, face, append(append(line, "--", python, "-c", program), args...)...), public, bufio.NewReader(read)
}

// The app of a program is shown wherever it answers, and followed; the program's end is that of the command.
func TestRun(t *testing.T) {
	s, public, _ := runsBeside(t, Face{}, served, "1")
	_, link, _ := strings.Cut(s.until(t, Notice, "visitors open "+public).Text, "open ")
	s.until(t, Notice, "the app is at localhost:")
	if got := visit(t, link); got != "200 OK hello" {
		t.Errorf("a visitor: %s", got)
	}
	page, token, _ := strings.Cut(link, "#")
	_ = visit(t, page+"again#"+token) // the app goes to another port
	s.until(t, Notice, "the app is at localhost:")
	if got := visit(t, link); got != "200 OK hello" {
		t.Errorf("after it has moved a visitor: %s", got)
	}
	_ = visit(t, page+"end#"+token)
	if code := <-s.code; code != 7 {
		t.Errorf("ends with %d", code)
	}
}

// Of several apps the command does not choose.
func TestRunOfSeveralApps(t *testing.T) {
	s, _, _ := runsBeside(t, Face{}, served, "2")
	e := s.until(t, Failure, "answers HTTP at several ports: localhost:")
	if code := <-s.code; code != Failed || !strings.HasPrefix(e.Hint, "say which one visitors are to see: --app localhost:") {
		t.Errorf("ends with %d, hint %s", code, e.Hint)
	}
}

// Signals pass to the program, and what it ends with is what the command ends with.
func TestRunPassesSignals(t *testing.T) {
	passed := make(chan os.Signal)
	face := Face{Signals: func() (<-chan os.Signal, func()) { return passed, func() {} }}
	s, _, says := runsBeside(t, face, `import signal, time, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5)); print("ready", flush=True); time.sleep(60)`)
	if _, err := says.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	select {
	case passed <- syscall.SIGUSR1:
	case code := <-s.code:
		t.Fatalf("ended with %d", code)
	}
	if code := <-s.code; code != 5 {
		t.Errorf("ends with %d", code)
	}
}

// When the command is given up the program is, and what does not end is killed, with what it has started.
func TestRunIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		code    int
	}{
		"a program that ends":                            {"import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(3))", 3},
		"one that does not, and has started another one": {"import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])", 128 + int(syscall.SIGKILL)},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, says := runsBeside(t, Face{}, c.program+"\nimport os; print(os.getpid(), flush=True); time.sleep(60)")
			line, err := says.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			below := descendants(pid)
			begin := time.Now()
			s.cancel()
			if code := <-s.code; code != c.code {
				t.Errorf("ends with %d, want %d", code, c.code)
			}
			t.Logf("after %v", time.Since(begin).Round(time.Millisecond))
			for deadline := time.Now().Add(20 * time.Second); len(below) > 0; time.Sleep(time.Millisecond) { // a killed one takes a moment
				if below = slices.DeleteFunc(below, isGone); time.Now().After(deadline) {
					t.Fatalf("%v still run", below)
				}
			}
		})
	}
}

func TestRunWithoutAProgram(t *testing.T) {
	for _, row := range []struct {
		line string
		code int
		says string
	}{
		{"run", Usage, "PROGRAM is missing"}, {"run --server me@h", Usage, "PROGRAM is missing"}, {"run true", Failed, "no server was given"}, {"run --server me@127.0.0.1:1 --ap 8501 true", Usage, "there is no option \"--ap\"; did you mean --app?"},
	} {
		if s := runs(t, "", strings.Fields(row.line)...); s.code != row.code || !strings.Contains(s.of(Failure), row.says) {
			t.Errorf("%s: %d, %s; want %s", row.line, s.code, s.of(Failure), row.says)
		}
	}
}
