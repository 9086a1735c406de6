// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"time"
)

// Certificate is what a site shows to prove who it is, and whether it does.
type Certificate struct {
	// From and Until are between which times it is valid.
	From, Until time.Time
	// Issuer is who signed it, in the certificate's own words.
	Issuer string
	// Name is nil if it is for the site's name, Trust if an authority that is trusted here vouches
	// for it now.
	Name, Trust error
	// SelfSigned: nobody else vouches for it.
	SelfSigned bool
}

// SiteCertificate asks the host of an https URL for its certificate, directly and not by way of an egress
// proxy. roots are trusted; nil: the system's. The error is that of the connection.
func SiteCertificate(ctx context.Context, site string, roots *x509.CertPool) (c Certificate, err error) {
	u, err := url.Parse(site)
	if err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	port := u.Port()
	if port == "" {
		port = "443"
	}
	// Nothing is sent to it, and what it shows is judged here.
	d := tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return c, err
	}
	defer func() { _ = conn.Close() }()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates // never empty on the client's side
	leaf := chain[0]
	c = Certificate{From: leaf.NotBefore, Until: leaf.NotAfter, Issuer: leaf.Issuer.String(), Name: leaf.VerifyHostname(u.Hostname()),
		SelfSigned: bytes.Equal(leaf.RawIssuer, leaf.RawSubject)}
	others := x509.NewCertPool()
	for _, cert := range chain[1:] {
		others.AddCert(cert)
	}
	_, c.Trust = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others})
	return c, nil
}
