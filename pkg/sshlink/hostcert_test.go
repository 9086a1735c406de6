// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

func publicKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A host's certificate is as good as its key, if it is signed by an authority for this host.
func TestHostCertificates(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	path := sshdtest.NewKey(t, "ecdsa")
	ca, stranger := publicKey(t, path), newSigner(t).PublicKey()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		s := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{kind}, HostCA: path, HostSign: []string{"-n", "proxy,127.0.0.1"}})
		host := fmt.Sprintf("[%s]:%d", s.Host, s.Port)
		for form, c := range map[string]struct {
			text, says string // "": trusted
		}{
			"host and port":         {line("@cert-authority "+host, ca), ""},
			"host":                  {line("@cert-authority "+s.Host, ca), ""},
			"pattern":               {line("@cert-authority 127.*", ca), ""},
			"any":                   {line("@cert-authority *", ca), ""},
			"one of two":            {line("@cert-authority *", stranger) + "\n" + line("@cert-authority *", ca), ""},
			"besides another key":   {line(host, stranger) + "\n" + line("@cert-authority *", ca), ""},
			"the key itself":        {line(host, s.HostKey), ""},
			"key, other authority":  {line(host, s.HostKey) + "\n" + line("@cert-authority *", stranger), ""},
			"other authority":       {line("@cert-authority *", stranger), "is not known"},
			"of another host":       {line("@cert-authority other", ca), "is not known"},
			"excluded":              {line("@cert-authority *,!127.0.0.1", ca), "is not known"},
			"authority as a key":    {line("127.0.0.1,"+host, ca), "no key of the known kind"},
			"key as an authority":   {line("@cert-authority *", s.HostKey), "is not known"},
			"revoked authority":     {line("@cert-authority *", ca) + "\n" + line("@revoked *", ca), "revoked"},
			"revoked key":           {line("@cert-authority *", ca) + "\n" + line("@revoked *", s.HostKey), "revoked"},
			"somebody else revoked": {line("@cert-authority *", ca) + "\n" + line("@revoked *", stranger), ""},
		} {
			if form == "authority as a key" && kind == "ecdsa" {
				c.says = "NOT THE KNOWN ONE"
			}
			t.Run(kind+"/"+form, func(t *testing.T) {
				leak.Check(t)
				err := trusting(t, s, c.text)
				if c.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := wantFault(t, err, fault.ErrHostKey, true); !strings.Contains(e.Error(), c.says) {
					t.Errorf("%q, want %q", e.Error(), c.says)
				}
			})
		}
	}
}

// What a certificate says of itself holds: for whom, from when and until when.
func TestHostCertificatesThatAreNotValid(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	path := sshdtest.NewKey(t, "ed25519")
	ca := publicKey(t, path)
	for form, c := range map[string]struct {
		sign []string
		says string
	}{
		"another name": {[]string{"-n", "other"}, "principal"},
		"expired":      {[]string{"-n", "127.0.0.1", "-V", "20200101:20210101"}, "expired"},
		"not yet":      {[]string{"-n", "127.0.0.1", "-V", "20990101:forever"}, "not yet valid"},
		"option":       {[]string{"-n", "127.0.0.1", "-O", "critical:what@example.com=x"}, "critical option"},
		"pattern":      {[]string{"-n", "127.0.0.?"}, ""},
		"any":          {nil, ""},
	} {
		t.Run(form, func(t *testing.T) {
			leak.Check(t)
			s := sshdtest.Start(t, sshdtest.Options{HostCA: path, HostSign: c.sign})
			err := trusting(t, s, line("@cert-authority *", ca))
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := wantFault(t, err, fault.ErrHostKey, true); !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Error(), "certificate") {
				t.Errorf("%v, want %q", e, c.says)
			}
			if err := trusting(t, s, line("@cert-authority *", ca)+"\n"+line(fmt.Sprintf("[%s]:%d", s.Host, s.Port), s.HostKey)); err != nil {
				t.Errorf("its key is known all the same: %v", err)
			}
		})
	}
}

// An alias is looked up in place of the address, and is what a certificate must name.
func TestHostKeyAlias(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	path := sshdtest.NewKey(t, "ed25519")
	s := sshdtest.Start(t, sshdtest.Options{HostCA: path, HostSign: []string{"-n", "alias"}})
	dial := func(alias, text string) error {
		known, err := hostkeys.New(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg := config(t, s)
		cfg.HostKeys, cfg.HostKeyAlias = known, alias
		l, err := Dial(within(t, 20*time.Second), cfg)
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	for alias, good := range map[string]bool{"Alias": true, "other": false, "": false} {
		for _, text := range []string{line("alias", s.HostKey), line("@cert-authority alias", publicKey(t, path))} {
			if err := dial(alias, text); (err == nil) != good {
				t.Errorf("alias %q, %.20q: %v", alias, text, err)
			}
		}
	}
}
