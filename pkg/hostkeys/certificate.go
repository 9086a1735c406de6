// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"errors"
	"net"
	"path"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// certFamily are the algorithms with which a host shows a certificate, never with SHA-1.
var certFamily = []string{
	ssh.CertAlgoED25519v01,
	ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// bare is an address as lines without a port mean it. ssh(1) looks a host on another port up under
// its name alone as well; here only authorities are: a line that trusts one for *.example.com is
// not meant for port 22 of it alone.
func bare(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, "22")
}

// authorities reports whether there is a @cert-authority line for addr.
func (h *Known) authorities(addr string) bool {
	return h.signs != nil && (len(wanted(h.signs, addr)) > 0 || len(wanted(h.signs, bare(addr))) > 0)
}

// authority reports whether key may sign certificates for addr.
func (h *Known) authority(key ssh.PublicKey, addr string) bool {
	return h.signs != nil && (h.signs(addr, &net.TCPAddr{}, key) == nil || h.signs(bare(addr), &net.TCPAddr{}, key) == nil)
}

func (h *Known) revoked(key ssh.PublicKey, addr string) bool {
	if h.known == nil {
		return false
	}
	_, revoked := errors.AsType[*knownhosts.RevokedError](h.known(addr, &net.TCPAddr{}, key))
	return revoked
}

// checkCert checks a host's certificate: that it is signed by an authority for this host, names it
// (its principals may be patterns: ssh-keygen(1), -n), and is valid now. Where it is not, its key
// may still be known by itself, as for ssh(1).
func (h *Known) checkCert(addr string, remote net.Addr, cert *ssh.Certificate) error {
	if h.revoked(cert.Key, addr) || h.revoked(cert.SignatureKey, addr) {
		return fault.HostKeyRevoked(addr, ssh.FingerprintSHA256(cert.Key))
	}
	why := error(nil)
	if h.authority(cert.SignatureKey, addr) {
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
