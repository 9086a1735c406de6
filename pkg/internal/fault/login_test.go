// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// publicLine is what ssh-keygen writes for authorized_keys.
func publicLine(t *testing.T, args ...string) string {
	t.Helper()
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		missing.Skip(t, "no ssh-keygen is installed (Debian: openssh-client)")
	}
	path := filepath.Join(t.TempDir(), "key")
	if said, err := exec.Command(keygen, append([]string{"-q", "-N", "", "-C", "", "-f", path}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line))
}

// Of the causes that a refusal may have those come first that are likely for this key, and what is only true of other keys is not said.
func TestLikeliestCauseOfARefusalFirst(t *testing.T) {
	short, long := publicLine(t, "-t", "rsa", "-b", "2048"), publicLine(t, "-t", "rsa", "-b", "3072")
	curve, modern := publicLine(t, "-t", "ecdsa"), publicLine(t, "-t", "ed25519")
	for name, c := range map[string]struct {
		user   string
		public []string
		order  []string
		not    string
	}{
		"RSA of 2048 bits":         {"me", []string{short}, []string{"RequiredRSASize", "StrictModes", "from=", "AllowUsers"}, "FIPS"},
		"RSA of 3072 bits":         {"me", []string{long}, []string{"StrictModes", "from=", "AllowUsers", "RequiredRSASize"}, "FIPS"},
		"ecdsa":                    {"me", []string{curve}, []string{"StrictModes", "leave ecdsa out", "from=", "AllowUsers"}, "FIPS"},
		"ed25519":                  {"me", []string{modern}, []string{"StrictModes", "FIPS mode it has no ed25519", "from=", "AllowUsers"}, "RSA"},
		"an agent's":               {"me", []string{short, modern}, []string{"StrictModes", "RequiredRSASize", "FIPS", "from=", "AllowUsers"}, "ecdsa"},
		"root with ed25519":        {"root", []string{modern}, []string{"PermitRootLogin", "StrictModes", "FIPS", "from="}, "RSA"},
		"root with RSA, 2048 bits": {"root", []string{short}, []string{"PermitRootLogin", "RequiredRSASize", "StrictModes"}, "FIPS"},
	} {
		hint := LoginRefused(c.user, "203.0.113.7:22", "", c.public, errors.New("no")).Hint.String()
		_, said, _ := strings.Cut(hint, c.public[len(c.public)-1])
		said, _, _ = strings.Cut(said, "sshd -T")
		rest := said
		for _, cause := range c.order {
			found := false
			if _, rest, found = strings.Cut(rest, cause); !found {
				t.Errorf("%s: no %q, or too early: %s", name, cause, said)
				break
			}
		}
		if strings.Contains(said, c.not) {
			t.Errorf("%s: says %q: %s", name, c.not, said)
		}
	}
}
