// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// parseKey reads a private key, or says why not; public is known then where the text tells that
// much. It never lets a parser's error through that could quote its input.
func parseKey(text []byte, name, passphrase string) (signer ssh.Signer, public ssh.PublicKey, err error) {
	text = normalize(text)
	if err := foreign(text, name); err != nil {
		return nil, nil, err
	}
	if isPublic(text) {
		public, _, _, _, _ = ssh.ParseAuthorizedKey(text) // nil in the other forms
		return nil, public, fault.Config("give the private half, the file without \".pub\"", "%s is a public key", name)
	}
	block, _ := pem.Decode(text)
	if block != nil && block.Headers["DEK-Info"] == "" {
		if kind := kindOf(block.Bytes); kind != "" && kind != block.Type { // as OpenSSH wrote it in FIPS mode
			block.Type = kind
			text = pem.EncodeToMemory(block)
		}
	}
	switch {
	case block == nil && armour.Match(text), block != nil && cutOff(block):
		return nil, nil, notWhole(name)
	case block == nil:
		return nil, nil, fault.Config("give a private key as ssh-keygen writes it, from -----BEGIN to END-----", "%s is not a private key in a known format", name)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return parseSealed(block.Bytes, name, passphrase)
	case block.Type == "DSA PRIVATE KEY":
		return nil, nil, isDSA(name)
	case block.Type == "CERTIFICATE":
		return nil, nil, fault.Config("name the file of its private key, or make a key: ssh-keygen -t ed25519", "%s is a certificate of X.509 without a private key", name)
	case block.Type == "OPENSSH PRIVATE KEY":
		if public, err = outside(block.Bytes, name); err != nil {
			return nil, public, err
		}
	}
	signer, err = ssh.ParsePrivateKey(text)
	if sealed, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, sealed.PublicKey, locked(name)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
		if err != nil && block.Headers["DEK-Info"] != "" {
			signer, err = openPEM(block, passphrase)
		}
		if err != nil && errors.Is(err, x509.IncorrectPasswordError) {
			return nil, sealed.PublicKey, wrongPassphrase(name)
		}
		if err != nil { // of unknown cipher, or of more than 2048 rounds of bcrypt, which x/crypto refuses: 19 s
			return nil, sealed.PublicKey, cannotOpen(name, encryptAgain(err))
		}
	}
	if err != nil {
		signer, err = explicitCurve(block.Bytes)
	}
	if err != nil {
		if block.Type == "PRIVATE KEY" && kindOfPKCS8(block.Bytes).Equal(oidDSA) {
			return nil, nil, isDSA(name)
		}
		return nil, nil, fault.Config("ssh-keygen -y -f KEY tells whether it is whole; to make one: ssh-keygen -t ed25519",
			"%s is not a private key that can be used: it is damaged, or of another kind than Ed25519, RSA, and ECDSA with P-256, P-384 or P-521", name)
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
	if err != nil { // scrypt, or PBES1: for Ed25519 an ssh-keygen before 9.6 reads no PKCS#8 (seen with 9.2)
		return nil, nil, cannotOpen(name, "encrypt it otherwise: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out id_key")
	}
	return parseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: opened}), name, "")
}

func notWhole(name string) error {
	return fault.Config("give the private key whole, from -----BEGIN to END-----", "%s is not a whole private key: a part of it is missing, or damaged", name)
}

var errLocked = errors.New("protected by a passphrase")

func locked(name string) error {
	return fault.Config("pass {key_passphrase}", "%s is %w", name, errLocked)
}

func wrongPassphrase(name string) error {
	return fault.Config("check {key_passphrase}, and that the key is whole, with all of its lines", "the passphrase does not open %s", name)
}

func isDSA(name string) error {
	return fault.Config("make one, and have its public half put on the proxy: ssh-keygen -t ed25519",
		"%s is a DSA key, which is not supported: OpenSSH turned these off in 7.0 and has removed them since", name)
}

// encryptAgain is what to do with a key of OpenSSH's that x/crypto does not open.
func encryptAgain(why error) fault.Hint {
	const hint = "encrypt it again, as ssh-keygen does by itself: ssh-keygen -p -a 16 -f KEY"
	if strings.Contains(why.Error(), "rounds") {
		return hint + ", which takes as long as its file asks for; or make a new one: ssh-keygen -t ed25519"
	}
	return hint
}

func cannotOpen(name string, hint fault.Hint) error {
	return fault.Config(hint, "%s is encrypted in a way that cannot be opened here", name)
}
