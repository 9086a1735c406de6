// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// What people have that is a key, and none that can be used as it is: it is told by its name, with what makes one of it.

// foreign is the error for a key in the format of another program; nil: it is in none that is known.
func foreign(text []byte, name string) error {
	switch {
	case bytes.Contains(text, []byte(putty)):
		return fault.Config("convert it: puttygen key.ppk -O private-openssh -o id_key (on Windows, in PuTTYgen: Load, then Conversions > Export OpenSSH key)",
			"%s is in PuTTY's format", name)
	case bytes.Contains(text, []byte("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----")):
		return fault.Config("convert it: puttygen KEY -O private-openssh -o id_key (on Windows, in PuTTYgen: Conversions > Import key, then Export OpenSSH key)",
			"%s is in ssh.com's format", name)
	case bytes.HasPrefix(text, []byte("SSH PRIVATE KEY FILE FORMAT 1.")):
		return fault.Config("make another: ssh-keygen -t ed25519; its .pub line goes into ~/.ssh/authorized_keys on the proxy",
			"%s is a key of version 1 of SSH, which no server speaks any more", name)
	case bytes.Contains(text[:min(len(text), 64)], pkcs12):
		return fault.Config("take the key out of it: openssl pkcs12 -in FILE -nocerts -nodes -out id_key (if openssl says that RC2 is unsupported, add -legacy)", "%s is a PKCS#12 file", name)
	}
	return nil
}

// pkcs12 is how PKCS#12's outer SEQUENCE goes on (RFC 7292, section 4): version 3, and data of PKCS#7.
var pkcs12 = []byte{0x02, 0x01, 0x03, 0x30}

// isPublic reports whether a text is a public key: a .pub line, or as ssh-keygen -e or openssl -pubout write it.
func isPublic(text []byte) bool {
	if bytes.Contains(text, []byte("PUBLIC KEY-----")) || bytes.Contains(text, []byte("BEGIN SSH2 PUBLIC KEY")) {
		return !holdsKey(text)
	}
	_, _, _, _, err := ssh.ParseAuthorizedKey(text)
	return err == nil
}

// outside reads what of a key in OpenSSH's own format is never encrypted (PROTOCOL.key), and returns an error for kinds of
// keys that x/crypto does not sign with. Nil and no error: it is not understood.
func outside(der []byte, name string) (ssh.PublicKey, error) {
	der, _ = bytes.CutPrefix(der, []byte("openssh-key-v1\x00"))
	var key struct {
		Cipher, KDF, Options string
		Count                uint32
		Public               []byte
		Rest                 []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(der, &key) != nil {
		return nil, nil
	}
	public, err := ssh.ParsePublicKey(key.Public)
	switch {
	case err != nil:
		return nil, nil
	case strings.HasPrefix(public.Type(), "sk-"):
		return public, fault.Config("have an ssh-agent sign that this process can reach (ssh-add KEY, SSH_AUTH_SOCK), or take another key: ssh-keygen -t ed25519",
			"%s stands for a security key (FIDO), whose signatures only an ssh-agent makes here, and there is none that holds it", name)
	case public.Type() == "ssh-dss":
		return public, isDSA(name)
	}
	return public, nil
}

// cutOff reports whether a private key ends before it says it does: lines of it were lost.
func cutOff(block *pem.Block) bool {
	switch {
	case !strings.HasSuffix(block.Type, "PRIVATE KEY") || block.Headers["DEK-Info"] != "":
		return false
	case block.Type == "OPENSSH PRIVATE KEY":
		rest, is := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
		var key struct { // PROTOCOL.key of OpenSSH
			Cipher, KDF, Options string
			Count                uint32
			Public, Private      []byte
			Rest                 []byte `ssh:"rest"`
		}
		return is && ssh.Unmarshal(rest, &key) != nil
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" { // of which the first line may be lost, too
		_, err := asn1.Unmarshal(block.Bytes, &sealed{})
		return err != nil
	}
	_, err := asn1.Unmarshal(block.Bytes, &asn1.RawValue{})
	syntax, is := errors.AsType[asn1.SyntaxError](err)
	return is && syntax.Msg == "data truncated"
}

var oidDSA = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1} // RFC 3279, section 2.3.2

// kindOfPKCS8 is the algorithm of a PKCS#8 key, which need not be one that crypto/x509 knows; nil: it is no such key.
func kindOfPKCS8(der []byte) asn1.ObjectIdentifier {
	var key struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return nil
	}
	return key.Algorithm.Algorithm
}

// curveParameters are a curve that is written out (RFC 3279, section 2.3.5).
type curveParameters struct {
	Version int
	Field   struct {
		Kind  asn1.ObjectIdentifier
		Prime *big.Int
	}
	Curve     asn1.RawValue
	Generator []byte
	Order     *big.Int
	Cofactor  int `asn1:"optional"`
}

// explicitCurve reads a key of SEC 1, or of PKCS#8, whose curve is written out in place of its name (RFC 5480 forbids it), as LibreSSL does
// it for macOS' ssh-keygen -m PEM. It is one of NIST's if it has its field and its order.
func explicitCurve(der []byte) (ssh.Signer, error) {
	var key struct {
		Version    int
		Private    []byte
		Parameters curveParameters `asn1:"optional,explicit,tag:0"`
		Public     asn1.BitString  `asn1:"optional,explicit,tag:1"`
	}
	var pkcs8 struct {
		Version   int
		Algorithm struct {
			Algorithm  asn1.ObjectIdentifier
			Parameters curveParameters
		}
		Key []byte
	}
	if _, err := asn1.Unmarshal(der, &pkcs8); err == nil {
		der = pkcs8.Key
	}
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return nil, err
	}
	if key.Parameters.Order == nil {
		key.Parameters = pkcs8.Algorithm.Parameters
	}
	if key.Parameters.Order == nil {
		return nil, errors.New("no curve")
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		p := curve.Params()
		if p.P.Cmp(key.Parameters.Field.Prime) != 0 || p.N.Cmp(key.Parameters.Order) != 0 {
			continue
		}
		private := make([]byte, (p.BitSize+7)/8)
		if len(key.Private) > len(private) {
			break
		}
		copy(private[len(private)-len(key.Private):], key.Private)
		opened, err := ecdsa.ParseRawPrivateKey(curve, private)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromKey(opened)
	}
	return nil, errors.New("no known curve")
}

// openPEM opens an encrypted key of PEM (RFC 1421) that x/crypto does not: its curve is written out. A wrong passphrase leaves a padding
// that fits once in 256 times, and noise after it: that is x509.IncorrectPasswordError, too.
func openPEM(block *pem.Block, passphrase string) (ssh.Signer, error) {
	//lint:ignore SA1019 people have such keys
	der, err := x509.DecryptPEMBlock(block, []byte(passphrase))
	if err != nil {
		return nil, err
	}
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &whole); err != nil || len(rest) > 0 {
		return nil, x509.IncorrectPasswordError
	}
	return explicitCurve(der)
}
