// SPDX-License-Identifier: Apache-2.0

// Package secrettest is for tests: it makes secrets in the forms in which people have them, and finds them in
// what people are shown.
//
//	for form, secret := range secrettest.Forms(t) {
//		_, err := Open(Config{Name: secret})
//		if part := secrettest.Echo(secret, err.Error()); part != "" {
package secrettest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// least is how many characters of a secret in a row are an echo of it.
const least = 12

// Forms are a new private key in many forms, a token, one that could be a fingerprint, and a password, by the names of
// the forms. All are of a kind that may be told by its looks.
func Forms(t testing.TB) map[string]string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "me@laptop")
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(block))
	flat, file := strings.TrimSpace(text), base64.StdEncoding.EncodeToString([]byte(text))
	return map[string]string{
		"PEM":             text,
		"one line":        strings.ReplaceAll(flat, "\n", " "),
		`literal \n`:      strings.ReplaceAll(flat, "\n", `\n`),
		"quoted":          `"` + strings.ReplaceAll(flat, "\n", `\n`) + `"`,
		"base64":          file,
		"base64, wrapped": wrap(file),
		"body":            base64.StdEncoding.EncodeToString(block.Bytes),
		"body of PKCS 8":  base64.StdEncoding.EncodeToString(pkcs8),
		"PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: me@laptop\nPrivate-Lines: 1\n" +
			base64.StdEncoding.EncodeToString(key.Seed()) + "\n",
		"base64 twice":     base64.StdEncoding.EncodeToString([]byte(file)),
		"base64 of UTF-16": base64.StdEncoding.EncodeToString(wide(text)),
		"JSON":             `{"key": "` + strings.ReplaceAll(flat, "\n", `\n`) + `"}`,
		"broken":           strings.Replace(text, "b3BlbnNz", "b3Blbn", 1),
		"URL":              "dbfs:/" + base64.RawURLEncoding.EncodeToString(key.Seed()),
		"command":          "ssh -i " + base64.RawURLEncoding.EncodeToString(key.Seed()) + " me@" + base64.RawURLEncoding.EncodeToString(key.Seed()),
		"secret":           "{{secrets/scope/" + base64.RawURLEncoding.EncodeToString(key.Seed()) + "}}",
		"long token":       base64.RawStdEncoding.EncodeToString(key.Seed()), // with as many characters as a fingerprint
		"token":            base64.RawURLEncoding.EncodeToString(key.Seed()[:18]),
		"path of a token":  "/" + base64.RawURLEncoding.EncodeToString(key.Seed()), // one in 64 texts of base64 begins so
		"slashed token":    slashed(key.Seed()),                                    // each of whose parts could be a name
		"URL of a token":   "http://" + slashed(key.Seed()),
		"password":         rand.Text() + "!",
	}
}

// wide is a text in UTF-16 without a byte order mark.
func wide(text string) (out []byte) {
	for _, r := range text {
		out = append(out, byte(r), 0)
	}
	return out
}

// slashed is a token with a "/" after every 15 characters.
func slashed(seed []byte) string {
	text := base64.RawURLEncoding.EncodeToString(seed)
	return text[:15] + "/" + text[15:30] + "/" + text[30:]
}

func wrap(text string) string {
	return strings.Join(regexp.MustCompile(`.{1,76}`).FindAllString(text, -1), "\n")
}

// secretive are the parts of a text in which a secret is: not the words around a key, nor the name of its
// kind, which many texts have.
var secretive = regexp.MustCompile(`[^\s"\\:]{12,}`)

// Echo returns the first 12 characters in a row of a secret that stand in what is shown; "": none do.
func Echo(secret, shown string) string {
	for _, part := range secretive.FindAllString(strings.ReplaceAll(secret, `\n`, "\n"), -1) {
		if strings.Contains(part, "-----") || strings.HasPrefix(part, "PuTTY") || strings.HasPrefix(part, "ssh-") {
			continue
		}
		for i := range len(part) - least + 1 {
			if piece := part[i : i+least]; strings.Contains(shown, piece) {
				return piece
			}
		}
	}
	return ""
}
