// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// A certificate may stand before its key as well: cat id-cert.pub id.
func TestACertificateBeforeItsKey(t *testing.T) {
	text := made(t, "ssh-keygen -qt ed25519 -N '' -f ca; ssh-keygen -qt ed25519 -N '' -f k; ssh-keygen -qs ca -I x -n me k.pub; cat k-cert.pub k >key")
	for how, key := range map[string]string{"text": text, "file": file(t, text)} {
		if k, err := LoadKeys(key, ""); err != nil {
			t.Errorf("%s: %v", how, err)
		} else if k.files[0].cert == nil {
			t.Errorf("%s: no certificate", how)
		}
	}
}

// A path is a path, whatever its words are.
func TestAPathWithTheWordsPrivateKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "MY PRIVATE KEYS")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "id")
	if err := os.WriteFile(path, []byte(openSSH(t, newKey(t, "ed25519"), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(path, ""); err != nil {
		t.Error(err)
	}
}

// refuser is an agent that lists its keys and signs nothing: ssh-add -c, and the question was answered with no; a security
// key that nobody has touched.
type refuser struct{ agent.ExtendedAgent }

func (refuser) Sign(ssh.PublicKey, []byte) (*ssh.Signature, error) { return nil, errors.New("no") }
func (refuser) SignWithFlags(ssh.PublicKey, []byte, agent.SignatureFlags) (*ssh.Signature, error) {
	return nil, errors.New("no")
}

// The server takes the key, and is not said to have refused the login.
func TestAnAgentThatDoesNotSign(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{})
	raw, err := ssh.ParseRawPrivateKey([]byte(read(t, s.KeyFile)))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	if err := ring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "a")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(refuser{ring}, c) }()
		}
	}()
	_, err = with(t, s, KeySource{Agent: socket, Files: []string{s.KeyFile + ".none"}})
	if e := wantFault(t, err, fault.ErrAuth, true); !strings.Contains(e.Error(), "the ssh-agent does not sign") || !strings.Contains(e.Hint.String(), "ssh-add -c") {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
}

// A server that wants two keys has taken the first: what it wants is told, not where to look why it is refused.
func TestAServerThatWantsTwoKeys(t *testing.T) {
	s := sshdtest.Start(t, sshdtest.Options{Config: []string{"AuthenticationMethods publickey,publickey"}})
	_, err := with(t, s, KeySource{Key: s.KeyFile})
	if err == nil || !strings.Contains(err.Error(), "with a key alone") {
		t.Errorf("%v", err)
	}
}
