// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// Egress is a running program by way of which connections leave a network, or enter one: a proxy, or
// what speaks TLS in front of sshd. It listens on a free port of 127.0.0.1.
type Egress struct {
	// Host and Port are where it listens.
	Host string
	Port int

	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// StartTinyproxy starts an HTTP proxy that ends with the test. lines are of tinyproxy.conf(5):
// "BasicAuth user password", "ConnectPort 443".
func StartTinyproxy(t testing.TB, lines ...string) *Egress {
	t.Helper()
	path := daemon(t, "tinyproxy", "tinyproxy-bin")
	return startEgress(t, func(e *Egress) []string {
		text := fmt.Sprintf("Port %d\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Connect\n%s\n", e.Port, strings.Join(lines, "\n"))
		e.write("tinyproxy.conf", text)
		return []string{path, "-d", "-c", filepath.Join(e.dir, "tinyproxy.conf")}
	})
}

// StartMicrosocks starts a SOCKS5 proxy that ends with the test. args are its own: "-u", "user",
// "-P", "password".
func StartMicrosocks(t testing.TB, args ...string) *Egress {
	t.Helper()
	path := daemon(t, "microsocks", "microsocks")
	return startEgress(t, func(e *Egress) []string {
		return append([]string{path, "-i", e.Host, "-p", strconv.Itoa(e.Port)}, args...)
	})
}

// StartTLS starts nginx, which takes TLS with this certificate off and connects to an address. It
// ends with the test.
func StartTLS(t testing.TB, cert Certificate, to string) *Egress {
	t.Helper()
	path := daemon(t, "nginx", "nginx-light")
	module := "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		missing.Skip(t, "nginx has no stream module (Debian: libnginx-mod-stream)")
	}
	return startEgress(t, func(e *Egress) []string {
		e.write("cert.pem", cert.Chain)
		e.write("key.pem", cert.Key)
		e.write("nginx.conf", fmt.Sprintf(`load_module %s;
daemon off;
pid %[2]s/nginx.pid;
error_log stderr info;
events {}
stream {
	server {
		listen 127.0.0.1:%[3]d ssl;
		ssl_certificate %[2]s/cert.pem;
		ssl_certificate_key %[2]s/key.pem;
		proxy_pass %[4]s;
	}
}
`, module, e.dir, e.Port, to))
		return []string{path, "-e", "stderr", "-p", e.dir, "-c", filepath.Join(e.dir, "nginx.conf")}
	})
}

// daemon returns the path of a program that may lie where only root looks.
func daemon(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", "/sbin") {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
			return filepath.Join(dir, name)
		}
	}
	missing.Skip(t, "no %s is installed (Debian: %s)", name, pkg)
	return ""
}

func startEgress(t testing.TB, configure func(*Egress) []string) *Egress {
	t.Helper()
	e := &Egress{Host: "127.0.0.1", t: t, dir: directory(t)}
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("egress on port %d:\n%s", e.Port, e.Log())
		}
		_ = os.RemoveAll(e.dir)
	})
	var err error
	for range startTries {
		e.Port = FreePort()
		if err = e.launch(configure(e)); err == nil {
			return e
		}
	}
	t.Fatalf("%v\n%s", err, e.Log())
	return nil
}

// launch starts the process and waits until it, or a process of its own, listens.
func (e *Egress) launch(args []string) error {
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(5 * time.Millisecond) {
		if slices.Contains(listening(append(descendants(cmd.Process.Pid), cmd.Process.Pid)...), e.Port) {
			e.cmd = cmd
			return nil
		}
		if zombie(cmd.Process.Pid) || time.Now().After(deadline) {
			killTree(cmd.Process.Pid)
			return fmt.Errorf("%s does not listen: %w", args[0], cmd.Wait())
		}
	}
}

// Addr returns "127.0.0.1:port".
func (e *Egress) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Log returns what it has written so far.
func (e *Egress) Log() string {
	b, _ := os.ReadFile(filepath.Join(e.dir, "log"))
	return string(b)
}

// Stop ends it and every process of its connections.
func (e *Egress) Stop() {
	if e.cmd != nil {
		killTree(e.cmd.Process.Pid)
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}

// Freeze has it, and its connections, say nothing more.
func (e *Egress) Freeze() {
	_ = syscall.Kill(e.cmd.Process.Pid, syscall.SIGSTOP)
	freeze(e.cmd.Process.Pid)
}

func (e *Egress) write(name, text string) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}
