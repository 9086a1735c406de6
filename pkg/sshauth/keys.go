// SPDX-License-Identifier: Apache-2.0

// Package sshauth is what one logs in with over SSH: private keys in files, in text and in an ssh-agent, and their
// certificates. It opens no connection but that to the agent.
//
//	keys, err := sshauth.NewKeys(ctx, sshauth.KeySource{Key: "~/.ssh/id_ed25519", Agent: os.Getenv("SSH_AUTH_SOCK")})
//	login, err := keys.Login(ctx)
//	defer login.Close()
//	conn, _, _, err := ssh.NewClientConn(tcp, addr, &ssh.ClientConfig{AuthCallback: login.Begin(), …})
//	fingerprint := login.Accepted() // or, after an error,
//	err = login.Refused("me", addr, "", err)
//
// Promises. No error, log line or formatted value holds anything of a private key or a passphrase. Files are read again for
// each login; one that cannot be read any more counts as it was. A server is asked about five keys at most. The connection to
// the agent is closed when the login is over.
package sshauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

// KeySource says where the keys to log in with come from.
type KeySource struct {
	// Key is a private key: a path, or the key's own text, which a line with its certificate may
	// follow. The certificate of a path is the file beside it, "PATH-cert.pub"; that path may be
	// given as well. With Key no other key is offered. "": what follows.
	Key string
	// Passphrase opens encrypted keys. "": there are none.
	Passphrase string
	// Agent is the socket of an ssh-agent. "": none is asked.
	Agent string
	// Files are paths of private keys, or of public ones of which the agent has the private half
	// (ssh_config(5), IdentityFile). Nil: ~/.ssh/id_ed25519, id_ecdsa and id_rsa.
	Files []string
	// Certificates are paths of certificates, each for one of the keys (CertificateFile).
	Certificates []string
	// IdentitiesOnly keeps to Files, whatever else the agent has.
	IdentitiesOnly bool
	// Log takes warnings of certificates that are about to expire. Nil: nothing is logged.
	Log *slog.Logger
}

// Keys are the private keys to log in with. Formatting one shows nothing of them.
//
// Files are read again for each login, so that keys and certificates may be renewed while a
// tunnel is open. One that cannot be read any more, or is only half written, or whose certificate
// belongs to another key, is an error at first; later the last good state of it is used.
type Keys struct {
	src   KeySource
	files []*keyFile

	mu        sync.Mutex
	id        string // fingerprint of the key that logged in last, else of the first to be offered
	proven    bool   // one of them has logged in
	certified bool   // the last time with a certificate
	told      map[string]bool
}

// keyFile is one private key with its certificate.
type keyFile struct {
	name     string // for people
	path     string // "": text
	text     []byte
	required bool // the owner named it

	signer ssh.Signer       // the last good one; nil: none yet
	opened []byte           // the text that it was read from: 16 rounds of bcrypt take 0.15 s
	public ssh.PublicKey    // where only that half can be read
	cert   *ssh.Certificate // of signer or public
}

// String says how many keys there are, and nothing else of them.
func (k *Keys) String() string { return fmt.Sprintf("%d key file(s)", len(k.files)) }

// GoString is String, for %#v.
func (k *Keys) GoString() string { return k.String() }

// defaultKeys are the names that ssh(1) tries, the strongest first.
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// LoadKeys is NewKeys for a key alone.
func LoadKeys(key, passphrase string) (*Keys, error) {
	return NewKeys(context.Background(), KeySource{Key: key, Passphrase: passphrase})
}

// NewKeys reads the keys of a source once, to tell at once what is wrong with it. Private keys may
// have any format of ssh-keygen (OpenSSH, PKCS#1, PKCS#8, SEC 1). Their text survives what secret
// stores and editors do to it: CRLF, a missing last newline, "\n" written as two characters,
// everything in one line, indentation, quotes around it, a byte order mark, UTF-16, base64 of the whole
// file, its BEGIN or END line or both left out. Errors are of class fault.ErrConfig, for a certificate that
// has expired fault.ErrAuth, and never quote a key.
func NewKeys(ctx context.Context, src KeySource) (*Keys, error) {
	if src.Log == nil {
		src.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keys{src: src, told: map[string]bool{}}
	switch {
	case src.Key != "":
		f, err := givenKey(src.Key)
		if err != nil {
			return nil, err
		}
		k.files = []*keyFile{f}
	case src.Files != nil:
		for _, path := range src.Files {
			k.files = append(k.files, &keyFile{path: path, name: path})
		}
	default:
		for _, base := range defaultKeys {
			k.files = append(k.files, &keyFile{path: "~/.ssh/" + base, name: "~/.ssh/" + base})
		}
	}
	first, err := k.Login(ctx)
	if err != nil {
		return nil, err
	}
	first.Close()
	k.id = fingerprintOf(first.offers[0].signer.PublicKey())
	return k, nil
}

var isURL = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)

func givenKey(key string) (*keyFile, error) {
	if _, err := os.Stat(userfile.Expand(userfile.Pasted(key))); err != nil && isKeyText([]byte(key)) {
		return &keyFile{name: "key", text: []byte(key), required: true}, nil
	}
	if certLine.MatchString(key) {
		return nil, fault.Config("put the private key before it, or give that key's path, beside which the certificate is", "key is a certificate alone")
	}
	path := strings.TrimSuffix(userfile.Pasted(key), certSuffix)
	full := userfile.Expand(path)
	switch {
	case isURL.MatchString(full):
		return nil, fault.Config("give a path of this machine (on Databricks one below /Volumes or /Workspace), or the key's text",
			"key is a URL, and nothing is fetched for it")
	case strings.ContainsAny(path, "\r\n"), !filepath.IsAbs(full) && !fault.Showable(full) && !fault.Showable(strings.ToLower(full)):
		return nil, fault.Config("give the path of a private key or its whole text, from -----BEGIN to END-----",
			"key is a text of %d characters that is neither a path nor a key", utf8.RuneCountInString(key))
	}
	return &keyFile{name: "key " + fault.KeyPath(full), path: path, required: true}, nil
}

// read reads the key and its certificate again. What was read before stays if that fails.
func (f *keyFile) read(passphrase string, log *slog.Logger) error {
	text, err := f.text, error(nil)
	if f.path != "" {
		if text, err = userfile.Read(f.path, maxKeyFile); err != nil {
			hint := fault.Hint("check that the path exists on this machine (on Databricks: on the driver) and that this process may read it, or give the key's text")
			if strings.HasPrefix(userfile.Expand(f.path), "/dbfs/") {
				hint += "; not all of Databricks' compute has /dbfs: put it below /Volumes or /Workspace, or into a secret, secret:SCOPE/KEY"
			}
			return fault.Config(hint, "%s cannot be read: %w", f.name, err)
		}
	}
	text, certText := splitCert(unwrap(text))
	signer, public := f.signer, f.public
	if signer == nil || !bytes.Equal(text, f.opened) {
		signer, public, err = parseKey(text, f.name, passphrase)
		if line := strings.TrimRight(passphrase, "\r\n"); signer == nil && line != passphrase { // an editor's, or a secret store's, last newline
			signer, public, err = parseKey(text, f.name, line)
		}
	}
	if public == nil {
		return err
	}
	cert, certErr := f.readCert(certText)
	switch {
	case certErr == nil && cert != nil && !sameKey(cert.Key, public):
		certErr = errors.New("it is for another key")
		fallthrough
	case certErr != nil:
		if certText != nil || f.cert != nil {
			return fault.Config("give the certificate that was signed for this key", "the certificate of %s cannot be used: %w", f.name, certErr)
		}
		log.Warn("a certificate is passed over", "file", f.path+certSuffix, "reason", certErr.Error())
		cert = nil
	}
	if err == nil || f.signer == nil {
		f.signer, f.opened, f.public, f.cert = signer, text, public, cert
	}
	return err
}

// readCert returns nil without an error where there is no certificate, and never was one.
func (f *keyFile) readCert(text []byte) (*ssh.Certificate, error) {
	if text != nil {
		return parseCert(text)
	}
	if f.path == "" {
		return nil, nil
	}
	cert, err := readCert(strings.TrimSuffix(f.path, ".pub") + certSuffix)
	if errors.Is(err, os.ErrNotExist) && f.cert == nil {
		return nil, nil
	}
	return cert, err
}

// ID is the SHA256 fingerprint, without its prefix, of the key that logged in last; before the
// first login that of the key that will be offered first. A certificate has that of its key.
func (k *Keys) ID() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id
}

// hasWorked reports whether one of them has logged in.
func (k *Keys) hasWorked() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.proven
}

// worked notes which of the keys a server took.
func (k *Keys) worked(o offer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id, k.proven, k.certified = fingerprintOf(o.signer.PublicKey()), true, o.cert != nil
}
