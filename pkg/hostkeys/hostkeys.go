// SPDX-License-Identifier: Apache-2.0

// Package hostkeys knows which host keys to trust: fingerprints, known_hosts lines and files (sshd(8)), and authorities
// that sign hosts' certificates.
//
//	known, err := hostkeys.New("SHA256:…")
//	lists := known.Offers("proxy.example.com:22") // algorithms to ask for, in turn
//	err = known.Check("proxy.example.com:22", remote, key)
//
// Promises. There is no way to trust any key. A file is read again for each connection, and one that cannot be read counts
// as it was. Nothing of a line that is not understood is in an error.
package hostkeys

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// Known knows which host keys to trust. There is no way to trust any.
//
// Files are read again for each connection, so that a host key may be renewed while a tunnel is open. One
// that cannot be read any more, or that is not understood, counts as it was.
type Known struct {
	pins    []string        // "SHA256:…", if the trust is in fingerprints; nil: it is in lines
	quiet   bool            // the pins may be something else, and are not shown
	lines   []entry         // of known_hosts
	revoked map[string]bool // keys, as SSH writes them, that are trusted for no host
	source  string          // what the lines are from, for people
	odd     []int           // which of them are passed over, from 1

	files *knownFiles // nil: there are none

	mu     sync.Mutex
	family []string              // with pins: the algorithms with which the pinned key was seen
	found  map[[2]string][]entry // by address and marker: the lines about it
}

// families are the host key algorithms by kind of key. A fingerprint does not tell of which
// kind its key is, and a server shows one key for each connection: the first kind in our order
// that it has. So kinds are asked for one after another.
var families = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// familyOf returns the algorithms with which key may be shown; an RSA key never with SHA-1.
func familyOf(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return families[2]
	}
	for _, f := range families {
		if slices.Contains(f, key.Type()) {
			return f
		}
	}
	return []string{key.Type()}
}

const maxKnownHosts = 16 << 20 // of a whole organisation

// New reads what the owner knows of the server's host key: fingerprints ("SHA256:…"), alone or in whatever ssh-keygen -l
// or ssh prints around them; lines of a .pub file; lines of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; hashed names
// and "[host]:port" included, @cert-authority and @revoked); or the path of a file with any of these. Fingerprints and .pub
// lines name no host, and count where there is no line of known_hosts. A line of several that is not understood
// is passed over. "" stands for files, nil for ~/.ssh/known_hosts, and for /etc/ssh/ssh_known_hosts. Where nothing is
// understood the error is of class fault.ErrConfig.
func New(text string, files ...string) (*Known, error) {
	text = userfile.Pasted(text)
	if text == "" {
		return systemHostKeys(files)
	}
	if strings.HasPrefix(text, "secret:") {
		return nil, fault.Config("give the host key itself, which is no secret; that of the scope is used where {host_key} is left out; secret:SCOPE/KEY is for {key}", "host_key names a secret")
	}
	if IsPath(text) {
		return (&knownFiles{paths: []string{text}, given: true}).read()
	}
	return given(text, "host_key")
}

// systemHostKeys reads the files that ssh(1) reads. Neither need exist, and a line that cannot
// be parsed is passed over, as ssh does.
func systemHostKeys(files []string) (*Known, error) {
	if files == nil {
		files = []string{"~/.ssh/known_hosts"}
	}
	return (&knownFiles{paths: append(slices.Clone(files), "/etc/ssh/ssh_known_hosts")}).read()
}

// given reads what the owner gave, as text or in a file.
func given(text, source string) (*Known, error) {
	h := readLines(text, source)
	if len(h.lines) > 1 || len(h.lines) == 1 && (len(h.odd) > 0 || h.lines[0].public() != nil) {
		return h, nil
	}
	if strings.Contains(text, "PRIVATE KEY-----") || sshauth.IsEncoded(text) {
		return nil, fault.Config("give its public half, the file with .pub at its end; or "+howToPrint, "%s is a private key", source)
	}
	pins, quiet, err := findPins(text)
	if err != nil {
		return nil, err
	}
	if pins != nil {
		return &Known{pins: pins, quiet: quiet, source: source}, nil
	}
	const hint = "give a fingerprint (SHA256:…), a line of a .pub file, or lines as ssh-keyscan prints them: host keytype base64"
	if len(h.lines)+len(h.odd) == 0 {
		return nil, fault.Config(hint, "%s holds no host key", source)
	}
	return nil, fault.Config(hint, "%s has neither a fingerprint nor a known_hosts line with a whole key of a known kind (ed25519, ecdsa, rsa)", source)
}

// readLines reads lines of known_hosts.
func readLines(text, source string) *Known {
	h := &Known{source: source, revoked: map[string]bool{}}
	n := 0
	for row := range strings.Lines(text) {
		n++
		row = strings.TrimSpace(row)
		if row == "" || row[0] == '#' {
			continue
		}
		e, ok := parseLine(row)
		if !ok {
			h.odd = append(h.odd, n)
			continue
		}
		e.number = n
		h.lines = append(h.lines, e)
		if e.marker != revoked {
			continue
		}
		if key := e.public(); key != nil {
			h.revoked[string(key.Marshal())] = true
		}
	}
	return h
}

// Pins are the fingerprints ("SHA256:…") that are trusted whatever the host's name is; nil: the trust is in lines that name
// hosts.
func (h *Known) Pins() []string { return h.pins }

// Offers returns the algorithm lists to try in turn with the server at addr. With known_hosts
// it is one list: the kinds of key that are known come alone, or a server that has an ECDSA
// key besides the known ED25519 one would show the wrong key and look like an impostor.
func (h *Known) Offers(addr string) [][]string {
	if h.pins != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.family != nil {
			return [][]string{h.family}
		}
		return families
	}
	var algorithms []string
	for _, key := range h.keys(addr, "") {
		if f := familyOf(key); !slices.Contains(algorithms, f[0]) {
			algorithms = append(algorithms, f...)
		}
	}
	if algorithms == nil {
		algorithms = slices.Concat(families...)
	}
	if len(h.authorities(addr)) > 0 {
		algorithms = slices.Concat(certFamily, algorithms)
	}
	return [][]string{algorithms}
}

// keys are those of the lines about addr that have a marker, or none.
func (h *Known) keys(addr, marker string) (keys []ssh.PublicKey) {
	for _, e := range h.about(addr, marker) {
		if key := e.public(); key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// about are the lines about addr that have a marker, or none. They are looked for once: hashed names take a
// microsecond each.
func (h *Known) about(addr, marker string) (lines []entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := [2]string{addr, marker}
	if lines, known := h.found[asked]; known {
		return lines
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, "22"
	}
	host = strings.ToLower(host)
	shortest := shortest(host)
	for _, e := range h.lines {
		if e.marker == marker && (e.names(host, port) || shortest != host && e.names(shortest, port)) {
			lines = append(lines, e)
		}
	}
	if h.found == nil || len(h.found) > 16 { // the server under its name and its alias, and at port 22
		h.found = map[[2]string][]entry{}
	}
	h.found[asked] = lines
	return lines
}

// has reports whether key is among keys.
func has(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}

// Check is an ssh.HostKeyCallback whose errors are of class fault.ErrHostKey.
func (h *Known) Check(addr string, remote net.Addr, key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return h.checkCert(addr, remote, cert)
	}
	seen := ssh.FingerprintSHA256(key)
	if h.pins != nil {
		if !slices.Contains(h.pins, seen) {
			pins := h.pins
			if h.quiet {
				pins = []string{"the one that was given"}
			}
			return fault.HostKeyChanged(addr, key.Type(), seen, pins)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.family = familyOf(key)
		return nil
	}
	if h.isRevoked(key) {
		return fault.HostKeyRevoked(addr, seen)
	}
	known := h.keys(addr, "")
	switch {
	case has(known, key):
		return nil
	case len(known) == 0:
		return fault.HostKeyUnknown(addr, key.Type(), seen, h.ofAnother(key), h.passedOver(addr))
	}
	return fault.HostKeyChanged(addr, key.Type(), seen, fingerprints(known))
}

func (h *Known) isRevoked(key ssh.PublicKey) bool { return h.revoked[string(key.Marshal())] }

// ofAnother says which line has a key for another host or port, "" for none, as ssh does ("known by the following other names").
func (h *Known) ofAnother(key ssh.PublicKey) string {
	for _, e := range h.lines {
		if known := e.public(); e.marker == "" && known != nil && bytes.Equal(known.Marshal(), key.Marshal()) {
			return fmt.Sprintf("line %d of %s has it for another name or port", e.number, h.source)
		}
	}
	return ""
}

// passedOver says which lines of what the owner gave are, of those about addr and those about nobody knows whom; "": none.
func (h *Known) passedOver(addr string) string {
	if h.files != nil && !h.files.given {
		return ""
	}
	odd := h.odd
	for _, e := range h.about(addr, "") {
		if e.public() == nil {
			odd = append(odd[:len(odd):len(odd)], e.number)
		}
	}
	switch len(odd) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("line %d of %s is not understood and was passed over", odd[0], h.source)
	}
	return fmt.Sprintf("line %d of %s and %d more are not understood and were passed over", odd[0], h.source, len(odd)-1)
}

func fingerprints(keys []ssh.PublicKey) (out []string) {
	for _, k := range keys {
		out = append(out, fmt.Sprintf("%s %s", k.Type(), ssh.FingerprintSHA256(k)))
	}
	return out
}

// IsPath reports whether New takes a text for the path of a file, be it one that is not there.
func IsPath(text string) bool {
	text = userfile.Pasted(text)
	full := userfile.Expand(text)
	if isFile(full) {
		return true
	}
	if bare.MatchString(text) { // of 64 fingerprints one begins with a slash
		top, _, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
		_, err := os.Stat("/" + top)
		return text[0] == '/' && err == nil
	}
	return strings.HasPrefix(full, "/") || text != "" && !strings.ContainsAny(text, " \t\n") && !labelled.MatchString(text) && !digits.MatchString(text) && !another.MatchString(text) && decoded(text) == nil
}

// decoded is what a text is base64 of, if that is at least as long as a key; nil: it is none.
func decoded(text string) []byte {
	const least = 44 // bytes of an Ed25519 key in DER (RFC 8410)
	blob, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(blob) < least {
		return nil
	}
	return blob
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
