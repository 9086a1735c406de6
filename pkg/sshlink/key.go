// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Keys are the private keys that a link may log in with. Formatting one shows nothing of them.
type Keys struct{ signers []ssh.Signer }

// String says how many keys there are, and nothing else of them.
func (k *Keys) String() string { return fmt.Sprintf("%d key(s)", len(k.signers)) }

// GoString is String, for %#v.
func (k *Keys) GoString() string { return k.String() }

// defaultKeys are the names that ssh(1) tries, the strongest first.
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// LoadKeys reads a private key in any format of ssh-keygen (OpenSSH, PKCS#1, PKCS#8, SEC 1):
// key is a path or the key's own text; passphrase opens an encrypted one. "" stands for
// ~/.ssh/id_ed25519, id_ecdsa and id_rsa, of which those that can be read are tried. Text
// survives what secret stores and editors do to it: CRLF, a missing last newline, "\n" written
// as two characters, everything in one line, indentation. Errors are of class fault.ErrConfig and
// never quote a key.
func LoadKeys(key, passphrase string) (*Keys, error) {
	if key == "" {
		return loadDefaultKeys(passphrase)
	}
	text, name := []byte(key), "key"
	if !strings.Contains(key, "PRIVATE KEY") {
		if strings.ContainsAny(key, "\r\n") || len(key) > 1024 {
			return nil, fault.Config("give the path of a private key or its whole text, from -----BEGIN to END-----",
				"key is neither a path nor the text of a private key")
		}
		b, err := os.ReadFile(expand(key))
		if err != nil {
			return nil, fault.Config("give the path of a private key that this process may read, or its text", "key cannot be read: %w", err)
		}
		text, name = b, fmt.Sprintf("key %q", key)
	}
	signer, err := parseKey(text, name, passphrase)
	if err != nil {
		return nil, err
	}
	return &Keys{signers: []ssh.Signer{signer}}, nil
}

func loadDefaultKeys(passphrase string) (*Keys, error) {
	var keys Keys
	var problems []string
	for _, base := range defaultKeys {
		path := "~/.ssh/" + base
		text, err := os.ReadFile(expand(path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			var signer ssh.Signer
			if signer, err = parseKey(text, path, passphrase); err == nil {
				keys.signers = append(keys.signers, signer)
				continue
			}
		}
		problems = append(problems, err.Error())
	}
	if len(keys.signers) > 0 {
		return &keys, nil
	}
	if len(problems) > 0 {
		return nil, fault.Config("pass key= (and key_passphrase=)", "no usable key: %s", strings.Join(problems, "; "))
	}
	return nil, fault.Config("pass key= (a path or the key's text), or make one: ssh-keygen -t ed25519",
		"no private key: none was given and there is no ~/.ssh/%s", strings.Join(defaultKeys, ", ~/.ssh/"))
}

// parseKey never lets a parser's error through that could quote its input.
func parseKey(text []byte, name, passphrase string) (ssh.Signer, error) {
	text = normalize(text)
	if bytes.Contains(text, []byte("PuTTY-User-Key-File")) {
		return nil, fault.Config("convert it: puttygen key.ppk -O private-openssh -o id_key", "%s is in PuTTY's format", name)
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return nil, fault.Config("give the file without \".pub\"", "%s is a public key", name)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, fault.Config("pass key_passphrase=", "%s is protected by a passphrase", name)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
		if err != nil && errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fault.Config("check key_passphrase=", "the passphrase does not open %s", name)
		}
	}
	if err != nil {
		return nil, fault.Config("give a private key as ssh-keygen writes it", "%s is not a private key in a known format", name)
	}
	return signer, nil
}

// normalize undoes what copying and secret stores do to the text of a key.
func normalize(text []byte) []byte {
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n").Replace(string(text))
	s = strings.TrimSpace(s)
	const dashes = "-----"
	if !strings.HasPrefix(s, dashes) {
		return []byte(s)
	}
	if !strings.Contains(s, "\n") { // BEGIN line, base64 and END line joined by spaces, or by nothing
		head, rest, _ := strings.Cut(s[len(dashes):], dashes)
		body, foot, _ := strings.Cut(rest, dashes)
		s = dashes + head + dashes + "\n" + strings.Join(strings.Fields(body), "\n") + "\n" + dashes + foot
	}
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i]) // indented, as within a function's text
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// ID is the SHA256 fingerprint of the first key, without its prefix: by it a client is known to be
// the same at its next login.
func (k *Keys) ID() string {
	return strings.TrimPrefix(ssh.FingerprintSHA256(k.signers[0].PublicKey()), "SHA256:")
}

// public returns the keys' lines for authorized_keys.
func (k *Keys) public() (lines []string) {
	for _, s := range k.signers {
		lines = append(lines, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))))
	}
	return lines
}
