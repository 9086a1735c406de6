// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// pki is a tenant's authority, and keys of a notebook: one without a certificate, and one that was revoked.
type pki struct {
	t                         testing.TB
	authority, notebook, lost ssh.Signer
}

func newPKI(t testing.TB) *pki {
	return &pki{t: t, authority: signer(t), notebook: signer(t), lost: signer(t)}
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return s
}

// certificate is one that may do all that a certificate can, for now unless change says otherwise.
func (p *pki) certificate(by, key ssh.Signer, principal string, change ...func(*ssh.Certificate)) ssh.Signer {
	p.t.Helper()
	hour := time.Now().Add(time.Hour)
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "notebook", ValidPrincipals: strings.Fields(principal),
		ValidAfter: uint64(hour.Add(-2 * time.Hour).Unix()), ValidBefore: uint64(hour.Unix()), Permissions: ssh.Permissions{
			CriticalOptions: map[string]string{}, Extensions: map[string]string{}}}
	for _, may := range []string{"permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc"} {
		cert.Extensions[may] = ""
	}
	for _, c := range change {
		c(cert)
	}
	must(p.t, cert.SignCert(rand.Reader, by))
	with, err := ssh.NewCertSigner(cert, key)
	must(p.t, err)
	return with
}

func (a *scene) loginAttacks() attacks {
	p, hour := a.pki, uint64(time.Hour/time.Second)
	as := func(user string, keys ...ssh.Signer) func() string {
		return func() string {
			c, err := a.login(user, keys...)
			if err == nil {
				_ = c.Close()
			}
			return answer(err)
		}
	}
	with := func(by, key ssh.Signer, principal string, change ...func(*ssh.Certificate)) func() string {
		return as(a.User, p.certificate(by, key, principal, change...))
	}
	const refused, failed = "unable to authenticate", "^Failed publickey for "
	var many []ssh.Signer
	for range 7 {
		many = append(many, signer(a.t))
	}
	return attacks{"Logging in", "The machine lets its other accounts log in by password; these are of tenants.", []attack{
		{"`ssh -o PreferredAuthentications=password,keyboard-interactive,hostbased`", a.stock("ssh", "", "-o", "PreferredAuthentications=password,keyboard-interactive,hostbased", "-o", "BatchMode=no", "-o", "HostbasedAuthentication=yes", "proxy"),
			"Permission denied (publickey)", `failure .*next methods="publickey"`, ""},
		{"a key that nobody knows", as(a.User, signer(a.t)), refused, failed + a.User, ""},
		{"seven of them", as(a.User, many...), "Too many authentication failures", "maximum authentication attempts exceeded for " + a.User, ""},
		{"another tenant's account, with the own key", func() string { return a.run("ssh", "", neighbour, "proxy") }, "Permission denied (publickey)", failed + neighbour, ""},
		{"root, with the tenant's key", as("root", a.key()), refused, failed + "root", ""},
		{"a key that the admin has taken out", a.withoutKey(as(a.User, a.key())), refused, failed + a.User, ""},
		{"a key that was revoked", as(a.User, p.lost), refused, "revoked by file", ""},
		{"a certificate of a stranger", with(signer(a.t), p.notebook, "team"), refused, "is not listed|not signed by|CA .* not|Failed publickey", ""},
		{"… by another principal", with(p.authority, p.notebook, "others"), refused, "does not contain an authorized principal|Certificate invalid: name is not a listed principal", ""},
		{"… by the account's name", with(p.authority, p.notebook, a.User), refused, "does not contain an authorized principal|Certificate invalid: name is not a listed principal", ""},
		{"… for nobody in particular", with(p.authority, p.notebook, ""), refused, "lacks principal list|does not contain", ""},
		{"… that is over", with(p.authority, p.notebook, "team", func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = c.ValidAfter-hour, c.ValidBefore-hour }), refused, "Certificate invalid: expired", ""},
		{"… that is not begun", with(p.authority, p.notebook, "team", func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = c.ValidAfter+2*hour, c.ValidBefore+2*hour }), refused, "Certificate invalid: not yet valid", ""},
		{"… of a revoked key", with(p.authority, p.lost, "team"), refused, "revoked by file", ""},
		{"… of a host", with(p.authority, p.notebook, "team", func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), refused, "Certificate invalid: not a user certificate|Failed publickey", ""},
		{"… for another account of the machine", as(neighbour, p.certificate(p.authority, p.notebook, "team")), refused, failed + neighbour, ""},
		{"the authority's own key", as(a.User, p.authority), refused, failed + a.User, ""},
		{"a key without its certificate", as(a.User, p.notebook), refused, failed + a.User, ""},
	}}
}

// withoutKey has the key list be what is rendered once the key is out of it.
func (a *scene) withoutKey(do func() string) func() string {
	return func() string {
		path := a.Layout.Etc + "/keys/" + a.User
		before := a.Proxy.Files.Text(path)
		lines := strings.SplitAfter(before, "\n")
		must(a.t, os.WriteFile(path, []byte(strings.Join(lines[1:], "")), 0o644))
		defer func() { must(a.t, os.WriteFile(path, []byte(before), 0o644)) }()
		return do()
	}
}
