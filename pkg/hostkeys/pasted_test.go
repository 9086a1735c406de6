// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostkeys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const proxy = "proxy.example.com:2222"

// pubFile is the path of a new host key's public half.
func pubFile(t testing.TB, args ...string) (path string, key ssh.PublicKey) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ssh_host_key")
	keygen(t, append([]string{"-q", "-N", "", "-C", "root@proxy", "-f", path}, args...)...)
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if key, _, _, _, err = ssh.ParseAuthorizedKey(text); err != nil {
		t.Fatal(err)
	}
	return path + ".pub", key
}

func keygen(t testing.TB, args ...string) string {
	t.Helper()
	said, err := exec.Command("ssh-keygen", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, said)
	}
	return string(said)
}

// What people copy from a terminal, a file or a page is taken as it is.
func TestPastedHostKeys(t *testing.T) {
	path, key := pubFile(t, "-t", "ed25519")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pub, pin := string(text), ssh.FingerprintSHA256(key)
	_, other := pubFile(t, "-t", "rsa", "-b", "2048")
	digits := fmt.Sprintf("%x", sha256.Sum256(key.Marshal()))
	rows := []struct{ name, text string }{
		{"the fingerprint", pin},
		{"the fingerprint without SHA256:", strings.TrimPrefix(pin, "SHA256:")},
		{"the fingerprint, with base64's last =", pin + "="},
		{"the fingerprint in quotes, as docker --env-file keeps them", `"` + pin + `"`},
		{"the fingerprint in hexadecimal digits", "SHA256:" + digits},
		{"the fingerprint in hexadecimal digits, without its label", digits},
		{"the fingerprint in hexadecimal digits with colons", regexp.MustCompile("..").ReplaceAllString(digits, ":$0")[1:]},
		{"several fingerprints", ssh.FingerprintSHA256(other) + ", " + pin},
		{"the line of ssh-keygen -lf", keygen(t, "-lf", path)},
		{"the line of ssh-keygen -lf, without its length", strings.SplitN(keygen(t, "-lf", path), " ", 2)[1]},
		{"the picture of ssh-keygen -lvf", keygen(t, "-lvf", path)},
		{"the question that ssh asks", "The authenticity of host 'proxy (192.0.2.7)' can't be established.\nED25519 key fingerprint is " + pin + ".\nThis key is not known by any other names.\n"},
		{"the lines that proxy setup ends with", "The proxy is ready. Its host key: " + pin + "\n"},
		{"the .pub line", pub},
		{"the .pub line without its comment", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))},
		{"the middle of the .pub line", strings.Fields(pub)[1]},
		{"the path of the .pub file", path},
		{"the path of a file with the line of ssh-keygen -lf", file(t, keygen(t, "-lf", path))},
		{"the path of a file, in quotes", "'" + path + "'"},
		{"the path of a file as a URL", "file://" + path},
		{"a known_hosts line", line("[proxy.example.com]:2222", key)},
		{"a known_hosts line with a name in capitals", line("[Proxy.Example.COM]:2222", key)},
		{"a known_hosts line in one text with \\n", "# proxy:22 SSH-2.0-OpenSSH_9.2" + `\n` + line("[proxy.example.com]:2222", key) + `\n`},
		{"a known_hosts line of another program, which hashed the name", line(knownhosts.HashHostname("[proxy.example.com]:2222"), key)},
		{"known_hosts with a line in which base64 is broken", file(t, "other ssh-ed25519 AAAAC3Nz!\n"+line("[proxy.example.com]:2222", key))},
		{"known_hosts with two lines run together", file(t, line("other", other)+line("third", other)+"\n"+line("[proxy.example.com]:2222", key))},
		{"known_hosts with a key of a kind that is not known yet", file(t, "other ssh-mldsa44@openssh.com "+blob("ssh-mldsa44@openssh.com", 1312)+"\n"+line("[proxy.example.com]:2222", key))},
		{"known_hosts with a line of prose", "the proxy has\n" + line("[proxy.example.com]:2222", key)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h, err := New(row.text)
			if err == nil {
				err = h.Check(proxy, &net.TCPAddr{}, key)
			}
			if err != nil {
				t.Fatalf("host_key=%q: %v", row.text, err)
			}
			if err := h.Check(proxy, &net.TCPAddr{}, newKey(t)); !errors.Is(err, fault.ErrHostKey) {
				t.Errorf("trusts another key: %v", err)
			}
			compat.Row(t, "host keys", row.name, compat.Taken)
		})
	}
}

// blob is base64 of a key of some kind, and of so many bytes.
func blob(kind string, size int) string {
	return base64.StdEncoding.EncodeToString(ssh.Marshal(struct{ Kind, Key string }{kind, strings.Repeat("k", size)}))
}

// What cannot be taken is told, with what to do.
func TestPastedTextsThatAreRefused(t *testing.T) {
	path, key := pubFile(t, "-t", "ed25519")
	private, err := os.ReadFile(strings.TrimSuffix(path, ".pub"))
	if err != nil {
		t.Fatal(err)
	}
	_, secret, _ := ed25519.GenerateKey(nil)
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := base64.StdEncoding.EncodeToString(der)
	for _, row := range []struct{ name, text, says string }{
		{"an MD5 fingerprint", keygen(t, "-l", "-E", "md5", "-f", path), "another hash than SHA256"},
		{"an MD5 fingerprint without MD5:", "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "another hash than SHA256"},
		{"an MD5 fingerprint without MD5: and colons", "1627aca576282d36631b564debdfa648", "that has 64 digits, and 32 are MD5's"},
		{"a fingerprint in hexadecimal digits that is cut off", fmt.Sprintf("%x", sha256.Sum256(key.Marshal()))[:50], "that has 64 digits"},
		{"a fingerprint in digits with colons that is cut off", "16:27:ac:a5:76:28:2d:36:63:1b", "that has 64 digits"},
		{"base64 of a private key", base64.StdEncoding.EncodeToString(private), "is a private key"},
		{"the body of a private key", strings.Join(strings.Split(strings.TrimSpace(string(private)), "\n")[1:6], ""), "is a private key"},
		{"the body of a private key of openssl", pkcs8, "is a private key"},
		{"base64 of something else", base64.StdEncoding.EncodeToString(make([]byte, 400)), "has neither a fingerprint nor a known_hosts line"},
		{"a SHA512 fingerprint", keygen(t, "-l", "-E", "sha512", "-f", path), "another hash than SHA256"},
		{"the README's own dots", "SHA256:…", `host_key "SHA256:…" is not a SHA256 fingerprint`},
		{"a fingerprint that is cut off", ssh.FingerprintSHA256(key)[:30], "is not a SHA256 fingerprint"},
		{"the path of a private host key", strings.TrimSuffix(path, ".pub"), "is a private key"},
		{"a known_hosts line that is cut off", "proxy ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "host_key has neither a fingerprint nor a known_hosts line with a whole key of a known kind"},
		{"a known_hosts line of a kind that is not known yet", "proxy ssh-mldsa44@openssh.com " + blob("ssh-mldsa44@openssh.com", 1312), "neither a fingerprint nor a known_hosts line"},
		{"a file with a fingerprint that was commented out", file(t, "# "+ssh.FingerprintSHA256(key)+"\n"), "holds no host key"},
		{"a path with blanks that is not there", "/no such/known_hosts", `host_key "/no such/known_hosts" is no host key, and cannot be read as a file: `},
		{"a word that is no file", "hunter2", "host_key (a text of 7 characters) is no host key, and cannot be read as a file of the working directory: "},
		{"a secret's name", "secret:scope/host_key", "host_key names a secret"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := New(row.text)
			if !errors.Is(err, fault.ErrConfig) || !strings.Contains(err.Error(), row.says) || fault.From(err).Hint == "" {
				t.Errorf("%v, want %q", err, row.says)
			}
			compat.Row(t, "host keys", row.name, compat.Outcome(err))
		})
	}
}

// A line that is not understood is named where no other one helps.
func TestLinesPassedOverAreNamed(t *testing.T) {
	key := newKey(t)
	path := file(t, line("other", key)+"\nproxy.example.com ssh-ed25519 AAAAC3!\nproxy.example.com ssh-mldsa44@openssh.com "+blob("ssh-mldsa44@openssh.com", 1312)+"\n")
	h, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	err = h.Check("proxy.example.com:22", &net.TCPAddr{}, key)
	if want := fmt.Sprintf("line 2 of %q and 1 more are not understood and were passed over", path); !errors.Is(err, fault.ErrHostKey) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// A fingerprint without its label may be something else that was pasted into the wrong place.
func TestWhatMayBeASecretIsNotShown(t *testing.T) {
	secret := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("s", 32)))
	h, err := New(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Check(proxy, &net.TCPAddr{}, newKey(t)); !errors.Is(err, fault.ErrHostKey) || strings.Contains(err.Error(), secret[:12]) {
		t.Error(err)
	}
}

// IPv6 addresses stand in known_hosts without brackets where the port is 22, in their shortest form, hashed or not; x/crypto
// writes brackets, and ssh-keyscan what was typed.
func TestIPv6InKnownHosts(t *testing.T) {
	key := newKey(t)
	path := file(t, line("2001:db8::1", key)+"\n")
	keygen(t, "-q", "-H", "-f", path)
	for _, row := range []struct{ name, text, addr string }{
		{"plain", line("2001:db8::1", key), "[2001:db8::1]:22"},
		{"in brackets", line("[2001:db8::1]", key), "[2001:db8::1]:22"},
		{"in brackets, at another port", line("[2001:db8::1]:2222", key), "[2001:db8::1]:2222"},
		{"hashed by ssh-keygen", path, "[2001:db8::1]:22"},
		{"hashed by x/crypto", line(knownhosts.HashHostname("[2001:db8::1]"), key), "[2001:db8::1]:22"},
		{"in full, and the server in short", line("2001:0db8:0000:0000:0000:0000:0000:0001", key), "[2001:db8::1]:22"},
		{"in short, and the server in full", line("2001:db8::1", key), "[2001:0DB8:0:0:0:0:0:1]:22"},
		{"hashed, and the server in full", path, "[2001:0db8:0:0:0:0:0:1]:22"},
		{"with a zone", line("fe80::1%eth0", key), "[fe80::1%eth0]:22"},
	} {
		h, err := New(row.text)
		if err == nil {
			err = h.Check(row.addr, &net.TCPAddr{}, key)
		}
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		compat.Row(t, "host keys", "an IPv6 address in known_hosts, "+row.name, compat.Outcome(err))
	}
}

// An organisation's file of 20 000 hosts with hashed names takes little more than to write it, 2.3 s before its
// lines were read without a file for each. No directory has to be writable for what is public.
func TestKnownHostsOfAnOrganisation(t *testing.T) {
	key, other := newKey(t), newKey(t)
	var text strings.Builder
	start := busy(t)
	for n := range 20000 {
		fmt.Fprintln(&text, line(knownhosts.HashHostname(fmt.Sprintf("host%d.example.com", n)), other))
	}
	fmt.Fprintln(&text, line(knownhosts.HashHostname("[proxy.example.com]:2222"), key))
	wrote := busy(t) - start
	path := file(t, text.String())
	t.Setenv("TMPDIR", "/nonexistent")
	start = busy(t)
	h, err := New("", path)
	if err == nil {
		_ = h.Offers(proxy)
		err = h.Check(proxy, &net.TCPAddr{}, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := busy(t) - start
	t.Logf("read and asked in %v, written in %v", read, wrote)
	if read > 3*wrote {
		t.Errorf("to read it took %v, to write it %v", read, wrote)
	}
	compat.Row(t, "host keys", "known_hosts of 20 000 hosts whose names are hashed", compat.Taken)
}

// busy is the processor's time that this process had: on a busy machine the clock says little.
func busy(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
