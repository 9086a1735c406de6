// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ErrNoSecret is returned by Secret for a key whose signatures differ each time: an ECDSA key in an
// agent, or a security key, which asks its owner besides.
var ErrNoSecret = errors.New("the key makes no signature that can be repeated")

// Secret derives 32 bytes from the private key that logged in last: the same ones for a label in
// each process that has the key, in a file or in an agent, and nothing that anybody without it could
// know. It is HKDF-SHA256 (RFC 5869) of a signature of the label, which is deterministic for Ed25519
// (RFC 8032), for RSA with PKCS #1 v1.5 (RFC 8017, section 8.2), and, where the key itself is at
// hand, for ECDSA (RFC 6979). What is signed cannot be taken for a login, whose data begin with the
// length of a session's identifier (RFC 4252, section 7).
func (k *Keys) Secret(ctx context.Context, label string) ([]byte, error) {
	l, err := k.Login(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	id := k.ID()
	for _, o := range l.offers {
		if fingerprintOf(o.signer.PublicKey()) == id {
			return secretOf(o.signer, label)
		}
	}
	return nil, errors.New("the key that logged in is not there any more")
}

func secretOf(signer ssh.Signer, label string) ([]byte, error) {
	key, _, err := base(signer.PublicKey())
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(key.Type(), "sk-") {
		return nil, ErrNoSecret
	}
	text := []byte("taipy-tunnel secret v1\x00" + label)
	sign := func() (*ssh.Signature, error) {
		if key.Type() == ssh.KeyAlgoRSA {
			if s, ok := signer.(ssh.AlgorithmSigner); ok {
				return s.SignWithAlgorithm(nil, text, ssh.KeyAlgoRSASHA512)
			}
		}
		return signer.Sign(nil, text) // no randomness: of an ECDSA key as RFC 6979 has it
	}
	first, err := sign()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(key.Type(), "ecdsa-") { // an agent's key draws its own randomness
		if again, err := sign(); err != nil || !bytes.Equal(first.Blob, again.Blob) {
			return nil, ErrNoSecret
		}
	}
	return hkdf.Key(sha256.New, first.Blob, nil, label, sha256.Size)
}
