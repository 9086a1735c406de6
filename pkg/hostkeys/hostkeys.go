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
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

// Known knows which host keys to trust. There is no way to trust any.
//
// Files are read again for each connection, so that a host key may be renewed while a tunnel is open. One
// that cannot be read any more, or that is not understood, counts as it was.
type Known struct {
	pins  []string            // "SHA256:…", if the trust is in fingerprints
	known ssh.HostKeyCallback // otherwise: known_hosts without its authorities,
	signs ssh.HostKeyCallback // and the authorities alone, as if they were hosts' keys; nil: there are none

	files *knownFiles // nil: there are none

	mu     sync.Mutex
	family []string // with pins: the algorithms with which the pinned key was seen
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

var fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)

const (
	maxKnownHosts = 16 << 20 // of a whole organisation
	maxGiven      = 1 << 20
)

// New reads what the owner knows of the server's host key: fingerprints as ssh-keygen -l
// prints them ("SHA256:…", several separated by spaces or commas), the path of a known_hosts
// file, or lines of one (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; hashed names and "[host]:port"
// included, @cert-authority and @revoked). "" stands for files, nil for ~/.ssh/known_hosts, and for /etc/ssh/ssh_known_hosts. What cannot be understood is an error of
// class fault.ErrConfig.
func New(text string, files ...string) (*Known, error) {
	text = strings.TrimSpace(string(userfile.Text([]byte(text))))
	if text == "" {
		return systemHostKeys(files)
	}
	if strings.HasPrefix(text, "SHA256:") {
		pins := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
		for i, p := range pins {
			if pins[i] = strings.TrimRight(p, "="); !fingerprint.MatchString(pins[i]) {
				return nil, fault.Config("copy the whole of it from: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
					"host_key %s is not a SHA256 fingerprint (43 characters after \"SHA256:\")", fault.Quote(p))
			}
		}
		return &Known{pins: pins}, nil
	}
	if strings.ContainsAny(text, " \t") && !isFile(userfile.Expand(text)) {
		return knownHosts([]byte(text), "host_key", true)
	}
	return (&knownFiles{paths: []string{text}, given: true}).read()
}

// systemHostKeys reads the files that ssh(1) reads. Neither need exist, and a line that cannot
// be parsed is passed over, as ssh does.
func systemHostKeys(files []string) (*Known, error) {
	if files == nil {
		files = []string{"~/.ssh/known_hosts"}
	}
	return (&knownFiles{paths: append(slices.Clone(files), "/etc/ssh/ssh_known_hosts")}).read()
}

// knownHosts hands the lines that can be parsed to x/crypto, which reads files only.
func knownHosts(text []byte, source string, strict bool) (*Known, error) {
	dir, err := os.MkdirTemp("", "taipy-tunnel-")
	if err != nil {
		return nil, fault.Config("make room in the temporary directory", "cannot read host keys: %w", fault.Reason(err))
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "known_hosts")
	var kept, authorities bytes.Buffer
	for n, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if _, err := readKnownHosts(file, line); err != nil {
			if strict {
				return nil, fault.Config("each line is: host keytype base64, as ssh-keyscan prints it",
					"%s, line %d is not a known_hosts line", source, n+1)
			}
			continue
		}
		to := &kept
		if rest, ok := bytes.CutPrefix(line, []byte("@cert-authority")); ok {
			to, line = &authorities, bytes.TrimSpace(rest)
		}
		to.Write(append(line, '\n'))
	}
	if strict && kept.Len()+authorities.Len() == 0 {
		return nil, fault.Config("give a fingerprint (SHA256:…) or a known_hosts line", "%s holds no host key", source)
	}
	check, err := readKnownHosts(file, kept.Bytes())
	if err != nil {
		return nil, fault.Config("give a fingerprint (SHA256:…) or a known_hosts line", "%s cannot be read: %w", source, err)
	}
	h := &Known{known: check}
	if authorities.Len() > 0 {
		if h.signs, err = readKnownHosts(file, authorities.Bytes()); err != nil {
			return nil, fault.Config("give a fingerprint (SHA256:…) or a known_hosts line", "%s cannot be read: %w", source, err)
		}
	}
	return h, nil
}

// readKnownHosts has x/crypto read text by way of file. Its errors quote parts of a line.
func readKnownHosts(file string, text []byte) (ssh.HostKeyCallback, error) {
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, fault.Reason(err)
	}
	check, err := knownhosts.New(file)
	if err != nil {
		return nil, errors.New("it is not understood")
	}
	return check, nil
}

// Offers returns the algorithm lists to try in turn with the server at addr. With known_hosts
// it is one list: the kinds of key that are known come alone, or a server that has an ECDSA
// key besides the known ED25519 one would show the wrong key and look like an impostor.
func (h *Known) Offers(addr string) [][]string {
	if h.known == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.family != nil {
			return [][]string{h.family}
		}
		return families
	}
	var algorithms []string
	for _, key := range wanted(h.known, addr) {
		if f := familyOf(key); !slices.Contains(algorithms, f[0]) {
			algorithms = append(algorithms, f...)
		}
	}
	if algorithms == nil {
		algorithms = slices.Concat(families...)
	}
	if h.authorities(addr) {
		algorithms = slices.Concat(certFamily, algorithms)
	}
	return [][]string{algorithms}
}

// wanted returns the keys that known_hosts has for addr, found by showing it one that nobody has.
func wanted(known ssh.HostKeyCallback, addr string) (keys []ssh.PublicKey) {
	nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	e, ok := errors.AsType[*knownhosts.KeyError](known(addr, &net.TCPAddr{}, nobody))
	if !ok {
		return nil
	}
	for _, k := range e.Want {
		keys = append(keys, k.Key)
	}
	return keys
}

// Check is an ssh.HostKeyCallback whose errors are of class fault.ErrHostKey.
func (h *Known) Check(addr string, remote net.Addr, key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return h.checkCert(addr, remote, cert)
	}
	seen := ssh.FingerprintSHA256(key)
	if h.known == nil {
		if !slices.Contains(h.pins, seen) {
			return fault.HostKeyChanged(addr, key.Type(), seen, h.pins)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.family = familyOf(key)
		return nil
	}
	err := h.known(addr, remote, key)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
		return fault.HostKeyRevoked(addr, seen)
	}
	known := fingerprints(wanted(h.known, addr))
	if len(known) == 0 {
		return fault.HostKeyUnknown(addr, key.Type(), seen)
	}
	return fault.HostKeyChanged(addr, key.Type(), seen, known)
}

func fingerprints(keys []ssh.PublicKey) (out []string) {
	for _, k := range keys {
		out = append(out, fmt.Sprintf("%s %s", k.Type(), ssh.FingerprintSHA256(k)))
	}
	return out
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
