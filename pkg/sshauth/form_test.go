// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// mangled are the forms in which secret stores and editors hand a key's text on.
func mangled(text string) map[string]string {
	flat := strings.TrimSpace(text)
	return map[string]string{
		"as it is":                                     text,
		"with CRLF":                                    strings.ReplaceAll(text, "\n", "\r\n"),
		"with CR":                                      strings.ReplaceAll(text, "\n", "\r"),
		"without its last newline":                     flat,
		`with \n for newlines`:                         strings.ReplaceAll(text, "\n", `\n`),
		`with \r\n for newlines`:                       strings.ReplaceAll(text, "\n", `\r\n`),
		`with \n for newlines, and at both ends`:       `\n` + strings.ReplaceAll(flat, "\n", `\n`) + `\n`,
		"with spaces for newlines":                     strings.ReplaceAll(flat, "\n", " "),
		"with tabs for newlines":                       strings.ReplaceAll(flat, "\n", "\t"),
		"with nothing for newlines":                    strings.ReplaceAll(flat, "\n", ""),
		"between blank lines":                          "\n\n  \n" + text + "\n \n",
		"indented":                                     "\n    " + strings.ReplaceAll(flat, "\n", "\n    ") + "\n    ",
		"with spaces at line ends":                     strings.ReplaceAll(text, "\n", "  \n"),
		"in quotes":                                    `"` + text + `"`,
		`in quotes, with \n for newlines`:              `'` + strings.ReplaceAll(flat, "\n", `\n`) + `'`,
		"with a byte order mark":                       "\ufeff" + text,
		"as base64":                                    base64.StdEncoding.EncodeToString([]byte(text)),
		"as base64 for URLs":                           base64.RawURLEncoding.EncodeToString([]byte(text)),
		"as base64, wrapped":                           regexp.MustCompile(`.{1,76}`).ReplaceAllString(base64.StdEncoding.EncodeToString([]byte(text)), "$0\n"),
		"without its BEGIN and END lines":              body(flat),
		"without its BEGIN and END lines, on one line": strings.ReplaceAll(body(flat), "\n", ""),
		"without its BEGIN line":                       flat[strings.Index(flat, "\n")+1:],
		"without its END line":                         flat[:strings.LastIndex(flat, "\n")],
	}
}

// body is a key without its BEGIN and END lines.
func body(flat string) string {
	return flat[strings.Index(flat, "\n")+1 : strings.LastIndex(flat, "\n")]
}

// UTF-16, as PowerShell's > and Notepad write it.
func TestUTF16(t *testing.T) {
	for name, order := range map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian} {
		text := order.AppendUint16(nil, 0xfeff)
		for _, r := range openSSH(t, newKey(t, "ed25519"), "") {
			text = order.AppendUint16(text, uint16(r))
		}
		_, err := LoadKeys(file(t, string(text)), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		compat.Row(t, "keys", "a file in UTF-16 (PowerShell's >, Notepad)", compat.Outcome(err))
	}
}

// An encrypted PKCS#8 key, as ssh-keygen and openssl write it, in the forms of others.
func TestSealedKeys(t *testing.T) {
	for _, args := range [][]string{
		{"ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", passphrase, "-f"},
		{"ssh-keygen", "-q", "-t", "ecdsa", "-m", "PKCS8", "-N", passphrase, "-f"},
		{"openssl", "genpkey", "-algorithm", "ED25519", "-aes-256-cbc", "-pass", "pass:" + passphrase, "-out"},
		{"openssl", "genpkey", "-algorithm", "ED25519", "-des3", "-pass", "pass:" + passphrase, "-out"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if said, err := exec.Command(args[0], append(args[1:], path)...).CombinedOutput(); err != nil {
			missing.Skip(t, "%s: %v\n%s", args[0], err, said)
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte("BEGIN ENCRYPTED PRIVATE KEY")) {
			t.Fatalf("%s wrote another format, %v: %.40s", args, err, text)
		}
		for form, key := range mangled(string(text)) {
			if _, err := LoadKeys(key, passphrase); err != nil {
				t.Errorf("%s: %s: %v", args[:4], form, err)
			}
			for wrong, says := range map[string]string{"": "protected by a passphrase", "wrong": "does not open"} {
				if _, err := LoadKeys(key, wrong); err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %s: %v, want %q", args[:4], form, err, says)
				}
			}
		}
	}
}

// What is around a key is taken off in a few passes: of a file of quotes each pair took one of its own, an hour in all.
func TestManyWraps(t *testing.T) {
	began := time.Now()
	for _, key := range []string{strings.Repeat(`"`, maxKeyFile-1), strings.Repeat(`" `, 100_000) + strings.Repeat(` "`, 100_000)} {
		if _, err := LoadKeys(file(t, key), ""); err == nil || !strings.Contains(err.Error(), "not a private key") {
			t.Errorf("%v", err)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	good := openSSH(t, newKey(t, "ed25519"), "")
	for _, quotes := range []string{`"`, `"'`, `"'"`} {
		mirrored := []byte(quotes)
		slices.Reverse(mirrored)
		if _, err := LoadKeys(quotes+good+string(mirrored), ""); err != nil {
			t.Errorf("%s: %v", quotes, err)
		}
	}
}

// Whatever a key's text goes through, reading it neither panics nor quotes it; what was put
// right once stays as it is.
func FuzzNormalize(f *testing.F) {
	good := openSSH(f, newKey(f, "ed25519"), "")
	for _, seed := range mangled(good) {
		f.Add([]byte(seed))
	}
	f.Add([]byte("\xff\xfeS\x00S\x00"))
	f.Add([]byte("----------"))
	f.Add([]byte("-----BEGIN"))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(good))))))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY----- Proc-Type: 4,ENCRYPTED DEK-Info: DES-EDE3-CBC,0011223344556677 AAAA -----END RSA PRIVATE KEY-----"))
	f.Add([]byte("S\x00S\x00"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----b3BlbnNzaC1rZXktdjEA0"))
	f.Add([]byte("0-----BEGIN PRIVATE KEY-----b3BlbnNzaC1rZXktdjEA"))
	f.Add([]byte("LS0tLS1CRUdJTiBBIFBSSVZBVEUgS0VZLS0tLS0KYjNCbGJuTnphQzFyWlhrdGRqRUF0C00tLS0tLUVORCBCIFBSSVZBVEUgS0VZLS0tLS0"))
	f.Add([]byte(`-----\\n-----`))
	f.Add(bytes.Repeat([]byte(`"`), 2*maxWraps+2))
	f.Fuzz(func(t *testing.T, text []byte) {
		once := normalize(text)
		if twice := normalize(once); !bytes.Equal(once, twice) {
			t.Errorf("%q becomes %q, then %q", text, once, twice)
		}
		if _, _, err := parseKey(text, "key", ""); err != nil && len(err.Error()) > 160 {
			t.Errorf("an error of %d characters: %v", len(err.Error()), err)
		}
	})
}
