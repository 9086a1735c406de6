// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

const (
	certSuffix = "-cert.pub"    // as ssh-keygen names the certificate beside a key
	certSoon   = 24 * time.Hour // before its end a certificate is warned of
	maxKeyFile = 1 << 20
)

// certLine finds an OpenSSH certificate in text, however it is separated from what precedes it.
var certLine = regexp.MustCompile(`[a-z0-9-]+-cert-v01@openssh\.com[ \t]+[A-Za-z0-9+/]+=*`)

// splitCert separates a certificate that follows the text of a key from it.
func splitCert(text []byte) (key, cert []byte) {
	at := certLine.FindIndex(text)
	if at == nil {
		return text, nil
	}
	if rest := text[at[1]:]; holdsKey(rest) { // it was put before the key
		return rest, text[at[0]:at[1]]
	}
	return text[:at[0]], text[at[0]:at[1]]
}

// parseCert reads a user certificate (PROTOCOL.certkeys of OpenSSH).
func parseCert(text []byte) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace(text))
	if err != nil {
		return nil, errors.New("not a certificate as ssh-keygen writes it")
	}
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return nil, errors.New("a public key, not a certificate")
	case cert.CertType != ssh.UserCert:
		return nil, errors.New("a host's certificate, not a user's")
	}
	return cert, nil
}

func readCert(path string) (*ssh.Certificate, error) {
	text, err := userfile.Read(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	return parseCert(text)
}

// certEnd is when a certificate expires; zero: never. (RFC 4251's uint64 may say more than a
// time.Time can hold; that is never, too.)
func certEnd(cert *ssh.Certificate) time.Time {
	if cert.ValidBefore > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(cert.ValidBefore), 0)
}

// certStands says why a certificate would be refused now, as far as can be told without the
// server; nil if nothing speaks against it.
func certStands(cert *ssh.Certificate, now time.Time) error {
	if end := certEnd(cert); !end.IsZero() && !now.Before(end) {
		return fmt.Errorf("expired at %s", moment(end))
	}
	if start := time.Unix(int64(min(cert.ValidAfter, 1<<40)), 0); now.Before(start) {
		return fmt.Errorf("is not valid before %s", moment(start))
	}
	return nil
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// certSigner signs with a certificate's key in its name; an RSA key never with SHA-1, of which a
// second try would cost one of the tries that a server grants.
func certSigner(cert *ssh.Certificate, key ssh.Signer) (ssh.Signer, error) {
	if as, ok := key.(ssh.AlgorithmSigner); ok && cert.Key.Type() == ssh.KeyAlgoRSA {
		sha2, err := ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
		if err != nil {
			return nil, err
		}
		key = sha2
	}
	return ssh.NewCertSigner(cert, key)
}

// base is the key of a certificate, or the key itself. An agent's keys are parsed first: they
// hold no more than their encoding.
func base(key ssh.PublicKey) (ssh.PublicKey, *ssh.Certificate, error) {
	parsed, err := ssh.ParsePublicKey(key.Marshal())
	if err != nil {
		return nil, nil, err
	}
	if cert, ok := parsed.(*ssh.Certificate); ok {
		return cert.Key, cert, nil
	}
	return parsed, nil, nil
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// fingerprintOf is a key's SHA256 fingerprint without its prefix; a certificate's is that of its
// key, which stays when the certificate is renewed.
func fingerprintOf(key ssh.PublicKey) string {
	if plain, _, err := base(key); err == nil {
		key = plain
	}
	return strings.TrimPrefix(ssh.FingerprintSHA256(key), "SHA256:")
}
