// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"path"
	"strings"

	"golang.org/x/crypto/ssh"
)

// entry is a line of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). Its key is parsed when its host is asked for:
// parsing all of 20 000 lines would take 160 ms, looking for a host in them takes 60 if names are hashed. x/crypto's knownhosts
// reads files only, and none of a file in which there is a line that it does not understand.
type entry struct {
	number int    // of the line, from 1
	marker string // "", or one of those below
	hosts  string
	key    string // base64
}

const (
	authority = "@cert-authority"
	revoked   = "@revoked"
)

// parseLine reads one line; false: it is none of known_hosts. Its key may be of a kind that is not known here.
func parseLine(text string) (e entry, ok bool) {
	words := strings.Fields(text)
	if len(words) > 0 && strings.HasPrefix(words[0], "@") {
		e.marker, words = words[0], words[1:]
	}
	if len(words) < 3 || e.marker != "" && e.marker != authority && e.marker != revoked {
		return entry{}, false
	}
	e.hosts, e.key = words[0], words[2]
	return e, isKey(e.key)
}

// isKey reports whether a word is base64 of a public key (RFC 4253, section 6.6): it begins with its kind.
func isKey(word string) bool {
	const most = 64 // characters of an algorithm's name (RFC 4250, section 4.6.1)
	blob, err := base64.StdEncoding.DecodeString(word)
	if err != nil || len(blob) < 4 {
		return false
	}
	n := binary.BigEndian.Uint32(blob)
	return 0 < n && n <= most && int(n) < len(blob)-4 &&
		!bytes.ContainsFunc(blob[4:4+n], func(r rune) bool { return r <= ' ' || r > '~' })
}

// public is the key of a line; nil: it is not understood, or a certificate, which no line has.
func (e entry) public() ssh.PublicKey { return publicKey(e.key) }

func publicKey(word string) ssh.PublicKey {
	blob, err := base64.StdEncoding.DecodeString(word)
	if err != nil {
		return nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if _, cert := key.(*ssh.Certificate); err != nil || cert {
		return nil
	}
	return key
}

// names reports whether a line is about a host. Names are compared as ssh(1) does, capitals with small letters,
// but "*" does not stand for hosts at other ports than 22.
func (e entry) names(host, port string) bool {
	if hashed, ok := strings.CutPrefix(e.hosts, "|1|"); ok {
		return isHashOf(hashed, host, port)
	}
	found := false
	for pattern := range strings.SplitSeq(e.hosts, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		at := "22"
		if host, port, err := net.SplitHostPort(pattern); err == nil {
			pattern, at = host, port
		} else if strings.HasPrefix(pattern, "[") && strings.HasSuffix(pattern, "]") {
			pattern = pattern[1 : len(pattern)-1]
		}
		if at != port {
			continue
		}
		if strings.Contains(host, ":") {
			pattern = shortest(pattern)
		}
		if fits, err := path.Match(strings.ToLower(pattern), host); !fits || err != nil {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// shortest is an IPv6 address as ssh(1) writes it, whatever was typed; and any other name as it is.
func shortest(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return addr.String()
	}
	return host
}

// isHashOf reports whether a hashed name, "SALT|HASH", is that of a host.
func isHashOf(hashed, host, port string) bool {
	salt, want, _ := strings.Cut(hashed, "|")
	key, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	sum, err := base64.StdEncoding.DecodeString(want)
	if err != nil {
		return false
	}
	names := []string{"[" + host + "]:" + port}
	if port == "22" {
		names = []string{host}
		if strings.Contains(host, ":") { // x/crypto's knownhosts writes IPv6 addresses in brackets, ssh without
			names = append(names, "["+host+"]")
		}
	}
	for _, name := range names {
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(name))
		if hmac.Equal(mac.Sum(nil), sum) {
			return true
		}
	}
	return false
}
