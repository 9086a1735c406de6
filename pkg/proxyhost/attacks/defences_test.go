// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDefences leaves out what keeps an attack off, and sees the attack succeed: what is refused otherwise is refused
// because of that, and a row that could not fail would be noticed here.
func TestDefences(t *testing.T) {
	a := newScene(t, func(_, text string) string { return text })
	rows := map[string]attack{}
	for _, group := range a.everything() {
		for _, r := range group.rows {
			rows[r.tried] = r
		}
	}
	principals := a.Layout.Etc + "/principals/" + a.User
	site, server, listen := a.Layout.Site, a.Layout.Etc+"/nginx/server.conf", a.Layout.Etc+"/nginx/listen.conf"
	edited := map[string]string{}
	for _, c := range []struct {
		tried, then string   // and what comes of it without that
		out         []string // files, and what is left out of each
	}{
		{"`ssh -o PreferredAuthentications=password,keyboard-interactive,hostbased`", "publickey,password", []string{a.Layout.SSHD, "AuthenticationMethods publickey"}},
		{"a key that was revoked", "granted", []string{a.Layout.SSHD, "RevokedKeys " + a.Layout.Etc + "/revoked/" + a.User}},
		{"… by the account's name", "granted", []string{a.Layout.SSHD, "AuthorizedPrincipalsFile " + principals, a.Layout.SSHD, "AuthorizedPrincipalsCommand none"}},
		{"a second session of a link", "granted", []string{a.Layout.SSHD, "MaxSessions 1"}},
		{"a terminal, by a certificate with `permit-pty`", "granted", []string{a.Layout.SSHD, "PermitTTY no", principals, "restrict,port-forwarding "}},
		{"`put x /s/x`", "granted", []string{a.Layout.SSHD, "ForceCommand internal-sftp -R -l VERBOSE"}},
		{"`get /../../../etc/passwd`", "granted", []string{a.Layout.SSHD, "ChrootDirectory " + a.Layout.Run + "/%u"}},
		{"`ssh -W 127.0.0.1:9000 proxy`, another service", "granted", []string{a.Layout.SSHD, "PermitOpen "}},
		{"`ssh -L 8000:/s/board.0.sock proxy`", "200 OK", []string{a.Layout.SSHD, "AllowStreamLocalForwarding remote", a.Layout.SSHD, "PermitOpen "}},
		{"`ssh -R 0:127.0.0.1:80 proxy`", "Allocated port", []string{a.Layout.SSHD, "PermitListen none"}},
		{"`X-Forwarded-For: 192.0.2.66`", "it sees 192.0.2.66", []string{server, "proxy_set_header X-Forwarded-For $remote_addr;"}},
		{"`X-Forwarded-User: boss`", "it sees boss", []string{server, "proxy_set_header X-Forwarded-User $taipy_user;"}},
		{"`X-Taipy-Tunnel-Request` of another request", "it sees the same", []string{server, "proxy_set_header X-Taipy-Tunnel-Request $request_id;"}},
		{"`X-Accel-Redirect: /taipy-tunnel-away`", "The app is away", []string{server, " X-Accel-Redirect"}},
		{"… and a socket named `<script>…`, on the status page", "<script>evil", []string{server, " X-Accel-Redirect"}},
		{"64 MB with `X-Accel-Buffering: yes`, for a visitor who does not read", "nginx keeps all of it", []string{server, "proxy_max_temp_file_size 0;"}},
		{"`Upgrade: h2c`", "it sees h2c", []string{site, " ~*h2c '';"}},
		{"`GET http://theirs.invalid/`, `Host: board.invalid`", "theirs", []string{listen, "if ($taipy_two_hosts) { return 421; }"}},
		{"`Host: evil.invalid`, a name of nobody's", "403 Forbidden", []string{site, "server_name taipy-tunnel.invalid; return 421; }", site, "server { include " + listen + "; include " + server + "; "}},
		{"… as `X-Original-URL: http://board.invalid/`", "200 OK", []string{site, "proxy_set_header X-Original-URL $scheme://$http_host$request_uri;"}},
		{"a body in chunks, the end of which never comes", "i/o timeout", []string{site, " ~*[a-z] 1;"}},
		{"closed.invalid, from the machine itself", "503 Service", []string{site, "deny all;", site, "deny 127.0.0.0/8; deny ::1;"}},
		{"connecting to the tenant's slot, as another account", "connect: granted", nil},
	} {
		r, is := rows[c.tried]
		if !is {
			t.Errorf("%s: there is no such attack", c.tried)
			continue
		}
		texts := map[string]string{}
		for i := 0; i < len(c.out); i += 2 {
			path, without := c.out[i], c.out[i+1]
			before, seen := texts[path]
			if !seen {
				before = a.Proxy.Files.Text(path)
			}
			if texts[path] = leaveOut(before, without); texts[path] == before {
				t.Errorf("%s: %s does not have %q", c.tried, filepath.Base(path), without)
			}
		}
		before := edited // by the row before: sshd is restarted once for both
		edited = maps.Clone(texts)
		for path := range before {
			if _, again := texts[path]; !again {
				texts[path] = a.Proxy.Files.Text(path)
			}
		}
		a.put(texts)
		if c.out == nil { // the mode of the directory, and of the socket in it
			slots := filepath.Join(a.Layout.Run, a.User, "s")
			must(t, os.Chmod(slots, 0o755))
			must(t, os.Chmod(slots+"/board.0.sock", 0o666))
		}
		var got string
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // nginx's new processes take over
			if got = r.do(); strings.Contains(got, c.then) && !strings.Contains(got, r.got) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s does not succeed, so it is refused for another reason: %s", c.tried, got)
				break
			}
		}
		t.Logf("%s: %.100q", c.tried, got)
	}
}

// leaveOut makes a comment of a line of sshd_config(5) that begins so, or takes it out of another text.
func leaveOut(text, without string) string {
	if strings.Contains(text, "\n    "+without) && !strings.HasSuffix(without, ";") {
		return strings.ReplaceAll(text, "\n    "+without, "\n    #"+without)
	}
	return strings.ReplaceAll(text, without, "")
}

// put writes files of the machine, and has sshd and nginx read them.
func (a *scene) put(texts map[string]string) {
	for path, text := range texts {
		must(a.t, os.WriteFile(path+".new", []byte(text), 0o644))
		must(a.t, os.Rename(path+".new", path)) // nginx may be reading it
		switch {
		case path == a.Layout.SSHD:
			a.Restart()
			if strings.Contains(text, "\n    ChrootDirectory") { // else its sockets would be this machine's
				a.settle()
			}
		case strings.HasSuffix(path, ".conf"):
			a.Nginx.Reload()
		}
	}
}
