// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package nginxtest is for tests: it runs a private nginx, the real one.
//
//	nginxtest.Start(t, `server { listen 127.0.0.1:8081; … }`, 8081)
//
// It keeps everything in a directory of its own, runs as the user of the test, and ends with it; its
// log is shown if the test failed. Where there is no nginx a test is skipped, with CI=true it fails.
package nginxtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

const readyTimeout = 20 * time.Second

// Server is a running nginx.
type Server struct {
	t     testing.TB
	cmd   *exec.Cmd
	nginx string // its file
	dir   string
	ports []int
}

// Reload has it read its configuration again. Its earlier processes may answer for a moment longer.
func (s *Server) Reload() { must(s.t, s.cmd.Process.Signal(syscall.SIGHUP)) }

// Stop ends it, and its workers.
func (s *Server) Stop() {
	must(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	_ = s.cmd.Wait()
}

// Freeze stops it, and its workers, as they are: connections are accepted by the kernel, and nothing answers. Thaw has them go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw takes Freeze back.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(how syscall.Signal) {
	pid := s.cmd.Process.Pid
	below, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	must(s.t, err)
	for _, child := range strings.Fields(string(below)) {
		worker, err := strconv.Atoi(child)
		must(s.t, err)
		must(s.t, syscall.Kill(worker, how))
	}
	must(s.t, syscall.Kill(pid, how))
}

// Again starts it again after Stop, and returns when its ports are served.
func (s *Server) Again() {
	s.t.Helper()
	s.cmd = exec.Command(s.nginx, "-p", s.dir, "-e", filepath.Join(s.dir, "error.log"), "-c", filepath.Join(s.dir, "nginx.conf"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	must(s.t, s.cmd.Start())
	for _, port := range s.ports {
		for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
			c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err == nil {
				_ = c.Close()
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("nginx does not listen on port %d: %s", port, s.Log())
			}
		}
	}
}

// Log returns what it has written to its error log so far.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "error.log"))
	return string(text)
}

// Start runs nginx with what is given of its http block. It returns when each of the ports of
// 127.0.0.1 is served.
func Start(t testing.TB, http string, ports ...int) *Server {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			missing.Skip(t, "no nginx is installed")
		}
	}
	dir, err := os.MkdirTemp("", "nginxtest-")
	must(t, err)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	conf := fmt.Sprintf("%sdaemon off;\nworker_processes 1;\npid %[2]s/pid;\nerror_log %[2]s/error.log info;\nevents { worker_connections 8192; }\n"+
		"http {\naccess_log %[2]s/access.log;\nclient_body_temp_path %[2]s/body;\nproxy_temp_path %[2]s/proxy;\nfastcgi_temp_path %[2]s/f;\nuwsgi_temp_path %[2]s/u;\nscgi_temp_path %[2]s/s;\n%[3]s\n}\n",
		user, dir, http)
	must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600))
	s := &Server{t: t, nginx: nginx, dir: dir, ports: ports}
	t.Cleanup(func() {
		if s.cmd != nil {
			_ = s.cmd.Process.Signal(syscall.SIGTERM) // the master ends its workers
			_ = s.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("nginx:\n%s", s.Log())
		}
		_ = os.RemoveAll(dir)
	})
	s.Again()
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
