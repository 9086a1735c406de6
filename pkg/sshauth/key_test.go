// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

const passphrase = "correct-horse-battery"

func TestKeysInTheirForms(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	want := fingerprintOfFile(t, s.KeyFile)
	for form, key := range mangled(string(text)) {
		for where, key := range map[string]string{"text": key, "file": file(t, key)} {
			t.Run(form+"/"+where, func(t *testing.T) {
				leak.Check(t)
				keys, err := LoadKeys(key, "")
				if err != nil {
					t.Fatal(err)
				}
				if keys.ID() != want {
					t.Fatalf("fingerprint %s, want %s", keys.ID(), want)
				}
				if err := again(t, s, keys); err != nil {
					t.Fatal(err)
				}
				compat.Row(t, "keys", "the text of a key "+form, compat.Taken)
			})
		}
	}
}

func newKey(t testing.TB, kind string) (key crypto.Signer) {
	t.Helper()
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// openSSH returns the text of a key as ssh-keygen writes it, encrypted if there is a passphrase: by
// ssh-keygen itself, for x/crypto's 16 rounds take seconds under the race detector.
func openSSH(t testing.TB, key crypto.Signer, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(block))
	if passphrase == "" {
		return text
	}
	path := file(t, text)
	if said, err := exec.Command("ssh-keygen", "-q", "-p", "-a", "1", "-P", "", "-N", passphrase, "-f", path).CombinedOutput(); err != nil {
		missing.Skip(t, "ssh-keygen: %v\n%s", err, said)
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(sealed)
}

// The formats of ssh-keygen: OpenSSH's own, PKCS#1, PKCS#8 and SEC 1.
func TestKeysInTheirFormats(t *testing.T) {
	write := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key := newKey(t, kind)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		texts := map[string]string{"OpenSSH": openSSH(t, key, ""), "PKCS 8": write("PRIVATE KEY", pkcs8, err)}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			texts["PKCS 1"] = write("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)
		case *ecdsa.PrivateKey:
			der, err := x509.MarshalECPrivateKey(key)
			texts["SEC 1"] = write("EC PRIVATE KEY", der, err)
		}
		public, err := ssh.NewPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		for format, text := range texts {
			for form, text := range mangled(text) {
				keys, err := LoadKeys(text, "")
				if err != nil {
					t.Errorf("%s, %s, %s: %v", kind, format, form, err)
				} else if "SHA256:"+keys.ID() != ssh.FingerprintSHA256(public) {
					t.Errorf("%s, %s, %s: another key", kind, format, form)
				}
			}
		}
	}
}

func TestPassphrases(t *testing.T) {
	text := openSSH(t, newKey(t, "ed25519"), passphrase)
	for form, text := range map[string]string{"as it is": text, "one line": strings.ReplaceAll(text, "\n", " "), "file": file(t, text)} {
		t.Run(form, func(t *testing.T) {
			for name, right := range map[string]string{"right": passphrase, "right, with the line's end": passphrase + "\r\n"} {
				if _, err := LoadKeys(text, right); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			for name, wrong := range map[string]string{"missing": "", "wrong": "wrong-horse-battery"} {
				_, err := LoadKeys(text, wrong)
				e := wantFault(t, err, fault.ErrConfig, true)
				if !strings.Contains(e.Hint.String(), "Config.KeyPassphrase") {
					t.Errorf("%s: hint %q", name, e.Hint)
				}
				wantNoKey(t, text, fmt.Sprintf("%+v %s", err, e.Hint))
				if form == "file" {
					compat.Row(t, "keys", "a key with a passphrase, which is "+name, compat.Outcome(err))
				}
			}
		})
	}
	if _, err := LoadKeys(openSSH(t, newKey(t, "ed25519"), ""), passphrase); err != nil {
		t.Errorf("a passphrase for a key that needs none: %v", err)
	}
}

// wantNoKey looks for pieces of a key in what people are shown.
func wantNoKey(t testing.TB, key, shown string) {
	t.Helper()
	if b, err := os.ReadFile(key); err == nil {
		key = string(b)
	}
	for _, piece := range append(regexp.MustCompile(`[A-Za-z0-9+/]{24,}`).FindAllString(key, -1), passphrase, "wrong-horse-battery") {
		if strings.Contains(shown, piece) {
			t.Errorf("shows %.12q…: %s", piece, shown)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	good := openSSH(t, newKey(t, "ed25519"), "")
	damaged := strings.Replace(good, "b3BlbnNz", "B3BlbnNz", 1)
	sec1 := made(t, "openssl ecparam -name prime256v1 -genkey -noout -out key")
	pkcs8 := made(t, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key")
	sealed := made(t, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -aes-256-cbc -pass pass:horse -out key")
	without := func(key string, last int) string { // so many lines before the one that ends it
		lines := strings.Split(strings.TrimSpace(key), "\n")
		return strings.Join(append(lines[:len(lines)-1-last:len(lines)-1-last], lines[len(lines)-1]), "\n") + "\n"
	}
	half, err := ssh.NewPublicKey(newKey(t, "ed25519").Public())
	if err != nil {
		t.Fatal(err)
	}
	public := authorizedKey(half)
	for form, c := range map[string]struct{ key, says string }{
		"the path of a file that is not there":                 {"/nonexistent/id_ed25519", "cannot be read"},
		"the path of a directory":                              {t.TempDir(), "cannot be read"},
		"an empty file":                                        {file(t, ""), "not a private key"},
		"two lines of text":                                    {"a line\nand another", "neither a path nor"},
		"a text of 5000 characters":                            {strings.Repeat("x", 5000), "neither a path nor"},
		"three lines from the middle of a key":                 {strings.Join(strings.Split(good, "\n")[1:4], "\n"), "not a whole private key"},
		"base64 of a text that is no key":                      {base64.StdEncoding.EncodeToString([]byte("a text that is not a key, of any kind")), "is a text of 52 characters that is neither a path nor"},
		"a long path that is not there":                        {"/etc/" + strings.Repeat("x", 50), `(a path of 55 characters, of which "/etc" exists) cannot be read: no such file`},
		"the text of a key that is damaged":                    {damaged, "not a private key"},
		"a key file that is damaged":                           {file(t, damaged), "not a private key"},
		"the text of a key that is cut off":                    {good[:len(good)/2], "not a whole private key"},
		"a key without its last lines but END":                 {without(good, 2), "not a whole private key"},
		"a key file of openssl without its last lines but END": {file(t, without(pkcs8, 2)), "not a whole private key"},
		"a key of RSA without its last lines but END":          {without(made(t, "ssh-keygen -qt rsa -b 2048 -N '' -f key"), 5), "not a whole private key"},
		"a sealed key without its first line":                  {strings.Replace(sealed, strings.Split(sealed, "\n")[1]+"\n", "", 1), "not a whole private key"},
		"an encrypted key without its last lines but END":      {without(made(t, "ssh-keygen -qt ed25519 -N 'correct horse' -f key"), 2), "not a whole private key"},
		"the first line of a key alone":                        {"-----BEGIN OPENSSH PRIVATE KEY-----", "not a whole private key"},
		"the first half of a key of openssl":                   {sec1[:len(sec1)/2], "not a whole private key"},
		"the second half of a key of openssl":                  {sec1[len(sec1)/2:], "not a whole private key"},
		"a word that is no file":                               {"hunter2", "key (a text of 7 characters) cannot be read"},
		"one with a slash":                                     {"hun/ter!2", "key (a text of 9 characters) cannot be read"},
		"a .pub file":                                          {file(t, public), "public key"},
		"a binary file that is no key":                         {file(t, "\x00\x01\xff"), "not a private key"},
		"a .ppk file":                                          {file(t, "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"), "PuTTY"},
		"a key of ssh-keygen -t rsa1":                          {file(t, "SSH PRIVATE KEY FILE FORMAT 1.1\n\x00\x03\x00"), "version 1 of SSH"},
		"the text of a .ppk file":                              {"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY"},
		"a FIFO":                                               {fifo(t), "not a regular file"},
		"a device":                                             {"/dev/zero", "not a regular file"},
		"a link to a device":                                   {link(t, "/dev/zero"), "not a regular file"},
		"a file that is too large":                             {file(t, strings.Repeat("x", maxKeyFile+1)), "holds more than"},
		"a certificate of X.509 alone":                         {file(t, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "without a private key"},
	} {
		t.Run(form, func(t *testing.T) {
			_, err := LoadKeys(c.key, "")
			e := wantFault(t, err, fault.ErrConfig, true)
			if !strings.Contains(e.Error(), c.says) || e.Hint == "" {
				t.Errorf("%q, hint %q; want %q", e.Error(), e.Hint, c.says)
			}
			if strings.ContainsAny(c.key, "\n ") || len(c.key) > 1024 {
				wantNoKey(t, c.key, fmt.Sprintf("%+v %s", err, e.Hint))
			}
			compat.Row(t, "keys", form, compat.Outcome(err))
		})
	}
}

// fifo is the path of one that nobody writes to: to open it waits for ever.
func fifo(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t testing.TB, to string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// A key may want months of work to be opened: the number of rounds stands in its file (PROTOCOL.key
// of OpenSSH). It is not begun with, and an ordinary key is opened once, not for each login.
func TestKeysThatAreExpensive(t *testing.T) {
	text := openSSH(t, newKey(t, "ed25519"), passphrase)
	block, _ := pem.Decode([]byte(text))
	at := bytes.Index(block.Bytes, []byte("bcrypt")) + len("bcrypt") + 4 + 4 + 16 // the lengths of options and salt, and the salt
	if rounds := binary.BigEndian.Uint32(block.Bytes[at:]); rounds > 100 {
		t.Fatalf("%d rounds: not what is looked for", rounds)
	}
	binary.BigEndian.PutUint32(block.Bytes[at:], 1<<30)
	_, err := LoadKeys(string(pem.EncodeToMemory(block)), passphrase)
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "cannot be opened") || !strings.Contains(e.Hint.String(), "as long as its file asks for; or make a new one: ssh-keygen -t ed25519") {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	compat.Row(t, "keys", "a key that takes months to open: its file says 1 073 741 824 rounds", compat.Outcome(err))
	for form, key := range map[string]string{"text": text, "file": file(t, text)} {
		keys, err := LoadKeys(key, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		signer := keys.files[0].signer
		if l, err := keys.Login(t.Context()); err != nil || l.offers[0].signer != signer {
			t.Errorf("%s: opened anew, %v", form, err)
		}
	}
}

func TestDefaultKeys(t *testing.T) {
	leak.Check(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	_, err := LoadKeys("", "")
	wantFault(t, err, fault.ErrConfig, true)
	put := func(name, text string) {
		path := filepath.Join(home, ".ssh", name)
		_ = os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("id_ed25519", "damaged")
	_, err = LoadKeys("", "")
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "~/.ssh/id_ed25519") {
		t.Errorf("%v", err)
	}
	s := sshdtest.Start(t, sshdtest.Options{})
	put("id_ecdsa", openSSH(t, newKey(t, "ecdsa"), "")) // the server does not know it
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	put("id_rsa", string(text))
	if _, err := with(t, s, KeySource{}); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedKey(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	keys, err := LoadKeys(s.NewKeyFile("ecdsa"), "")
	if err != nil {
		t.Fatal(err)
	}
	e := wantFault(t, again(t, s, keys), fault.ErrAuth, true)
	if line := keys.files[0].public; !strings.Contains(e.Hint.String(), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))) {
		t.Errorf("hint %q, want the line for authorized_keys", e.Hint)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, keys); strings.Contains(shown, "Signer") {
		t.Errorf("a key shows itself: %s", shown)
	}
}
