// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority signs certificates of TLS servers.
type Authority struct {
	// PEM is its own certificate.
	PEM string

	t    testing.TB
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate is one with its private key, in PEM.
type Certificate struct{ Chain, Key string }

// NewAuthority makes one that nobody trusts yet.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{pool: x509.NewCertPool(), t: t}
	a.key = a.newKey()
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "taipy-tunnel test"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	a.PEM = a.sign(a.cert, a.key)
	a.pool.AppendCertsFromPEM([]byte(a.PEM))
	return a
}

// Roots is for those who trust it alone.
func (a *Authority) Roots() *x509.CertPool { return a.pool }

// Issue makes a certificate for a name or an address, "" for none, good for so long from an hour ago.
func (a *Authority) Issue(name string, good time.Duration) Certificate {
	a.t.Helper()
	key := a.newKey()
	from := time.Now().Add(-time.Hour)
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.Add(good)}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else if name != "" {
		c.DNSNames = []string{name}
	}
	der, err := x509.MarshalECPrivateKey(key)
	a.must(err)
	return Certificate{a.sign(c, key), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))}
}

func (a *Authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) string {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	a.must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	return key
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
