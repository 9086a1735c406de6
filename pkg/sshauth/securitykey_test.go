// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

const (
	skKind        = ssh.KeyAlgoSKED25519
	skApplication = "ssh:"
)

// securityKey is a FIDO authenticator in an agent: it signs as PROTOCOL.u2f of OpenSSH has it, with a finger on it.
type securityKey struct {
	agent.Agent // what it does not answer
	key         ed25519.PrivateKey
}

func newSecurityKey(t testing.TB) securityKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return securityKey{key: key}
}

func (k securityKey) half() []byte { return k.key.Public().(ed25519.PublicKey) }

func (k securityKey) public(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, err := ssh.ParsePublicKey(k.blob())
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func (k securityKey) blob() []byte {
	return ssh.Marshal(struct {
		Kind        string
		Half        []byte
		Application string
	}{skKind, k.half(), skApplication})
}

func (k securityKey) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: skKind, Blob: k.blob(), Comment: "a stub"}}, nil
}

func (k securityKey) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	const touched, counter = "\x01", "\x00\x00\x00\x07"
	application, message := sha256.Sum256([]byte(skApplication)), sha256.Sum256(data)
	signed := append(append(application[:], touched+counter...), message[:]...)
	return &ssh.Signature{Format: skKind, Blob: ed25519.Sign(k.key, signed), Rest: []byte(touched + counter)}, nil
}

// serve is the socket of an agent that holds the key until the test ends.
func (k securityKey) serve(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(k, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
		_ = os.RemoveAll(dir)
	})
	return socket
}

// keyFile is the file that ssh-keygen -t ed25519-sk leaves: the public half and a handle, nothing to sign with.
func (k securityKey) file(t testing.TB, passphrase string) string {
	t.Helper()
	private := ssh.Marshal(struct {
		Check1, Check2   uint32
		Kind             string
		Half             []byte
		Application      string
		Flags            byte
		Handle, Reserved string
		Comment          string
	}{1, 1, skKind, k.half(), skApplication, 1, strings.Repeat("h", 64), "", "me@laptop"})
	for n := byte(1); len(private)%8 != 0; n++ {
		private = append(private, n)
	}
	der := append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
		Cipher, KDF, Options string
		Count                uint32
		Public, Private      []byte
	}{"none", "none", "", 1, k.blob(), private})...)
	path := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: der})))
	if said, err := exec.Command("ssh-keygen", "-y", "-P", "", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen does not read it: %v\n%s", err, said)
	}
	if passphrase != "" {
		if said, err := exec.Command("ssh-keygen", "-q", "-p", "-a", "1", "-P", "", "-N", passphrase, "-f", path).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, said)
		}
	}
	return path
}

// A security key logs in to a real sshd by an agent that holds it, found there by itself or by the file that stands for it.
func TestSecurityKeysInAnAgent(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	k := newSecurityKey(t)
	s := sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: authorizedKey(k.public(t))})
	socket, other := k.serve(t), sshdtest.StartAgent(t, sshdtest.NewKey(t, "ed25519")).Socket
	path, locked := k.file(t, ""), k.file(t, passphrase)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		src     KeySource
		refused string
	}{
		{"in the agent", KeySource{Agent: socket}, ""},
		{"in the agent, and its file named", KeySource{Agent: socket, Key: path}, ""},
		{"in the agent, and its file's text given", KeySource{Agent: socket, Key: string(text)}, ""},
		{"in the agent, and its .pub line given", KeySource{Agent: socket, Key: authorizedKey(k.public(t))}, ""},
		{"in the agent, and IdentityFile of ssh_config", KeySource{Agent: socket, Files: []string{path}, IdentitiesOnly: true}, ""},
		{"in the agent, and its encrypted file named", KeySource{Agent: socket, Key: locked}, ""},
		{"its file without an agent", KeySource{Key: path}, "stands for a security key (FIDO)"},
		{"its encrypted file without an agent", KeySource{Key: locked}, "stands for a security key (FIDO)"},
		{"its encrypted file and the passphrase", KeySource{Key: locked, Passphrase: passphrase}, "stands for a security key (FIDO)"},
		{"its file with an agent that does not hold it", KeySource{Agent: other, Key: path}, "there is none that holds it"},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys, err := with(t, s, row.src)
			switch {
			case row.refused != "":
				if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), row.refused) || !strings.Contains(e.Hint.String(), "ssh-add") {
					t.Errorf("%v, hint %s; want %q", e, e.Hint, row.refused)
				}
			case err != nil:
				t.Error(err)
			default:
				if _, err := keys.Secret(t.Context(), "a"); !errors.Is(err, ErrNoSecret) { // the owner is not asked for a finger for it
					t.Errorf("a secret of it: %v", err)
				}
			}
			compat.Row(t, "keys", "a security key (FIDO): "+row.name, compat.Outcome(err))
		})
	}
}
