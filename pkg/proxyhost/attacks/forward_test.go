// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
)

// bind asks for a unix socket (PROTOCOL, section 2.4, of OpenSSH).
func bind(c *ssh.Client, path string) bool {
	ok, _, err := c.SendRequest("streamlocal-forward@openssh.com", true, ssh.Marshal(struct{ Path string }{path}))
	return ok && err == nil
}

// forwarded starts an ssh that forwards a port of this machine, has say talk to it, and returns
// what both said.
func (a *scene) forwarded(say string, option func(port int) []string) func() string {
	return func() string {
		port := a.FreePort()
		c := exec.Command(client(a.t, "ssh"), append(append(a.options(a.User), "-N"), append(option(port), "proxy")...)...)
		var said proxytest.Log
		c.Stdout, c.Stderr, c.WaitDelay = &said, &said, time.Second
		must(a.t, c.Start())
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = io.WriteString(conn, say)
				r := bufio.NewReader(conn)
				got, _ := r.ReadString('\n')
				if !strings.HasPrefix(got, "HTTP/") { // else ssh may keep the connection after its answer
					rest, _ := io.ReadAll(r)
					got += string(rest)
				}
				_ = conn.Close()
				for !strings.Contains(got, "HTTP/") && said.String() == "" && time.Now().Before(deadline) { // it says why, a little later
					time.Sleep(5 * time.Millisecond)
				}
				return said.String() + got
			}
			if time.Now().After(deadline) {
				return "ssh does not listen: " + said.String()
			}
		}
	}
}

func (a *scene) outAttacks() attacks {
	const prohibited, denied = "administratively prohibited", "but the request was denied"
	to := func(addr string) func() string { return a.stock("ssh", "", "-W", addr, "proxy") }
	_, ssh22, _ := net.SplitHostPort(a.Addr())
	_, stranger, _ := net.SplitHostPort(a.stranger)
	check := fmt.Sprint(a.Check())
	local := func(target string) func() string {
		return a.forwarded("GET / HTTP/1.0\r\n\r\n", func(port int) []string { return []string{"-L", fmt.Sprintf("%d:%s", port, target)} })
	}
	// SOCKS 5 without authentication: CONNECT to 169.254.169.254:80, where clouds keep a machine's own credentials.
	socks := a.forwarded("\x05\x01\x00\x05\x01\x00\x01\xa9\xfe\xa9\xfe\x00\x50", func(port int) []string { return []string{"-D", fmt.Sprint(port)} })
	return attacks{"Forwarding out", "The check port of the tenant, here 20000, is the one address that it may open.", []attack{
		{"`ssh -W 127.0.0.1:9000 proxy`, another service", to("127.0.0.1:" + stranger), prohibited, denied, ""},
		{"`ssh -L 8000:127.0.0.1:9000 proxy`", local("127.0.0.1:" + stranger), prohibited, denied, ""},
		{"`ssh -D 1080 proxy`, then 169.254.169.254:80", socks, prohibited, denied, ""},
		{"`ssh -W 127.0.0.1:22 proxy`", to("127.0.0.1:" + ssh22), prohibited, denied, ""},
		{"`ssh -W 127.0.0.1:80 proxy`, nginx", to(fmt.Sprintf("127.0.0.1:%d", a.HTTP)), prohibited, denied, ""},
		{"`ssh -W 127.0.0.1:8090 proxy`, the status page", to(fmt.Sprintf("127.0.0.1:%d", a.status)), prohibited, denied, ""},
		{"`ssh -W 127.0.0.1:20001 proxy`, another tenant's check port", to(fmt.Sprintf("127.0.0.1:%d", a.others)), prohibited, denied, ""},
		{"`ssh -W localhost:20000 proxy`", to("localhost:" + check), prohibited, denied, ""},
		{"`ssh -W 127.0.0.2:20000 proxy`", to("127.0.0.2:" + check), prohibited, denied, ""},
		{"`ssh -W 0.0.0.0:20000 proxy`", to("0.0.0.0:" + check), prohibited, denied, ""},
		{"`ssh -W [::1]:20000 proxy`", to("[::1]:" + check), prohibited, denied, ""},
		{"`ssh -W 192.0.2.1:80 proxy`", to("192.0.2.1:80"), prohibited, denied, ""},
		{"`ssh -L 8000:/s/board.0.sock proxy`", local("/s/board.0.sock"), "connect failed: open failed", "refused streamlocal port forward: .* target ", ""},
		{"`ssh -L 8000:/run/docker.sock proxy`", local("/run/docker.sock"), "connect failed: open failed", "refused streamlocal port forward: .* target ", ""},
	}}
}

func (a *scene) listenAttacks() attacks {
	remote := func(spec string) func() string {
		return a.stock("ssh", "", "-o", "ExitOnForwardFailure=yes", "-R", spec, "proxy")
	}
	socket := func(path string) func() string {
		return a.raw(func(c *ssh.Client) error {
			if !bind(c, path) {
				return errRefused
			}
			return nil
		})
	}
	outside := filepath.Join(os.TempDir(), filepath.Base(a.Layout.Run)+".sock")
	const port, failed = "remote port forwarding failed", "to remote forward to host .* but the request was denied"
	return attacks{"Listening", "A tenant may listen on sockets in `/s` of its own directory.", []attack{
		{"`ssh -R 8080:127.0.0.1:80 proxy`", remote("8080:127.0.0.1:80"), port, failed, ""},
		{"`ssh -R 0:127.0.0.1:80 proxy`", remote("0:127.0.0.1:80"), port, failed, ""},
		{"`ssh -R *:18080:127.0.0.1:80 proxy`", remote("*:18080:127.0.0.1:80"), port, failed, ""},
		{"`ssh -R 1080 proxy`", remote("1080"), port, failed, ""},
		{"`ssh -R " + "/tmp/x.sock:127.0.0.1:80 proxy`", remote(outside + ":127.0.0.1:80"), port, "unix_listener: cannot bind", ""},
		{"a socket at `/x.sock`, beside `/s`", socket("/x.sock"), "request refused", "Permission denied", ""},
		{"… at `/proxy.json`", socket("/proxy.json"), "request refused", "Address already in use|Permission denied", ""},
		{"… at `/s` itself", socket("/s"), "request refused", "unix_listener", ""},
		{"… at `/s/../../" + neighbour + "/s/theirs.0.sock`", socket("/s/../../" + neighbour + "/s/theirs.0.sock"), "request refused", "No such file", ""},
		{"… at `/" + neighbour + "/s/theirs.0.sock`", socket("/" + neighbour + "/s/theirs.0.sock"), "request refused", "No such file", ""},
		{"… of a name of 200 letters", socket("/s/" + strings.Repeat("x", 200)), "request refused", "too long", ""},
		{"… in a directory of `/s`", socket("/s/x/x.sock"), "request refused", "No such file", ""},
		{"… at the abstract address `@x`", socket("\x00x"), "request refused", "unix_listener|streamlocal", ""},
	}}
}
