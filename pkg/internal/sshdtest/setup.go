// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// keys makes the client's key and the host keys.
func (s *Server) keys(o Options) {
	s.t.Helper()
	s.KeyFile = filepath.Join(s.dir, "client")
	client := s.newKey("ed25519", s.KeyFile)
	authorized := o.AuthorizedKeys
	if authorized == "" {
		authorized = "%s"
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(client)))
	s.write("authorized_keys", strings.ReplaceAll(authorized, "%s", line)+"\n")
	for _, kind := range hostKeyKinds(o) {
		s.HostKeys = append(s.HostKeys, s.newKey(kind, filepath.Join(s.dir, "host_"+kind)))
	}
	s.HostKey = s.HostKeys[0]
}

func hostKeyKinds(o Options) []string {
	if o.HostKeys == nil {
		return []string{"ed25519"}
	}
	return o.HostKeys
}

// NewKeyFile makes a private key that the server does not know, and returns its path.
func (s *Server) NewKeyFile(kind string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "key")
	s.newKey(kind, path)
	return path
}

// newKey writes a new private key and returns its public half.
func (s *Server) newKey(kind, path string) ssh.PublicKey {
	s.t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("unknown kind of key %q", kind)
	}
	s.must(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	s.must(err)
	s.must(os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	public, err := ssh.NewPublicKey(key.Public())
	s.must(err)
	s.must(os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(public), 0o644))
	return public
}

// configure writes sshd_config. sshd takes the first value of an option, so the test's come first; of MaxStartups sshd 9.2
// takes the last one, so what the test gives is not given again.
func (s *Server) configure(o Options) {
	s.t.Helper()
	lines := append([]string{}, o.Config...)
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "MaxStartups ") }) {
		lines = append(lines, "MaxStartups 100")
	}
	lines = append(lines,
		"ListenAddress "+s.Addr(),
		"PidFile none",
		"AuthorizedKeysFile "+filepath.Join(s.dir, "authorized_keys"),
		"StrictModes no",
		"UsePAM no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin yes",
		"PermitUserRC no",
		"PrintMotd no",
		"PrintLastLog no",
		"LogLevel DEBUG1")
	if !o.ownAccount() {
		lines = append(lines, "SetEnv HOME="+s.dir) // no start-up files of the account that runs the test: they may take seconds
	}
	if o.Root != "" || penalties(find(s.t)) {
		lines = append(lines, "PerSourcePenalties no") // a test's failures are on purpose
	}
	if o.HostCA != "" {
		for _, kind := range hostKeyKinds(o) {
			path := filepath.Join(s.dir, "host_"+kind)
			Sign(s.t, o.HostCA, path, append([]string{"-h"}, o.HostSign...)...)
			lines = append(lines, "HostCertificate "+path+"-cert.pub")
		}
	}
	for _, kind := range hostKeyKinds(o) {
		lines = append(lines, "HostKey "+filepath.Join(s.dir, "host_"+kind))
	}
	s.write("sshd_config", strings.Join(lines, "\n")+"\n")
}

// penalties reports whether this sshd punishes addresses (9.8 and later); an older one would
// refuse the whole file because of the option.
var penalties = func() func(sshd string) bool {
	var once sync.Once
	var known bool
	return func(sshd string) bool {
		once.Do(func() {
			said, _ := exec.Command(sshd, "-t", "-f", os.DevNull, "-o", "PerSourcePenalties=no").CombinedOutput()
			known = !strings.Contains(strings.ToLower(string(said)), "bad configuration option")
		})
		return known
	}
}()

func (s *Server) write(name, text string) {
	s.t.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644))
}

// handOver gives the directory to the account that is to read the host keys in it.
func (s *Server) handOver(o Options) {
	if !o.Unprivileged {
		return
	}
	s.t.Helper()
	account, err := user.Lookup(s.User)
	s.must(err)
	uid, err := strconv.Atoi(account.Uid)
	s.must(err)
	gid, err := strconv.Atoi(account.Gid)
	s.must(err)
	s.must(filepath.Walk(s.dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, gid)
	}))
}
