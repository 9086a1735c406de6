// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// NewKeyPair makes an Ed25519 key: the private half as ssh-keygen writes it, without a passphrase,
// and the public half as a line of authorized_keys. comment, which both have, is one line.
func NewKeyPair(comment string) (private []byte, public string, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, "", err
	}
	half, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, "", err
	}
	return pem.EncodeToMemory(block), authorizedKey(half) + " " + comment, nil
}

// PublicKey checks the text of a private key that nobody will be there to unlock, and returns its
// public half as a line of authorized_keys.
func PublicKey(private string) (string, error) {
	if !isKeyText([]byte(private)) {
		return "", fault.Config("give the whole text of a private key, from -----BEGIN to END-----", "key is not the text of a private key")
	}
	text, _ := splitCert(unwrap([]byte(private)))
	_, public, err := parseKey(text, "key", "")
	if errors.Is(err, errLocked) {
		return "", fault.Config("give one without a passphrase, made for this alone: ssh-keygen -t ed25519 -N '' -f KEY", "key is protected by a passphrase")
	}
	if err != nil {
		return "", err
	}
	return authorizedKey(public), nil
}

func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
