// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

func (a *scene) tenantAttacks() attacks {
	const question, nobody = "/.well-known/taipy-tunnel", "404 Not Found"
	silent := func(host string) string { return `" 404 .*host=` + strings.ToLower(host) + ` .*slot=- ` }
	accel := func(to string) func() string {
		return a.send(a.HTTP, "GET /x?accel="+to+" HTTP/1.1", "Host: board.invalid")
	}
	const own, passed = "the app was asked for /x", `"GET /x HTTP/1.1" 200 .*host=board.invalid .*answered=200`
	// admin looks at the status page while a socket has a name that is a script.
	admin := func(path, to string) func() string {
		return a.raw(func(c *ssh.Client) error {
			if !bind(c, "/s/<script>evil()<script>") {
				return errRefused
			}
			a.accel = to
			defer func() { a.accel = "" }()
			said := a.send(a.status, "GET "+path+" HTTP/1.1", "Host: x", "Authorization: Basic YWRtaW46c2VjcmV0")()
			if strings.Contains(said, "<script>evil") || !strings.Contains(said, "200 OK") {
				return errors.New(said)
			}
			return errors.New("the page as without it")
		})
	}
	theirs := filepath.Join(a.Layout.Run, neighbour, "s", "theirs.0.sock")
	own0 := filepath.Join(a.Layout.Run, a.User, "s", "board.0.sock")
	games, lp := a.User, neighbour
	return attacks{"Other tenants, and other accounts of the machine", "The thief's own app is on the slot of board.invalid, theirs.invalid is another tenant's. " +
		"Where neither sshd nor nginx is asked, the kernel refuses, by the mode of the directory of slots.", []attack{
		{"the check port: " + "`Host: theirs.invalid`", a.atCheckPort("theirs.invalid", question), nobody, silent("theirs.invalid"), ""},
		{"… `Host: mine--" + lp + ".apps.invalid`", a.atCheckPort("mine--"+lp+".apps.invalid", question), nobody, silent("mine--" + lp + ".apps.invalid"), ""},
		{"… `Host: x--" + lp + "--" + games + ".apps.invalid.evil.invalid`", a.atCheckPort("x--"+lp+"--"+games+".apps.invalid.evil.invalid", question), nobody, silent("x--" + lp + "--" + games + ".apps.invalid.evil.invalid"), ""},
		{"… `GET http://theirs.invalid" + question + "`", a.atCheckPort("board.invalid", "http://theirs.invalid"+question), nobody, silent("theirs.invalid"), ""},
		{"… the own app's page", a.atCheckPort("board.invalid", "/"), nobody, silent("board.invalid"), ""},
		{"… `" + question + "/../../x`", a.atCheckPort("board.invalid", question+"/../../x"), nobody, silent("board.invalid"), ""},
		{"… an app that there is not", a.atCheckPort("127.0.0.1", "/other"+question), nobody, silent("127.0.0.1"), ""},
		{"… another tenant's slot, `" + question + "/slots/0` with `Host: theirs.invalid`", a.atCheckPort("theirs.invalid", question+"/slots/0"), nobody, silent("theirs.invalid"), ""},
		{"… `Host: mine--" + lp + ".apps.invalid`", a.atCheckPort("mine--"+lp+".apps.invalid", question+"/slots/0"), nobody, silent("mine--" + lp + ".apps.invalid"), ""},
		{"… `/slots/..%2f../" + lp + "/s/theirs.0`", a.atCheckPort("board.invalid", question+"/slots/..%2f../"+lp+"/s/theirs.0"), nobody, silent("board.invalid"), ""},
		{"… a slot that the app does not have, `/slots/4`", a.atCheckPort("board.invalid", question+"/slots/4"), nobody, silent("board.invalid"), ""},
		{"… the own app's page, `/slots/0/x`", a.atCheckPort("board.invalid", question+"/slots/0/x"), nobody, silent("board.invalid"), ""},
		{"`X-Accel-Redirect: /taipy-tunnel-away`", accel("/taipy-tunnel-away"), own, passed, ""},
		{"`X-Accel-Redirect: @upload`", accel("@upload"), own, passed, ""},
		{"`X-Accel-Redirect: /slots/…/`, when the admin asks whether it is up", admin("/up/"+games+"/board", "/slots/"+games+"/"), "the page as without it", `"GET /up/` + games + `/board HTTP/1.1" 200 `, ""},
		{"… and a socket named `<script>…`, on the status page", admin("/", "/slots/"+games+"/"), "the page as without it", `"GET / HTTP/1.1" 200 `, ""},
		{"connecting to their slot, as the tenant's account", a.local(games, theirs), "connect: permission denied", "", "mode 2750, of " + lp},
		{"connecting to the tenant's slot, as another account", a.local(lp, own0), "connect: permission denied", "", "mode 2750, of " + games},
		{"removing the tenant's slot, as another account", a.removes(lp, own0), "unlink: permission denied", "", "mode 2750, of " + games},
		{"listing the tenant's slots, as another account", a.lists(lp, filepath.Dir(own0)), "open: permission denied", "", "mode 2750, of " + games},
	}}
}

// atCheckPort asks there, by a link of the tenant's.
func (a *scene) atCheckPort(host, path string) func() string {
	return func() string {
		c, err := a.login(a.User, a.key())
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		conn, err := c.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.Check()))
		if err != nil {
			return err.Error()
		}
		return askRaw(conn, []string{"GET " + path + " HTTP/1.1", "Host: " + host})
	}
}

// local connects to a socket as another account of the machine.
func (a *scene) local(account, path string) func() string {
	return a.as(account, path, "connect", func() error {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = syscall.Close(fd) }()
		return syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	})
}

func (a *scene) removes(account, path string) func() string {
	return a.as(account, path, "unlink", func() error { return syscall.Unlink(path) })
}

func (a *scene) lists(account, dir string) func() string {
	return a.as(account, dir+"/x", "open", func() error {
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err == nil {
			_ = syscall.Close(fd)
		}
		return err
	})
}

// as does it in a thread that has become another account (setresuid(2) of one thread), and is not used again.
func (a *scene) as(account, path, what string, do func() error) func() string {
	return func() string {
		who, err := user.Lookup(account)
		must(a.t, err)
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		result := make(chan error)
		go func() {
			runtime.LockOSThread()
			var failed syscall.Errno
			for _, c := range [][4]uintptr{{syscall.SYS_SETGROUPS}, {syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
				{syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)}} {
				if _, _, errno := syscall.RawSyscall(c[0], c[1], c[2], c[3]); errno != 0 {
					failed = errno
				}
			}
			if failed != 0 {
				result <- failed
				return
			}
			result <- do()
		}()
		err = <-result
		st := statOf(a.t, filepath.Dir(path))
		owner, group := "", ""
		if u, err := user.LookupId(fmt.Sprint(st.Uid)); err == nil {
			owner = u.Username
		}
		if g, err := user.LookupGroupId(fmt.Sprint(st.Gid)); err == nil {
			group = g.Name
		}
		return fmt.Sprintf("%s: %s\nmode %o, of %s:%s", what, answer(err), st.Mode&0o7777, owner, group)
	}
}

func statOf(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t)
}

func (a *scene) excesses() attacks {
	return attacks{"Taking too much", "With the limits of the rendered file, which pam_limits(8) applies.", []attack{
		{"64 MB with `X-Accel-Buffering: yes`, for a visitor who does not read", a.unread, "the app waits for the visitor", `"GET /x HTTP/1.1" [24]\d\d .*host=board.invalid .*answered=200`, ""},
		{"10000 sockets on one link", a.manySockets, "sockets, then request refused", "Too many open files", ""},
	}}
}

// limited has sshd, which do starts, have no more files than a tenant's link, in the place of pam_limits(8).
func limited(t testing.TB, do func()) {
	var before, most syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	most.Max = before.Max
	files, err := proxyhost.Render(proxyhost.Host{Tenants: []proxyhost.Tenant{{Name: "x", Keys: []string{string(ssh.MarshalAuthorizedKey(signer(t).PublicKey()))}, SelfService: "x.invalid"}}})
	must(t, err)
	_, limit, _ := strings.Cut(files.Text("/etc/security/limits.d/60-taipy-tunnel.conf"), " nofile ")
	_, err = fmt.Sscan(limit, &most.Cur)
	must(t, err)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &most))
	defer func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) }()
	do()
}

// manySockets binds sockets until it is refused.
func (a *scene) manySockets() string {
	path := a.Layout.SSHD
	text := strings.Replace(a.Proxy.Files.Text(path), "LogLevel DEBUG3", "LogLevel VERBOSE", 1) // or it takes a minute
	must(a.t, os.WriteFile(path, []byte(text), 0o644))
	limited(a.t, a.Restart)
	c, err := a.login(a.User, a.key())
	must(a.t, err)
	defer func() { _ = c.Close() }()
	for n := range 10000 {
		if n < 8000 { // without waiting for each
			_, _, _ = c.SendRequest("streamlocal-forward@openssh.com", false, ssh.Marshal(struct{ Path string }{fmt.Sprintf("/s/many.%d.sock", n)}))
		} else if !bind(c, fmt.Sprintf("/s/many.%d.sock", n)) {
			return fmt.Sprintf("%d sockets, then %v", n, errRefused)
		}
	}
	return "10000 sockets"
}
