// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// newKey is a key that no machine has.
func newKey(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func line(host string, key ssh.PublicKey) string {
	return host + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// No text makes the reader panic, and what it accepts never trusts a key that is not in it.
func FuzzKnownHosts(f *testing.F) {
	key := newKey(f)
	for _, seed := range []string{
		line("proxy", key), line("[127.0.0.1]:22", key), line("@revoked *", key), line("@cert-authority *", key),
		line(knownhosts.HashHostname("proxy"), key), "|1|x|y ssh-ed25519 AAAA", "256 SHA256:" + strings.Repeat("A", 43) + " me (ED25519)", "# comment", "\x00", "* * *", "!, ssh-rsa AAAA",
	} {
		f.Add([]byte(seed))
	}
	stranger := newKey(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := given(string(text), "fuzz")
		if err != nil && !errors.Is(err, fault.ErrConfig) {
			t.Errorf("class of %v", err)
		}
		for _, h := range []*Known{h, readLines(string(text), "fuzz")} {
			if h == nil {
				continue
			}
			_ = h.Offers("proxy:22")
			if err := h.Check("proxy:22", nothing{}, stranger); !errors.Is(err, fault.ErrHostKey) {
				t.Errorf("trusts a key that it cannot know: %v", err)
			}
		}
	})
}

// nothing is an address that nobody has.
type nothing struct{}

func (nothing) Network() string { return "tcp" }
func (nothing) String() string  { return "192.0.2.1:22" }
