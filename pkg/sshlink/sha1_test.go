// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// A server that signs with SHA-1 alone (OpenSSH before 7.2, Dropbear before 2020.79) has the key that was given, and is not said
// to show another one.
func TestAServerThatSignsWithSHA1Alone(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerWithAlgorithms(key.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	_, another, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := ssh.NewSignerFromKey(another)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]ssh.Signer{"alone": {old}, "beside an ed25519 key": {old, newer}} {
		addr := accepting(t, func(c net.Conn) {
			server := &ssh.ServerConfig{NoClientAuth: true}
			for _, k := range keys {
				server.AddHostKey(k)
			}
			_, _, _, _ = ssh.NewServerConn(c, server)
			_, _ = io.Copy(io.Discard, c)
		})
		_, err = Dial(within(t, 10*time.Second), fakeConfig(t, addr, key))
		e := fault.From(err)
		said := e.Error() + "; " + e.Hint.String()
		if !errors.Is(err, fault.ErrHostKey) || !e.Permanent || !strings.Contains(said, "SHA-1 alone") || strings.Contains(said, "ssh_host_ed25519_key.pub on the proxy") != (len(keys) > 1) {
			t.Errorf("%s: %s", name, said)
		}
	}
}
