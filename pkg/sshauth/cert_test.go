// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// certified is a server that lets in who shows a certificate of ca, and nobody else.
func certified(t testing.TB) (s *sshdtest.Server, ca string) {
	t.Helper()
	ca = sshdtest.NewKey(t, "ed25519")
	public := filepath.Join(t.TempDir(), "ca.pub")
	replace(t, public, read(t, ca+".pub"))
	return sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: "#", Config: []string{"TrustedUserCAKeys " + public}}), ca
}

func TestCertificates(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	s, ca := certified(t)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			leak.Check(t)
			key := sshdtest.NewKey(t, kind)
			want := fingerprintOfFile(t, key)
			sshdtest.Sign(t, ca, key, "-n", s.User, "-V", "-1h:+1w")
			cert := read(t, key+certSuffix)
			apart := file(t, read(t, key)) // without the certificate beside it
			elsewhere := file(t, cert)
			agent := sshdtest.StartAgent(t, key)
			for form, src := range map[string]KeySource{
				"beside the key":           {Key: key},
				"its path":                 {Key: key + certSuffix},
				"after the key":            {Key: read(t, key) + cert},
				"after the key, one line":  {Key: strings.ReplaceAll(read(t, key)+cert, "\n", " ")},
				"after the key, in a file": {Key: file(t, read(t, key)+"\n"+cert)},
				"CertificateFile":          {Key: apart, Certificates: []string{elsewhere}},
				"agent":                    {Agent: agent.Socket},
				"agent and file":           {Key: key + ".pub", Agent: agent.Socket},
				"CertificateFile, agent":   {Agent: sshdtest.StartAgent(t, apart).Socket, Certificates: []string{elsewhere}},
			} {
				keys, err := with(t, s, src)
				if err != nil {
					t.Errorf("%s: %v", form, err)
				} else if keys.ID() != want {
					t.Errorf("%s: ID %s, want that of the key, %s", form, keys.ID(), want)
				}
				compat.Row(t, "keys", "a key with a certificate: "+form, compat.Outcome(err))
			}
			if _, err := with(t, s, KeySource{Key: apart}); err == nil {
				t.Error("logged in without a certificate")
			}
		})
	}
}

// The end of a certificate is said before it comes, and when it has come.
func TestCertificatesExpire(t *testing.T) {
	leak.Check(t)
	s, ca := certified(t)
	key := sshdtest.NewKey(t, "ed25519")
	var log lines
	sign := func(validity string) { sshdtest.Sign(t, ca, key, "-n", s.User, "-V", validity) }
	sign("-2h:+1h")
	keys, err := with(t, s, KeySource{Key: key, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "expires soon"); n != 1 {
		t.Errorf("warned %d times: %s", n, log.String())
	}
	sign("-1w:+1w")
	if err := again(t, s, keys); err != nil || strings.Count(log.String(), "expires soon") != 1 {
		t.Errorf("a certificate for a week: %v, %s", err, log.String())
	}
	before := tries(s)
	sign("20200102030405Z:20210102030405Z")
	err = again(t, s, keys)
	e := wantFault(t, err, fault.ErrAuth, false) // it was good once and may be renewed
	if !strings.Contains(e.Error(), "expired at 2021-01-02 03:04:05 UTC") || e.Hint == "" {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	if tries(s) != before {
		t.Error("the server was asked about a key that it would not take")
	}
	_, err = with(t, s, KeySource{Key: key, Log: log.logger()})
	e = wantFault(t, err, fault.ErrAuth, true) // the key alone was tried
	if !strings.Contains(e.Error(), "expired at 2021-01-02 03:04:05 UTC") {
		t.Errorf("%v", e)
	}
	sign("20990102030405Z:forever")
	_, err = with(t, s, KeySource{Key: key})
	if e = wantFault(t, err, fault.ErrAuth, true); !strings.Contains(e.Error(), "not valid before 2099-01-02 03:04:05 UTC") {
		t.Errorf("%v", e)
	}
	sign("always:forever") // renewed at last
	if err := again(t, s, keys); err != nil {
		t.Error(err)
	}
}

// Files are read again at each login; what is half written does no harm.
func TestRotatedFiles(t *testing.T) {
	leak.Check(t)
	s, ca := certified(t)
	key, next := sshdtest.NewKey(t, "ed25519"), sshdtest.NewKey(t, "ecdsa")
	for _, k := range []string{key, next} {
		sshdtest.Sign(t, ca, k, "-n", s.User)
	}
	keys, err := with(t, s, KeySource{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	first := keys.ID()
	private, cert := read(t, key), read(t, key+certSuffix)
	for name, spoil := range map[string]func(){
		"half a key":          func() { replace(t, key, private[:len(private)/2]) },
		"no key":              func() { _ = os.Remove(key) },
		"another key":         func() { replace(t, key, read(t, next)) },
		"half a certificate":  func() { replace(t, key+certSuffix, cert[:len(cert)/2]) },
		"no certificate":      func() { _ = os.Remove(key + certSuffix) },
		"another certificate": func() { replace(t, key+certSuffix, read(t, next+certSuffix)) },
	} {
		spoil()
		if err := again(t, s, keys); err != nil || keys.ID() != first {
			t.Errorf("%s: %v", name, err)
		}
		replace(t, key, private)
		replace(t, key+certSuffix, cert)
	}
	replace(t, key, read(t, next))
	replace(t, key+certSuffix, read(t, next+certSuffix))
	if err := again(t, s, keys); err != nil || keys.ID() != fingerprintOfFile(t, next) {
		t.Errorf("rotated: %v, ID %s", err, keys.ID())
	}
}

func TestCertificatesThatAreNone(t *testing.T) {
	leak.Check(t)
	s, ca := certified(t)
	key, other := sshdtest.NewKey(t, "ed25519"), sshdtest.NewKey(t, "ed25519")
	sshdtest.Sign(t, ca, other, "-n", s.User)
	_, err := LoadKeys(read(t, key)+read(t, other+certSuffix), "")
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "another key") {
		t.Errorf("%v", e)
	}
	sshdtest.Sign(t, ca, key, "-h", "-n", s.User)
	_, err = LoadKeys(read(t, key)+read(t, key+certSuffix), "")
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "a host's") {
		t.Errorf("%v", e)
	}
	var log lines
	if _, err := NewKeys(t.Context(), KeySource{Key: key, Log: log.logger()}); err != nil || !strings.Contains(log.String(), "passed over") {
		t.Errorf("a useless file beside a key: %v, %s", err, log.String())
	}
}
