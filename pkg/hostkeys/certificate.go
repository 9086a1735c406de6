// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"errors"
	"net"
	"path"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// certFamily are the algorithms with which a host shows a certificate, never with SHA-1.
var certFamily = []string{
	ssh.CertAlgoED25519v01,
	ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// bare22 is an address as lines without a port mean it. ssh(1) looks a host on another port up under
// its name alone as well; here only authorities are: a line that trusts one for *.example.com is
// not meant for port 22 of it alone.
func bare22(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, "22")
}

// authorities are the keys that may sign certificates for addr.
func (h *Known) authorities(addr string) []ssh.PublicKey {
	keys := h.keys(addr, authority)
	if at22 := bare22(addr); at22 != addr {
		keys = append(keys, h.keys(at22, authority)...)
	}
	return keys
}

// checkCert checks a host's certificate: that it is signed by an authority for this host, names it
// (its principals may be patterns: ssh-keygen(1), -n), and is valid now. Where it is not, its key
// may still be known by itself, as for ssh(1).
func (h *Known) checkCert(addr string, remote net.Addr, cert *ssh.Certificate) error {
	if h.isRevoked(cert.Key) || h.isRevoked(cert.SignatureKey) {
		return fault.HostKeyRevoked(addr, ssh.FingerprintSHA256(cert.Key))
	}
	why := error(nil)
	if has(h.authorities(addr), cert.SignatureKey) {
		if why = h.certError(addr, cert); why == nil {
			return nil
		}
	}
	err := h.Check(addr, remote, cert.Key)
	if err != nil && why != nil {
		return fault.HostCertificate(addr, ssh.FingerprintSHA256(cert.SignatureKey), why)
	}
	return err
}

func (h *Known) certError(addr string, cert *ssh.Certificate) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	for _, p := range cert.ValidPrincipals {
		if fits, err := path.Match(p, host); fits && err == nil {
			host = p
			break
		}
	}
	if cert.CertType != ssh.HostCert {
		return errors.New("it is a user's, not a host's")
	}
	return (&ssh.CertChecker{}).CheckCert(host, cert)
}
