// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// An encrypted PKCS#8 key (RFC 5958, section 3), as ssh-keygen -m PKCS8 and openssl write it: PBES2 with
// PBKDF2 (RFC 8018, section 6.2). x/crypto and crypto/x509 read only keys that are not encrypted.

const maxIterations = 1 << 22 // of PBKDF2, about 2 s; ssh-keygen makes 2048

type sealed struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// prfs are the hashes of PBKDF2's HMAC, by their identifiers.
var prfs = map[string]func() hash.Hash{
	"":                    sha1.New, // RFC 8018, appendix A.2: the default
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// ciphers are those of PBES2, all in CBC mode, with the length of their keys in bytes.
var ciphers = map[string]struct {
	size int
	open func([]byte) (cipher.Block, error)
}{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

var errSealed = errors.New("encrypted in a way that is not known here")

// isSealed reports whether der is an encrypted PKCS#8 key.
func isSealed(der []byte) bool {
	var s sealed
	rest, err := asn1.Unmarshal(der, &s)
	return err == nil && len(rest) == 0 && s.Algorithm.Algorithm.Equal(oidPBES2)
}

// openSealed decrypts a PKCS#8 key. The error is x509.IncorrectPasswordError or errSealed.
func openSealed(der []byte, passphrase string) ([]byte, error) {
	var (
		s      sealed
		scheme struct{ KDF, Cipher pkix.AlgorithmIdentifier }
		kdf    struct {
			Salt       []byte
			Iterations int
			Length     int                      `asn1:"optional"`
			PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
		}
		iv []byte
	)
	for _, part := range []struct {
		from func() []byte
		into any
	}{
		{func() []byte { return der }, &s},
		{func() []byte { return s.Algorithm.Parameters.FullBytes }, &scheme},
		{func() []byte { return scheme.KDF.Parameters.FullBytes }, &kdf},
		{func() []byte { return scheme.Cipher.Parameters.FullBytes }, &iv},
	} {
		if _, err := asn1.Unmarshal(part.from(), part.into); err != nil {
			return nil, errSealed
		}
	}
	c, known := ciphers[scheme.Cipher.Algorithm.String()]
	prf, counted := prfs[kdf.PRF.Algorithm.String()]
	if !known || !counted || !scheme.KDF.Algorithm.Equal(oidPBKDF2) || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errSealed
	}
	key, err := pbkdf2.Key(prf, passphrase, kdf.Salt, kdf.Iterations, c.size)
	if err != nil {
		return nil, errSealed
	}
	block, err := c.open(key)
	if err != nil || len(iv) != block.BlockSize() || len(s.Data) == 0 || len(s.Data)%block.BlockSize() != 0 {
		return nil, errSealed
	}
	plain := make([]byte, len(s.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, s.Data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > block.BlockSize() {
		return nil, x509.IncorrectPasswordError
	}
	plain = plain[:len(plain)-padding]
	if kindOfPKCS8(plain) == nil {
		return nil, x509.IncorrectPasswordError
	}
	return plain, nil
}
