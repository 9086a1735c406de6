// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// parseKey reads a private key, or says why not; public is known then where the text tells that
// much. It never lets a parser's error through that could quote its input.
func parseKey(text []byte, name, passphrase string) (signer ssh.Signer, public ssh.PublicKey, err error) {
	text = normalize(text)
	if bytes.Contains(text, []byte(putty)) {
		return nil, nil, fault.Config("convert it: puttygen key.ppk -O private-openssh -o id_key", "%s is in PuTTY's format", name)
	}
	if block, _ := pem.Decode(text); block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		return parseSealed(block.Bytes, name, passphrase)
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return nil, public, fault.Config("give the file without \".pub\"", "%s is a public key", name)
	}
	signer, err = ssh.ParsePrivateKey(text)
	if sealed, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, sealed.PublicKey, locked(name)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
		if err != nil && errors.Is(err, x509.IncorrectPasswordError) {
			return nil, sealed.PublicKey, wrongPassphrase(name)
		}
		if err != nil { // of unknown cipher, or of more than 2048 rounds of bcrypt, which x/crypto refuses: 19 s
			return nil, sealed.PublicKey, cannotOpen(name)
		}
	}
	if err != nil {
		return nil, nil, fault.Config("give a private key as ssh-keygen writes it", "%s is not a private key in a known format", name)
	}
	return signer, signer.PublicKey(), nil
}

// parseSealed is parseKey for an encrypted PKCS#8 key, which does not tell its public half.
func parseSealed(der []byte, name, passphrase string) (ssh.Signer, ssh.PublicKey, error) {
	if passphrase == "" {
		return nil, nil, locked(name)
	}
	opened, err := openSealed(der, passphrase)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, nil, wrongPassphrase(name)
	}
	if err != nil {
		return nil, nil, cannotOpen(name)
	}
	return parseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: opened}), name, "")
}

func locked(name string) error {
	return fault.Config("pass {key_passphrase}", "%s is protected by a passphrase", name)
}

func wrongPassphrase(name string) error {
	return fault.Config("check {key_passphrase}", "the passphrase does not open %s", name)
}

func cannotOpen(name string) error {
	return fault.Config("check {key_passphrase}, or encrypt it again: ssh-keygen -p -a 16 -f KEY",
		"%s is encrypted in a way that cannot be opened here", name)
}
