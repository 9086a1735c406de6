// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"
	"unicode"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

const putty = "PuTTY-User-Key-File"

// isKeyText reports whether a text holds a private key, whatever was done to it, and is not a path.
func isKeyText(text []byte) bool {
	key, _ := splitCert(text) // what follows a key is not base64
	key = unwrap(key)
	return bytes.Contains(key, []byte("PRIVATE KEY")) || bytes.Contains(key, []byte(putty))
}

// normalize undoes what copying, editors and secret stores do to the text of a key: see unwrap, and CRLF,
// indentation, everything on one line.
func normalize(text []byte) []byte {
	s := string(unwrap(text))
	const dashes = "-----"
	if !strings.HasPrefix(s, dashes) {
		return []byte(s)
	}
	if !strings.Contains(s, "\n") { // BEGIN line, base64 and END line joined by spaces, or by nothing
		head, rest, _ := strings.Cut(s[len(dashes):], dashes)
		body, foot, _ := strings.Cut(rest, dashes)
		s = dashes + head + dashes + "\n" + strings.Join(strings.Fields(body), "\n") + "\n" + dashes + foot
	}
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i]) // indented, as within a function's text
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// unwrap takes off what is around a key: a byte order mark, quotes, base64 of the whole file, and these
// in one another. Where the BEGIN or the END line was lost it is put back.
func unwrap(text []byte) []byte {
	for {
		s := strings.NewReplacer("\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n").Replace(string(userfile.Text(text)))
		s = strings.TrimSpace(s)
		text = []byte(s)
		if n := len(s); n > 1 && s[0] == s[n-1] && (s[0] == '"' || s[0] == '\'') {
			text = text[1 : n-1]
			continue
		}
		inner, whole := decodeKey(s)
		if inner == nil {
			return text
		}
		if text = inner; whole {
			return bytes.TrimSpace(text)
		}
	}
}

// armour is the first or the last line of a key.
var armour = regexp.MustCompile(`-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY-----`)

// decodeKey decodes base64 of a key's file, or of its body alone: that becomes a whole key. Nil: it is
// neither.
func decodeKey(s string) (inner []byte, whole bool) {
	if len(armour.FindAllStringIndex(s, 2)) == 1 {
		s = armour.ReplaceAllString(s, "")
	}
	s = strings.ReplaceAll(s, "-----", "") // what is left of such a line
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding // RFC 4648, section 5
	}
	der, err := encoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, false
	}
	if bytes.Contains(der, []byte("PRIVATE KEY")) || bytes.Contains(der, []byte(putty)) {
		return der, false
	}
	if kind := kindOf(der); kind != "" {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), true
	}
	return nil, false
}

// kindOf is what PEM calls a private key of this encoding; "": it is none.
func kindOf(der []byte) string {
	if bytes.HasPrefix(der, []byte("openssh-key-v1\x00")) { // PROTOCOL.key of OpenSSH
		return "OPENSSH PRIVATE KEY"
	}
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return "PRIVATE KEY"
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return "RSA PRIVATE KEY"
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return "EC PRIVATE KEY"
	}
	if isSealed(der) {
		return "ENCRYPTED PRIVATE KEY"
	}
	return ""
}
