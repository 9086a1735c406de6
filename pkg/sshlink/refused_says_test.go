// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// What a server says while it refuses a login (RFC 4252, section 5.4) is the cause, where it is told at all.
func TestARefusedLoginTellsWhatTheServerSays(t *testing.T) {
	const said = "Your account has expired; please contact your system administrator"
	host := newSigner(t)
	for name, methods := range map[string]func(*ssh.ServerConfig){
		"a key that is refused": func(c *ssh.ServerConfig) {
			c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
		},
		"passwords alone": func(c *ssh.ServerConfig) {
			c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, errors.New("no") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := accepting(t, func(c net.Conn) {
				server := &ssh.ServerConfig{BannerCallback: func(ssh.ConnMetadata) string { return said + "\n" }}
				server.AddHostKey(host)
				methods(server)
				_, _, _, _ = ssh.NewServerConn(c, server)
				_, _ = io.Copy(io.Discard, c)
			})
			_, err := Dial(within(t, 10*time.Second), fakeConfig(t, addr, host))
			if !errors.Is(err, fault.ErrAuth) || !strings.Contains(err.Error(), said) {
				t.Errorf("%v; want what the server says", err)
			}
			t.Log(err)
		})
	}
}
