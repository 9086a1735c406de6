// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// made runs a shell script that leaves a key in the file "key", and returns its text. $P is the passphrase.
func made(t testing.TB, script string) string {
	t.Helper()
	c := exec.Command("sh", "-ec", script)
	c.Dir, c.Env = t.TempDir(), append(os.Environ(), "P="+passphrase)
	if out, err := c.CombinedOutput(); err != nil {
		if _, err := os.Stat(os.Getenv("DSA")); err != nil && strings.Contains(script, "$DSA") {
			missing.Skip(t, "this ssh-keygen has no DSA, as from OpenSSH 10 on")
		}
		for _, program := range []string{"ssh-keygen", "openssl", "puttygen"} {
			if _, err := exec.LookPath(program); err != nil && strings.Contains(script, program) {
				missing.Skip(t, "%s is not installed", program)
			}
		}
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	text, err := os.ReadFile(filepath.Join(c.Dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	damagedOrOther = "it is damaged, or of another kind than Ed25519, RSA, and ECDSA with P-256, P-384 or P-521"
	otherwise      = "is encrypted in a way that cannot be opened here"
)

// What programs write, as a file and as text: taken, or told what it is and how to make a key of it.
func TestKeysOfPrograms(t *testing.T) {
	type row struct{ name, script, refused, hint string }
	dsa := filepath.Join(t.TempDir(), "dsa") // takes a second to make
	t.Setenv("DSA", dsa)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "dsa", "-N", "", "-f", dsa).CombinedOutput(); err != nil {
		t.Logf("no DSA: %s", out)
	}
	var rows []row
	for _, kind := range []string{"ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048"} {
		for _, format := range []string{"RFC4716", "PEM", "PKCS8"} {
			for _, with := range []string{"", "$P"} {
				rows = append(rows, row{name: fmt.Sprintf("ssh-keygen -t %s -m %s%s", kind, format, map[bool]string{true: ", with a passphrase"}[with != ""]),
					script: fmt.Sprintf(`ssh-keygen -q -t %s -m %s -a 1 -N "%s" -f key`, kind, format, with)})
			}
		}
	}
	for _, cipher := range []string{"aes256-ctr", "aes256-cbc"} {
		rows = append(rows, row{name: "ssh-keygen -Z " + cipher, script: `ssh-keygen -q -t ed25519 -a 1 -N "$P" -f key -Z ` + cipher})
	}
	for _, cipher := range []string{"aes128-ctr", "3des-cbc", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"} {
		rows = append(rows, row{"ssh-keygen -Z " + cipher, `ssh-keygen -q -t ed25519 -a 1 -N "$P" -f key -Z ` + cipher, otherwise, "ssh-keygen -p"})
	}
	for _, format := range []string{"RFC4716", "PEM", "PKCS8"} {
		for _, with := range []string{"", "$P"} {
			rows = append(rows, row{"DSA, -m " + format + map[bool]string{true: ", with a passphrase"}[with != ""],
				fmt.Sprintf(`ssh-keygen -q -p -m %s -a 1 -P "" -N "%s" -f $DSA; cp $DSA key; ssh-keygen -q -p -m PEM -P "%s" -N "" -f $DSA`, format, with, with), "is a DSA key", "ssh-keygen -t ed25519"})
		}
		rows = append(rows, row{"ssh-keygen -e -m " + format, `ssh-keygen -q -t rsa -b 2048 -N "" -f k; ssh-keygen -e -m ` + format + ` -f k >key`, "is a public key", ".pub"})
	}
	rows = append(rows, []row{
		{name: "openssl genpkey -algorithm ED25519", script: "openssl genpkey -algorithm ED25519 -out key"},
		{name: "openssl genpkey -outform DER", script: "openssl genpkey -algorithm ED25519 -outform DER -out key"},
		{name: "openssl genrsa", script: "openssl genrsa -out key 2048"},
		{name: "openssl genrsa -traditional -aes256", script: `openssl genrsa -traditional -aes256 -passout "pass:$P" -out key 2048`},
		{name: "openssl genrsa -traditional -des3", script: `openssl genrsa -traditional -des3 -passout "pass:$P" -out key 2048`},
		{name: "openssl ecparam -genkey, with EC PARAMETERS before the key", script: "openssl ecparam -name prime256v1 -genkey -out key"},
		{name: "openssl ecparam -param_enc explicit, as macOS' ssh-keygen -m PEM", script: "openssl ecparam -name prime256v1 -param_enc explicit -genkey -noout -out key"},
		{name: "openssl ecparam -param_enc explicit, with P-521", script: "openssl ecparam -name secp521r1 -param_enc explicit -genkey -noout -out key"},
		{name: "openssl ecparam -param_enc explicit, with a passphrase, as macOS' ssh-keygen -m PEM", script: `openssl ecparam -name prime256v1 -param_enc explicit -genkey -noout | openssl ec -aes128 -passout "pass:$P" -out key`},
		{name: "openssl genpkey -pkeyopt ec_param_enc:explicit", script: "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:explicit -out key"},
		{name: "openssl genpkey -pkeyopt ec_param_enc:explicit, with a passphrase", script: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit -aes256 -pass "pass:$P" -out key`},
		{"an explicit curve that is none of NIST's", "openssl ecparam -name secp256k1 -param_enc explicit -genkey -noout -out key", damagedOrOther, "ssh-keygen -t ed25519"},
		{name: "PKCS#8 under EC PRIVATE KEY, as OpenSSH wrote in FIPS mode", script: "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | sed 's/ PRIVATE/ EC PRIVATE/' >key"},
		{name: "PKCS#8 under RSA PRIVATE KEY, as OpenSSH wrote in FIPS mode", script: "openssl genrsa 2048 | sed 's/ PRIVATE/ RSA PRIVATE/' >key"},
		{name: "a certificate of X.509 and its key in one file", script: "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out c; cat c k >key"},
		{name: "openssl pkcs12 -nodes, with Bag Attributes", script: "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out c; openssl pkcs12 -export -inkey k -in c -passout pass: -out p; openssl pkcs12 -in p -passin pass: -nodes -out key"},
		{"a PKCS#12 file", `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out c; openssl pkcs12 -export -inkey k -in c -passout "pass:$P" -out key`, "is a PKCS#12 file", "openssl pkcs12 -in FILE"},
		{"a PKCS#12 file with RC2 (openssl pkcs12 -legacy, Windows)", `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out c; openssl pkcs12 -legacy -export -inkey k -in c -passout "pass:$P" -out key`, "is a PKCS#12 file", "-legacy"},
		{"a certificate of X.509 alone", "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k -out key", "is a certificate of X.509 without a private key", "ssh-keygen"},
		{"openssl rsa -pubout", "openssl genrsa 2048 | openssl rsa -pubout -out key", "is a public key", ".pub"},
		{"openssl genpkey -algorithm ED448", "openssl genpkey -algorithm ED448 -out key", damagedOrOther, "ssh-keygen -t ed25519"},
		{"openssl ecparam -name secp256k1", "openssl ecparam -name secp256k1 -genkey -noout -out key", damagedOrOther, "ssh-keygen -t ed25519"},
		{"openssl pkcs8 -scrypt", `openssl genpkey -algorithm ED25519 | openssl pkcs8 -topk8 -scrypt -passout "pass:$P" -out key`, otherwise, "openssl pkcs8 -topk8"},
		{"openssl pkcs8 -v1 PBE-SHA1-3DES", `openssl genpkey -algorithm ED25519 | openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout "pass:$P" -out key`, otherwise, "openssl pkcs8 -topk8"},
		{"openssl genrsa -traditional -camellia256", `openssl genrsa -traditional -camellia256 -passout "pass:$P" -out key 2048`, otherwise, "ssh-keygen -p"},
		{"puttygen -O private, its .ppk", ppk + "mv k.ppk key", "is in PuTTY's format", "puttygen key.ppk -O private-openssh -o id_key"},
		{"puttygen -O private, with a passphrase", strings.Replace(ppk, "/dev/null", "word", 1) + "mv k.ppk key", "is in PuTTY's format", "puttygen key.ppk"},
		{name: "puttygen -O private-openssh, as the error says", script: ppk + "mv k.ppk key.ppk; puttygen key.ppk -O private-openssh -o id_key; mv id_key key"},
		{"puttygen -O private-sshcom, with a passphrase", strings.Replace(ppk, "ed25519", "rsa", 1) + "puttygen k.ppk -O private-sshcom -o key --new-passphrase word", "is in ssh.com's format", "puttygen KEY -O private-openssh"},
		{"puttygen -O private-sshcom", strings.Replace(ppk, "ed25519", "rsa", 1) + "puttygen k.ppk -O private-sshcom -o key", "is in ssh.com's format", "puttygen KEY -O private-openssh"},
	}...)
	read := func(t *testing.T, text string) string { // by ssh-keygen; "": it does not read it
		out, err := exec.Command("ssh-keygen", "-y", "-P", passphrase, "-f", file(t, text)).Output()
		if err != nil && strings.Contains(t.Name(), "ssh-keygen_-t") {
			t.Errorf("ssh-keygen does not read its own: %v", err)
		}
		if err != nil {
			return ""
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey(out)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprintOf(public)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			text := made(t, row.script)
			for form, key := range map[string]string{"file": file(t, text), "text": text} {
				if strings.ContainsRune(text, 0) && form == "text" {
					continue // binary
				}
				if form == "text" && strings.Contains(text, "BEGIN CERTIFICATE") && row.refused != "" {
					continue // no key of any kind
				}
				keys, err := LoadKeys(key, passphrase)
				if row.refused == "" {
					if err != nil {
						t.Errorf("%s: %v", form, err)
					} else if want := read(t, text); want != "" && keys.ID() != want {
						t.Errorf("%s: key %s, for ssh-keygen it is %s", form, keys.ID(), want)
					}
					compat.Row(t, "keys", row.name, compat.Taken)
					continue
				}
				if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), row.refused) || !strings.Contains(e.Hint.String(), row.hint) {
					t.Errorf("%s: %v, hint %s; want %q, %q", form, e, e.Hint, row.refused, row.hint)
				}
				if form == "file" {
					remedied(t, err, text)
					compat.Row(t, "keys", row.name, compat.Outcome(err))
				}
			}
		})
	}
}

// remedies are commands in hints that make a key of what is refused.
var remedies = regexp.MustCompile(`(?:ssh-keygen -p|openssl|puttygen) [^(]*\b`)

// remedied runs the command that a refusal names, as someone who knows the passphrase: what it makes is taken.
func remedied(t *testing.T, err error, text string) {
	t.Helper()
	e, _ := errors.AsType[*fault.Error](err)
	command := remedies.FindString(e.Hint.String())
	if command == "" {
		return
	}
	path, word := file(t, text), file(t, passphrase)
	answers := map[string]string{"ssh-keygen": "-P " + passphrase + " -N " + passphrase, "openssl pkcs12": "-passin pass:" + passphrase,
		"openssl pkcs8": "-passin pass:" + passphrase + " -passout pass:" + passphrase, "puttygen": "--old-passphrase " + word + " --new-passphrase " + word}
	for program, answer := range answers {
		if strings.HasPrefix(command, program) {
			command += " " + answer
		}
	}
	if strings.Contains(t.Name(), "RC2") {
		command += " -legacy"
	}
	words := strings.Fields(command)
	for i, word := range words {
		if word == "KEY" || word == "FILE" || word == "key.ppk" {
			words[i] = path
		}
	}
	c := exec.Command(words[0], words[1:]...)
	c.Dir = filepath.Dir(path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	if strings.Contains(command, "id_key") {
		path = filepath.Join(c.Dir, "id_key")
	}
	if _, err := LoadKeys(path, passphrase); err != nil {
		t.Errorf("what %q makes: %v", command, err)
	}
}

// ppk makes k.ppk.
const ppk = `echo "$P" >word; puttygen -q -t ed25519 -o k.ppk --new-passphrase /dev/null; `

// What notebooks, secret stores, shells and mail make of a key's text.
func TestKeysOfStores(t *testing.T) {
	text := openSSH(t, newKey(t, "ed25519"), "")
	flat, file64 := strings.TrimSpace(text), base64.StdEncoding.EncodeToString([]byte(text))
	escaped := strings.ReplaceAll(flat, "\n", `\n`)
	var wide []byte
	for _, r := range text {
		wide = binary.LittleEndian.AppendUint16(wide, uint16(r))
	}
	path := file(t, text)
	for _, row := range []struct{ name, key string }{
		{"a line of an .env file", `TAIPY_TUNNEL_KEY="` + escaped + `"`},
		{"a shell's line, export KEY='…'", "export KEY='" + text + "'"},
		{"JSON of a secret store, with the key in it", `{"username": "me", "key": "` + escaped + `\n"}`},
		{"JSON as PHP writes it", `{"key": "` + strings.ReplaceAll(escaped, "/", `\/`) + `"}`},
		{"a block of YAML", "key: |\n  " + strings.ReplaceAll(flat, "\n", "\n  ") + "\n"},
		{"base64 of base64, as of a secret of Kubernetes that was one before", base64.StdEncoding.EncodeToString([]byte(file64))},
		{"base64 of UTF-16, as PowerShell's [Text.Encoding]::Unicode makes it", base64.StdEncoding.EncodeToString(wide)},
		{"base64 of a file with CRLF", base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(text, "\n", "\r\n")))},
		{"a file in UTF-16 without a byte order mark", file(t, string(wide))},
		{"the text of a key with a blank line before END", strings.Replace(text, "-----END", "\n-----END", 1)},
		{"a file that was mailed, with words around the key", file(t, "Here it is:\n\n"+text+"\nRegards\n")},
		{"a path in quotes, as docker --env-file keeps them", `"` + path + `"`},
		{"a path with a line end", path + "\n"},
		{"a path as file:/, as Databricks' tools write it", "file:" + path},
		{"a path as file://", "file://" + path},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := LoadKeys(row.key, "")
			if err != nil {
				t.Error(err)
			}
			compat.Row(t, "keys", row.name, compat.Outcome(err))
		})
	}
}

// Encrypted keys of PEM keep two lines before the body, which are lost with the line ends.
func TestSealedPEMOnOneLine(t *testing.T) {
	for _, script := range []string{
		`openssl genrsa -traditional -aes256 -passout "pass:$P" -out key 2048`,
		`openssl genrsa -traditional -des3 -passout "pass:$P" -out key 2048`,
		`ssh-keygen -q -t ecdsa -m PEM -N "$P" -f key`,
	} {
		for form, key := range mangled(made(t, script)) {
			if strings.Contains(form, "BEGIN") || strings.Contains(form, "END") {
				continue // these are base64 alone
			}
			_, err := LoadKeys(key, passphrase)
			if err != nil {
				t.Errorf("%s, %s: %v", script, form, err)
			}
			if strings.HasSuffix(form, "for newlines") {
				compat.Row(t, "keys", "the text of an encrypted key of PEM "+form, compat.Outcome(err))
			}
		}
	}
}

func TestPathsThatAreNoKeys(t *testing.T) {
	cert := "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"
	for _, row := range []struct{ name, key, says, hint string }{
		{"a path of dbfs:/ that is not there", "dbfs:/FileStore/keys/id", "cannot be read: no such file", "has /dbfs: put it below /Volumes or /Workspace"},
		{"a path of /dbfs that is not there", "/dbfs/FileStore/keys/id", "cannot be read: no such file", "has /dbfs: put it below /Volumes or /Workspace"},
		{"a path of dbfs:/Volumes that is not there", "dbfs:/Volumes/main/keys/id", "cannot be read: no such file", "path exists on this machine"},
		{"a path of file:/ that is not there", "file:/Workspace/keys/id", "cannot be read: no such file", "path exists on this machine"},
		{"a path of /Volumes that is not there", "/Volumes/main/keys/id", "cannot be read: no such file", "path exists on this machine"},
		{"a URL of s3://", "s3://bucket/id", "key is a URL", "/Volumes or /Workspace"},
		{"a URL of abfss://", "abfss://c@account.dfs.core.windows.net/id", "key is a URL", "/Volumes or /Workspace"},
		{"a certificate of ssh-keygen -s without its key", cert, "key is a certificate alone", "private key before it"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := LoadKeys(row.key, "")
			if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), row.says) || !strings.Contains(e.Hint.String(), row.hint) {
				t.Errorf("%v, hint %s; want %q, %q", e, e.Hint, row.says, row.hint)
			} else if strings.Contains(e.Hint.String(), "/dbfs") != strings.Contains(row.hint, "/dbfs") {
				t.Errorf("/dbfs is not where that is: %s", e.Hint)
			}
			compat.Row(t, "keys", row.name, compat.Outcome(err))
		})
	}
}

// A configuration all of whose files were passed over says so, in place of "there is no".
func TestConfigurationThatNamesNoKey(t *testing.T) {
	_, err := NewKeys(t.Context(), KeySource{Files: []string{}})
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "there is no IdentityFile in ssh's configuration that can be used here") {
		t.Error(e)
	}
}
