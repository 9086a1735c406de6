// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"errors"
	"os"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

var errRefused = errors.New("request refused")

func (a *scene) sessionAttacks() attacks {
	request := func(name string, payload []byte) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			s, err := c.NewSession()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			ok, err := s.SendRequest(name, true, payload)
			if err == nil && !ok {
				err = errRefused
			}
			return err
		}
	}
	x11 := ssh.Marshal(struct {
		Single       bool
		Name, Cookie string
		Screen       uint32
	}{false, "MIT-MAGIC-COOKIE-1", strings.Repeat("0", 32), 0})
	const only, forced = "This service allows sftp connections only.", "Starting session: forced-command .config. 'internal-sftp"
	everything := a.pki.certificate(a.pki.authority, a.pki.notebook, "team", func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "/bin/sh" })
	exec := func(command string) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			s, err := c.NewSession()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			said, _ := s.CombinedOutput(command)
			return errors.New(string(said))
		}
	}
	return attacks{"Sessions", "With the tenant's key, or a good certificate.", []attack{
		{"`ssh proxy`", a.stock("ssh", "id\n", "proxy"), only, forced, ""},
		{"`ssh proxy id`", a.stock("ssh", "", "proxy", "id"), only, forced, ""},
		{"`ssh proxy 'internal-sftp -l DEBUG3 -d /etc'`", a.stock("ssh", "", "proxy", "internal-sftp -l DEBUG3 -d /etc"), only, forced, ""},
		{"`id`, by a certificate with `force-command=/bin/sh`", a.raw(exec("id"), everything), only, forced, ""},
		{"`ssh -tt proxy`", a.stock("ssh", "", "-tt", "proxy"), "PTY allocation request failed", "[Aa]llocating a pty not permitted", ""},
		{"a terminal, by a certificate with `permit-pty`", a.raw(request("pty-req", ssh.Marshal(struct {
			Term         string
			W, H, PW, PH uint32
			Modes        string
		}{"xterm", 80, 24, 0, 0, ""})), everything), "request refused", "[Aa]llocating a pty not permitted", ""},
		{"`ssh -s proxy sh`", a.stock("ssh", "", "-s", "proxy", "sh"), "subsystem request failed", "subsystem request for sh by user " + a.User + " failed", ""},
		{"`ssh -A proxy`", a.stock("ssh", "", "-A", "proxy"), only, "agent forwarding (disabled|not permitted)", ""},
		{"the agent, by a certificate with `permit-agent-forwarding`", a.raw(request("auth-agent-req@openssh.com", nil), everything), "request refused", "agent forwarding (disabled|not permitted)", ""},
		{"`ssh -Y proxy`", a.stock("ssh", "", "-Y", "proxy"), "X11 forwarding request failed", "X11 forwarding", ""},
		{"X11, by a certificate with `permit-X11-forwarding`", a.raw(request("x11-req", x11), everything), "request refused", "X11 forwarding", ""},
		{"the request of `ssh -w 5:5 proxy`", a.raw(func(c *ssh.Client) error {
			ch, _, err := c.OpenChannel("tun@openssh.com", ssh.Marshal(struct{ Mode, Unit uint32 }{1, 5}))
			if err == nil {
				_ = ch.Close()
			}
			return err
		}), "connect failed", "ejected tunnel device|failure tun@openssh.com", ""},
		{"`ssh -o SetEnv=LD_PRELOAD=/x proxy`", a.stock("ssh", "", "-o", "SetEnv=LD_PRELOAD=/x", "proxy"), only, "Ignoring env request LD_PRELOAD", ""},
		{"a second session of a link", a.raw(func(c *ssh.Client) error {
			s, err := c.NewSession()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			second, err := c.NewSession()
			if err == nil {
				_ = second.Close()
			}
			return err
		}), "open failed", "no more sessions", ""},
	}}
}

func (a *scene) fileAttacks() attacks {
	batch := func(command string) func() string {
		return func() string {
			return a.run("sftp", command+"\n", a.User, "-q", "-b", "-", "proxy")
		}
	}
	files := func(do func(*sftp.Client) error) func() string {
		return a.raw(func(c *ssh.Client) error {
			f, err := sftp.NewClient(c)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			return do(f)
		})
	}
	const denied, sent = "Permission denied", "sent status Permission denied"
	return attacks{"Files", "By SFTP, the one thing that a session is.", []attack{
		{"`put x /s/x`", batch("put /etc/hostname /s/x"), denied, "Refusing open request in read-only mode", ""},
		{"`put x /proxy.json`", batch("put /etc/hostname /proxy.json"), denied, "Refusing open request in read-only mode", ""},
		{"opening `/proxy.json` to truncate it", files(func(f *sftp.Client) error { _, err := f.OpenFile("/proxy.json", os.O_WRONLY|os.O_TRUNC); return err }), "permission denied", "Refusing open request in read-only mode", ""},
		{"`rm /proxy.json`", batch("rm /proxy.json"), denied, "[Rr]efusing remove|" + sent, ""},
		{"`rename /proxy.json /x`", batch("rename /proxy.json /x"), denied, "[Rr]efusing.*rename|" + sent, ""},
		{"`mkdir /s/x`", batch("mkdir /s/x"), denied, "[Rr]efusing mkdir|" + sent, ""},
		{"`rmdir /s`", batch("rmdir /s"), denied, "[Rr]efusing rmdir|" + sent, ""},
		{"`ln -s /etc /s/etc`", batch("ln -s /etc /s/etc"), denied, "[Rr]efusing symlink|" + sent, ""},
		{"a hard link from `/proxy.json` to `/s/x`", files(func(f *sftp.Client) error { return f.Link("/proxy.json", "/s/x") }), "permission denied", "[Rr]efusing.*hardlink|" + sent, ""},
		{"`chmod 777 /s`", batch("chmod 777 /s"), denied, "[Rr]efusing setstat|" + sent, ""},
		{"`chown 0 /s`", batch("chown 0 /s"), denied, "[Rr]efusing setstat|" + sent, ""},
		{"`get /../../../etc/passwd`", batch("get /../../../etc/passwd /dev/null"), "not found", "No such file", ""},
		{"`ls /../" + neighbour + "`", batch("ls /../" + neighbour), "not found", "No such file", ""},
		{"`get /proc/self/environ`", batch("get /proc/self/environ /dev/null"), "not found", "No such file", ""},
		{"`ls /proc/1/root`", batch("ls /proc/1/root"), "not found", "No such file", ""},
		{"`get /dev/mem`", batch("get /dev/mem /dev/null"), "not found", "No such file", ""},
		{"`cd ~root`", batch("cd ~root"), "No such file", "No such file", ""},
	}}
}
