// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshlink

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/hostkeys"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

var allKinds = sshdtest.Options{HostKeys: []string{"ed25519", "ecdsa", "rsa"}}

// trusting dials s with host_key=text.
func trusting(t testing.TB, s *sshdtest.Server, text string) error {
	t.Helper()
	known, err := hostkeys.New(text)
	if err != nil {
		return err
	}
	cfg := config(t, s)
	cfg.HostKeys = known
	l, err := Dial(within(t, 20*time.Second), cfg)
	if err == nil {
		err = l.Close()
	}
	return err
}

func line(host string, key ssh.PublicKey) string {
	return host + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever is known of a server, and whichever of its keys, is enough.
func TestKnownHostKeysAreTrusted(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, allKinds)
	stranger := newSigner(t).PublicKey()
	host := fmt.Sprintf("[%s]:%d", s.Host, s.Port)
	if err := trusting(t, s, line(host, stranger)+"\n"+line(host, s.HostKey)); err != nil {
		t.Errorf("one of two of its kind: %v", err)
	}
	for _, key := range s.HostKeys {
		pin := ssh.FingerprintSHA256(key)
		for form, text := range map[string]string{
			"fingerprint":            pin,
			"fingerprint and =":      pin + "=",
			"several fingerprints":   ssh.FingerprintSHA256(stranger) + ", " + pin,
			"spaces around":          "  " + pin + "\n",
			"line":                   line(host, key),
			"line with a comment":    line(host, key) + " root@proxy",
			"several names":          line("proxy,"+host, key),
			"pattern":                line(fmt.Sprintf("[127.0.0.*]:%d", s.Port), key),
			"several lines":          "# a comment\r\n\r\n" + line("other", stranger) + "\r\n" + line(host, key) + "\r\n",
			"hashed name":            line(knownhosts.HashHostname(host), key),
			"file":                   file(t, line(host, key)+"\n"),
			"file without a newline": file(t, "# a comment\n"+line(knownhosts.HashHostname(host), key)),
			"another key revoked":    line("@revoked *", stranger) + "\n" + line(host, key),
		} {
			t.Run(key.Type()+"/"+form, func(t *testing.T) {
				leak.Check(t)
				if err := trusting(t, s, text); err != nil {
					t.Errorf("host_key=%q: %v", text, err)
				}
			})
		}
	}
}

// The names under which a server of one kind of key is known do not keep others out.
func TestServersWithOneKindOfKey(t *testing.T) {
	leak.Check(t)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			leak.Check(t)
			s := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{kind}})
			known, err := hostkeys.New(s.Fingerprint())
			if err != nil {
				t.Fatal(err)
			}
			cfg := config(t, s)
			cfg.HostKeys = known
			for range 2 {
				l, err := Dial(within(t, 20*time.Second), cfg)
				if err != nil {
					t.Fatal(err)
				}
				_ = l.Close()
			}
			if n := len(known.Offers(s.Addr())); n != 1 {
				t.Errorf("%d kinds are still tried in turn, although the pinned key was seen", n)
			}
		})
	}
}

func TestOtherHostKeysAreNotTrusted(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir()) // no known_hosts
	s := sshdtest.Start(t, sshdtest.Options{})
	host, stranger := fmt.Sprintf("[%s]:%d", s.Host, s.Port), newSigner(t).PublicKey()
	rsa := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{"rsa"}}).HostKey
	seen := s.Fingerprint()
	for form, c := range map[string]struct{ text, says, hint string }{
		"other fingerprint":         {ssh.FingerprintSHA256(stranger), "NOT THE KNOWN ONE", seen},
		"one that is mistaken":      {ssh.FingerprintSHA256(stranger), "or the known one was copied wrong or is another machine's", seen},
		"fingerprint of a kind":     {ssh.FingerprintSHA256(rsa), "NOT THE KNOWN ONE", seen},
		"other line":                {line(host, stranger), "NOT THE KNOWN ONE", seen},
		"other hashed line":         {line(knownhosts.HashHostname(host), stranger), "NOT THE KNOWN ONE", seen},
		"line of another host":      {line("other", s.HostKey), "is not known; it shows", seen},
		"... with this host's key":  {"# a comment\n" + line("other", s.HostKey), "; line 2 of host_key has it for another name or port", seen},
		"line of the default port":  {line(s.Host, s.HostKey), "; line 1 of host_key has it for another name or port", seen},
		"line of an excluded host":  {line("!"+host+",*", s.HostKey), "is not known", seen},
		"line of another kind":      {line(host, rsa), "no key of the known kind", "present host key"},
		"revoked":                   {line("@revoked "+host, s.HostKey), "revoked", "new key"},
		"revoked and known":         {line(host, s.HostKey) + "\n" + line("@revoked *", s.HostKey), "revoked", "new key"},
		"authority of certificates": {line("@cert-authority *", s.HostKey), "", ""},
		"nothing is known":          {"", "is not known", seen},
	} {
		t.Run(form, func(t *testing.T) {
			leak.Check(t)
			e := wantFault(t, trusting(t, s, c.text), fault.ErrHostKey, true)
			if !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Hint.String(), c.hint) {
				t.Errorf("%q, hint %q; want %q, %q", e.Error(), e.Hint, c.says, c.hint)
			}
			if strings.Contains(s.Log(), "Accepted") {
				t.Error("it logged in")
			}
		})
	}
}

// Of which kind the known key is, a fingerprint does not tell: all that the server shows are named, to be compared with it.
func TestAllKeysAreShownBesideAFingerprint(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	s := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{"ed25519", "ecdsa", "rsa"}})
	e := wantFault(t, trusting(t, s, ssh.FingerprintSHA256(newSigner(t).PublicKey())), fault.ErrHostKey, true)
	for _, key := range s.HostKeys {
		if shown := key.Type() + " " + ssh.FingerprintSHA256(key); !strings.Contains(e.Error(), shown) {
			t.Errorf("%s is not in %q", shown, e.Error())
		}
	}
}

// The files of ssh(1) serve, whatever else is in them.
func TestDefaultKnownHosts(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	public := string(ssh.MarshalAuthorizedKey(s.HostKey))
	text := "not a line\nhost ssh-dss AAAA\n@trusted * " + public + "|1|x|y " + public + "[host " + public + s.KnownHostsLine()
	if err := os.WriteFile(filepath.Join(home, ".ssh", "known_hosts"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trusting(t, s, ""); err != nil {
		t.Errorf("default: %v", err)
	}
	none, err := hostkeys.New("", []string{}...) // UserKnownHostsFile none
	if err == nil {
		err = none.Check(s.Addr(), &net.TCPAddr{}, s.HostKey)
	}
	wantFault(t, err, fault.ErrHostKey, true)
	if err := trusting(t, s, "~/.ssh/known_hosts"); err != nil {
		t.Errorf("named by the owner, with lines that cannot be parsed: %v", err)
	}
}
