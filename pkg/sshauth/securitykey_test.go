// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

const skApplication = "ssh:"

// securityKey is a FIDO authenticator in an agent: it signs as PROTOCOL.u2f of OpenSSH has it, with a finger on it.
type securityKey struct {
	agent.Agent // what it does not answer
	kind        string
	key         crypto.Signer
}

// newSecurityKey makes one as ssh-keygen -t ed25519-sk or ecdsa-sk would.
func newSecurityKey(t testing.TB, kind string) securityKey {
	t.Helper()
	k, err := securityKey{kind: ssh.KeyAlgoSKED25519}, error(nil)
	if kind == "ecdsa-sk" {
		k.kind = ssh.KeyAlgoSKECDSA256
		k.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		_, k.key, err = ed25519.GenerateKey(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k securityKey) public(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, err := ssh.ParsePublicKey(k.blob())
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// blob is its public half.
func (k securityKey) blob() []byte {
	kind, application := ssh.Marshal(struct{ Kind string }{k.kind}), ssh.Marshal(struct{ Application string }{skApplication})
	half, isCurve := k.key.Public().(*ecdsa.PublicKey)
	if !isCurve {
		return slices.Concat(kind, ssh.Marshal(struct{ Half []byte }{k.key.Public().(ed25519.PublicKey)}), application)
	}
	point, err := half.Bytes()
	if err != nil {
		panic(err)
	}
	return slices.Concat(kind, ssh.Marshal(struct {
		Curve string
		Point []byte
	}{"nistp256", point}), application)
}

func (k securityKey) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: k.kind, Blob: k.blob(), Comment: "a stub"}}, nil
}

func (k securityKey) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	const touched, counter = "\x01", "\x00\x00\x00\x07"
	application, message := sha256.Sum256([]byte(skApplication)), sha256.Sum256(data)
	signed := slices.Concat(application[:], []byte(touched+counter), message[:])
	signature := &ssh.Signature{Format: k.kind, Rest: []byte(touched + counter)}
	key, isCurve := k.key.(*ecdsa.PrivateKey)
	if !isCurve {
		signature.Blob = ed25519.Sign(k.key.(ed25519.PrivateKey), signed)
		return signature, nil
	}
	digest := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	signature.Blob = ssh.Marshal(struct{ R, S *big.Int }{r, s})
	return signature, err
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

// file is what ssh-keygen -t ed25519-sk or ecdsa-sk leaves: the public half and a handle, nothing to sign with.
func (k securityKey) file(t testing.TB, passphrase string) string {
	t.Helper()
	private := slices.Concat(ssh.Marshal(struct{ Check1, Check2 uint32 }{1, 1}), k.blob(), ssh.Marshal(struct {
		Flags            byte
		Handle, Reserved string
		Comment          string
	}{1, strings.Repeat("h", 64), "", "me@laptop"}))
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
	other := sshdtest.StartAgent(t, sshdtest.NewKey(t, "ed25519")).Socket
	for _, kind := range []string{"ed25519-sk", "ecdsa-sk"} {
		k := newSecurityKey(t, kind)
		s := sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: authorizedKey(k.public(t))})
		socket, path, locked := k.serve(t), k.file(t, ""), k.file(t, passphrase)
		text := read(t, path)
		for _, row := range []struct {
			name    string
			src     KeySource
			refused string
		}{
			{"in the agent", KeySource{Agent: socket}, ""},
			{"in the agent, and its file named", KeySource{Agent: socket, Key: path}, ""},
			{"in the agent, and its file's text given", KeySource{Agent: socket, Key: text}, ""},
			{"in the agent, and its .pub line given", KeySource{Agent: socket, Key: authorizedKey(k.public(t))}, ""},
			{"in the agent, and IdentityFile of ssh_config", KeySource{Agent: socket, Files: []string{path}, IdentitiesOnly: true}, ""},
			{"in the agent, and its encrypted file named", KeySource{Agent: socket, Key: locked}, ""},
			{"its file without an agent", KeySource{Key: path}, "stands for a security key (FIDO)"},
			{"its encrypted file without an agent", KeySource{Key: locked}, "stands for a security key (FIDO)"},
			{"its encrypted file and the passphrase", KeySource{Key: locked, Passphrase: passphrase}, "stands for a security key (FIDO)"},
			{"its file with an agent that does not hold it", KeySource{Agent: other, Key: path}, "there is none that holds it"},
		} {
			t.Run(kind+" "+row.name, func(t *testing.T) {
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
				compat.Row(t, "keys", "a security key (FIDO, "+kind+"): "+row.name, compat.Outcome(err))
			})
		}
	}
}
