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

const (
	putty    = "PuTTY-User-Key-File"
	maxWraps = 16 // that are taken off: each costs a pass over the text, and half a million quotes are no key
)

// isKeyText reports whether a text holds a key, private or public, whatever was done to it, and is not a path.
func isKeyText(text []byte) bool {
	key, _ := splitCert(text) // what follows a key is not base64
	key = unwrap(key)
	return holdsKey(key) || isPublic(key)
}

func holdsKey(text []byte) bool {
	return bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, []byte(putty))
}

// normalize undoes what copying, editors and secret stores do to the text of a key: see unwrap, and CRLF,
// indentation, everything on one line, and what stands before and after the key. What comes of that is a text as any other, so it is
// done again until there is nothing left to do.
func normalize(text []byte) []byte {
	for range maxWraps {
		before := text
		if text = straighten(before); bytes.Equal(text, before) {
			break
		}
	}
	return text
}

func straighten(text []byte) []byte {
	s := string(unwrap(text))
	head := begin.FindString(s)
	if head == "" {
		return []byte(s)
	}
	s = s[strings.Index(s, head)+len(head):]
	foot := strings.Replace(head, "BEGIN", "END", 1)
	body, _, ended := strings.Cut(s, foot)
	var lines []string
	if m := sealing.FindStringSubmatch(body); m != nil {
		lines, body = []string{"Proc-Type: 4,ENCRYPTED", "DEK-Info: " + m[1], ""}, body[len(m[0]):]
	}
	lines = append(append([]string{head}, lines...), strings.Fields(body)...)
	if ended {
		lines = append(lines, foot)
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

var (
	begin = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----`)
	// sealing are the headers of an encrypted key in PEM (RFC 1421, section 4.6.1.3), also where their line ends are lost.
	sealing  = regexp.MustCompile(`^\s*Proc-Type:\s*4,ENCRYPTED\s*DEK-Info:\s*((?:(?:AES|ARIA|CAMELLIA)-\d{3}|SEED)-CBC,[0-9A-Fa-f]{32}|DES(?:-EDE3)?-CBC,[0-9A-Fa-f]{16})`)
	newLines = strings.NewReplacer("\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n", `\/`, "/") // the last as PHP writes JSON
)

// unwrap takes off what is around a key: a byte order mark, quotes, base64 of the whole file, and these
// in one another. Where the BEGIN or the END line was lost it is put back, and so it is to a key in DER.
func unwrap(text []byte) []byte {
	if kind := kindOf(text); kind != "" {
		return bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}))
	}
	given := text
	for range maxWraps {
		s := strings.TrimSpace(newLines.Replace(string(userfile.Text(text))))
		text = []byte(s)
		if n := len(s); n > 1 && s[0] == s[n-1] && (s[0] == '"' || s[0] == '\'') {
			text = text[1 : n-1]
			continue
		}
		inner, whole := decodeKey(s, true)
		if inner == nil {
			return text
		}
		if text = inner; whole {
			return bytes.TrimSpace(text)
		}
	}
	return given
}

// armour is the first or the last line of a key.
var armour = regexp.MustCompile(`-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY-----`)

// decodeKey decodes base64 of a key's file, or of its body alone: that becomes a whole key. Nil: it is
// neither. twice: it may be base64 of that, as of a secret of Kubernetes that was one already.
func decodeKey(s string, twice bool) (inner []byte, whole bool) {
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
	if holdsKey(userfile.Text(der)) {
		return der, false
	}
	if twice {
		if inner, _ := decodeKey(string(der), false); inner != nil {
			return der, false
		}
	}
	if kind := kindOf(der); kind != "" {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), true
	}
	return nil, false
}

// IsEncoded reports whether a text is base64 of a private key's file, or of its body alone.
func IsEncoded(text string) bool {
	inner, _ := decodeKey(text, true)
	return inner != nil
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
