// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

var (
	// labelled are the fingerprints in what ssh-keygen -l and ssh print around them.
	labelled = regexp.MustCompile(`(?i)\bSHA256:([A-Za-z0-9+/]*)`)
	// bare is one that was copied without its label.
	bare = regexp.MustCompile(`^[A-Za-z0-9+/]{43}=?$`)
	// hexadecimal is one in digits, as Go's and Java's libraries and some clouds print it.
	hexadecimal = regexp.MustCompile(`(?i)^(?:SHA-?256[: ]\s*)?((?:[0-9a-f]{2}:){31}[0-9a-f]{2}|[0-9a-f]{64})$`)
	// digits are hexadecimal, more than a name of a file would have: a whole fingerprint, a part of one, or one of another hash without colons.
	digits = regexp.MustCompile(`^(?i)(?:SHA-?256[: ]\s*)?(?:[0-9a-f]{16,}|(?:[0-9a-f]{2}:){7,}[0-9a-f]{0,2})$`)
	// another is a fingerprint of another hash: MD5 in hexadecimal, as before OpenSSH 6.8, or ssh-keygen -E.
	another = regexp.MustCompile(`(?i)\b(?:[0-9a-f]{2}:){15}[0-9a-f]{2}\b|\b(?:MD5|SHA1|SHA384|SHA512):`)
)

const howToPrint = "copy it from what this prints on the proxy: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"

// findPins finds what trusts a key whatever the host's name: fingerprints, in whatever was printed around them, and
// lines of .pub files. quiet: a fingerprint had no label, so it may be something else, and is not shown.
func findPins(text string) (pins []string, quiet bool, err error) {
	if found := hexadecimal.FindStringSubmatch(strings.TrimSpace(text)); found != nil {
		sum, _ := hex.DecodeString(strings.ReplaceAll(found[1], ":", "")) // it has nothing but digits
		return []string{"SHA256:" + base64.RawStdEncoding.EncodeToString(sum)}, true, nil
	}
	for row := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(row), "#") { // what was taken back
			continue
		}
		if key := pubLine(row); key != nil {
			pins = append(pins, ssh.FingerprintSHA256(key))
			continue
		}
		for _, found := range labelled.FindAllStringSubmatch(row, -1) {
			if len(found[1]) != 43 {
				return nil, false, fault.Config(howToPrint, "host_key %s is not a SHA256 fingerprint (43 characters after \"SHA256:\")", fault.Quote(strings.TrimSpace(row)))
			}
			pins = append(pins, "SHA256:"+found[1])
		}
	}
	if pins != nil {
		return pins, false, nil
	}
	if another.MatchString(text) {
		return nil, false, fault.Config(howToPrint+" (ssh-keygen has to be of OpenSSH 6.8 or later, without -E)", "host_key holds a fingerprint of another hash than SHA256")
	}
	if digits.MatchString(strings.TrimSpace(text)) {
		return nil, false, fault.Config(howToPrint, "host_key is not a SHA256 fingerprint: in hexadecimal that has 64 digits, and 32 are MD5's")
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		if !bare.MatchString(word) {
			return nil, false, nil
		}
		pins = append(pins, "SHA256:"+strings.TrimRight(word, "="))
	}
	return pins, true, nil
}

// pubLine is the key of a line of a .pub file, "ssh-ed25519 AAAA… comment", of which only the middle may have been copied; nil: it is none.
func pubLine(text string) ssh.PublicKey {
	words := strings.Fields(text)
	if len(words) == 1 {
		return publicKey(words[0])
	}
	if len(words) < 2 || !isKey(words[1]) {
		return nil
	}
	if key := publicKey(words[1]); key != nil && key.Type() == words[0] {
		return key
	}
	return nil
}
