// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/relay"
)

func (a *scene) staleAttacks() attacks {
	const path, state = "/.well-known/taipy-tunnel/stale", "/.stale"
	says := filepath.Join(a.Layout.Run, state)
	const root, denied = "mode 755, of root:root", "permission denied"
	return attacks{"Having links ended", "A program of root's ends what sshd keeps of links that have gone silent. It takes no orders; what it does it says in a file, " +
		"which nginx shows at check ports.", []attack{
		{"a link that goes silent, beside another of the same key and one of another tenant", a.silent, "it was ended, the others answer", "ended sshd's process", ""},
		{"the check port: `PUT " + path + "`", a.puts(path), "405 Not Allowed", `"PUT ` + path + ` HTTP/1.1" 405 `, ""},
		{"… `" + path + "/../x`", a.atCheckPort("board.invalid", path+"/../x"), "404 Not Found", `/x HTTP/1.1" 404 `, ""},
		{"removing that file, as another account", a.removes(neighbour, says), "unlink: " + denied, "", root},
		{"removing the program, as another account", a.removes(neighbour, a.Layout.Etc+"/stale.sh"), "unlink: " + denied, "", root},
	}}
}

// puts sends a request with a body to the check port.
func (a *scene) puts(path string) func() string {
	return a.raw(func(c *ssh.Client) error {
		conn, err := c.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.Check()))
		if err != nil {
			return err
		}
		return fmt.Errorf("%s", askRaw(conn, []string{"PUT " + path + " HTTP/1.1", "Host: board.invalid", "Content-Length: 0"}))
	})
}

// silent has one of three links go silent.
func (a *scene) silent() string {
	var others []*ssh.Client
	for user, key := range map[string]ssh.Signer{a.User: a.key(), neighbour: a.theirs} {
		c, err := a.login(user, key)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		others = append(others, c)
	}
	way := relay.Start(a.t, a.Addr())
	c, err := ssh.Dial("tcp", way.Addr(), &ssh.ClientConfig{User: a.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(a.key())}, HostKeyCallback: ssh.FixedHostKey(a.HostKey)})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	before := strings.Count(a.ends.String(), "ended")
	way.Hole()
	for deadline := time.Now().Add(20 * time.Second); strings.Count(a.ends.String(), "ended") == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return "it is there after 20 s"
		}
	}
	for _, c := range others {
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			return "another link: " + err.Error()
		}
	}
	return "it was ended, the others answer"
}
