// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// parseKey reads a private key, or says why not; public is known then where the text tells that
// much. It never lets a parser's error through that could quote its input.
func parseKey(text []byte, name, passphrase string) (signer ssh.Signer, public ssh.PublicKey, err error) {
	text = normalize(text)
	if bytes.Contains(text, []byte("PuTTY-User-Key-File")) {
		return nil, nil, fault.Config("convert it: puttygen key.ppk -O private-openssh -o id_key", "%s is in PuTTY's format", name)
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return nil, public, fault.Config("give the file without \".pub\"", "%s is a public key", name)
	}
	signer, err = ssh.ParsePrivateKey(text)
	if sealed, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, sealed.PublicKey, fault.Config("pass key_passphrase=", "%s is protected by a passphrase", name)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
		if err != nil && errors.Is(err, x509.IncorrectPasswordError) {
			return nil, sealed.PublicKey, fault.Config("check key_passphrase=", "the passphrase does not open %s", name)
		}
		if err != nil { // of unknown cipher, or of more than 2048 rounds of bcrypt, which x/crypto refuses: 19 s
			return nil, sealed.PublicKey, fault.Config("check key_passphrase=, or encrypt it anew: ssh-keygen -p -a 16 -f KEY",
				"%s is encrypted in a way that cannot be opened here", name)
		}
	}
	if err != nil {
		return nil, nil, fault.Config("give a private key as ssh-keygen writes it", "%s is not a private key in a known format", name)
	}
	return signer, signer.PublicKey(), nil
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
