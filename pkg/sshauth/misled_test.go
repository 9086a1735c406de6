// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
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

// A wrong passphrase leaves a padding of PEM that fits once in 256 times, and noise before it: it is the passphrase all the same that is wrong.
func TestAPaddingThatFits(t *testing.T) {
	//lint:ignore SA1019 people have such keys
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", []byte("\xffnoise"), []byte("wrong"), x509.PEMCipherAES128)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(string(pem.EncodeToMemory(block)), "wrong"); err == nil || !strings.Contains(err.Error(), "the passphrase does not open key") {
		t.Errorf("%v", err)
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

// refuser is an agent that lists its keys and does not sign with one of them: ssh-add -c, and the question was answered with no; a
// security key that nobody has touched.
type refuser struct {
	agent.ExtendedAgent
	with ssh.PublicKey
}

func (r refuser) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if sameKey(key, r.with) {
		return nil, errors.New("no")
	}
	return r.ExtendedAgent.SignWithFlags(key, data, flags)
}

// refuses is the socket of an agent that holds the keys of files, and does not sign with the last one.
func refuses(t *testing.T, files ...string) string {
	t.Helper()
	r := refuser{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent)}
	for _, file := range files {
		raw, err := ssh.ParseRawPrivateKey([]byte(read(t, file)))
		if err == nil {
			err = r.Add(agent.AddedKey{PrivateKey: raw})
		}
		signer, noSigner := ssh.NewSignerFromKey(raw)
		if err = errors.Join(err, noSigner); err != nil {
			t.Fatal(err)
		}
		r.with = signer.PublicKey()
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
			go func() { _ = agent.ServeAgent(r, c) }()
		}
	}()
	return socket
}

// The server takes the key, be it the second that it wants, and is not said to have refused the login.
func TestAnAgentThatDoesNotSign(t *testing.T) {
	second := sshdtest.NewKey(t, "ed25519")
	one := sshdtest.Start(t, sshdtest.Options{})
	two := sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: "%s\n" + read(t, second+".pub"), Config: []string{"AuthenticationMethods publickey,publickey"}})
	for name, c := range map[string]struct {
		server *sshdtest.Server
		holds  []string
	}{"one": {one, []string{one.KeyFile}}, "the second": {two, []string{two.KeyFile, second}}} {
		_, err := with(t, c.server, KeySource{Agent: refuses(t, c.holds...), Files: []string{second + ".none"}})
		if e := wantFault(t, err, fault.ErrAuth, true); !strings.Contains(e.Error(), "the ssh-agent does not sign") || !strings.Contains(e.Hint.String(), "ssh-add -c") {
			t.Errorf("%s: %v, hint %s", name, e, e.Hint)
		}
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
