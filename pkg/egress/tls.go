// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// tlsTimeout bounds a handshake.
const tlsTimeout = 10 * time.Second

// TLS is how the certificate of a TLS server is checked: its name is that under which it was dialled.
type TLS struct {
	// Roots returns the authorities to trust, and is called for each handshake: to parse the usual 140 takes 3 ms, and
	// their file may change. Nil, and where it returns nil: the system's.
	Roots func() *x509.CertPool

	proven atomic.Bool // it was accepted once
}

// Over puts TLS over c, or closes it.
func (t *TLS) Over(ctx context.Context, c net.Conn, host, addr string) (net.Conn, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	var roots *x509.CertPool
	if t.Roots != nil {
		roots = t.Roots()
	}
	conn := tls.Client(c, &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12,
		DynamicRecordSizingDisabled: true}) // the wire gathers what it writes
	err := conn.HandshakeContext(ctx)
	if err == nil {
		t.proven.Store(true)
		return conn, nil
	}
	_ = c.Close()
	e := tlsFault(err, host, addr, time.Since(begin))
	e.Permanent = e.Permanent && !t.proven.Load() // what was right once may become so again: a renewed certificate
	return nil, e
}

// tlsFault tells why a TLS handshake failed.
func tlsFault(err error, host, addr string, waited time.Duration) *fault.Error {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fault.NotTLS(addr, string(e.RecordHeader[:]))
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names := slices.Clone(e.Certificate.DNSNames)
		for _, ip := range e.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return fault.CertificateName(addr, host, names)
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired && e.Cert != nil {
		return fault.CertificateTime(addr, e.Cert.NotBefore, e.Cert.NotAfter)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.CertificateUntrusted(addr, e.Err)
	}
	if fault.IsTimeout(err) {
		return fault.TLSSilent(addr, waited)
	}
	return fault.TLSFailed(addr, err)
}

// Socket returns the connection at the bottom of c: TLS may lie over it, once to an egress proxy and
// once to the server, but its options, and what the kernel knows of it, are ours.
func Socket(c net.Conn) net.Conn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = over.NetConn()
	}
}
