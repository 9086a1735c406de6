// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostkeys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
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

func TestHostKeysThatCannotBeUnderstood(t *testing.T) {
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newKey(t))))
	for form, text := range map[string]string{
		"short fingerprint": "SHA256:abc",
		"long fingerprint":  "SHA256:" + strings.Repeat("A", 44),
		"one bad of two":    "SHA256:" + strings.Repeat("A", 43) + " SHA256:x",
		"MD5":               "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
		"missing file":      filepath.Join(t.TempDir(), "none"),
		"directory":         t.TempDir(),
		"FIFO":              fifo(t),
		"device":            link(t, "/dev/zero"),
		"huge file":         file(t, strings.Repeat("#\n", maxKnownHosts)),
		"empty file":        file(t, "\n# nothing\n"),
		"binary file":       file(t, "\x00\xff\n"),
		"damaged key":       "proxy ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
		"unknown mark":      "@trusted proxy " + public,
		"private key":       "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n",
	} {
		t.Run(form, func(t *testing.T) {
			_, err := New(text)
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || !errors.Is(err, fault.ErrConfig) || !e.Permanent || e.Hint == "" {
				t.Fatalf("error %v (%T), want a permanent one of class %v with a hint", err, err, fault.ErrConfig)
			}
			if strings.Contains(err.Error(), "b3BlbnNzaC1rZXktdjEA") {
				t.Errorf("quotes a key: %v", err)
			}
		})
	}
}

// The known_hosts of an organisation is taken by its path as it is from ~/.ssh.
func TestLargeFileThatIsNamed(t *testing.T) {
	var text strings.Builder
	other := newKey(t)
	for i := range 20_000 {
		text.WriteString(line(knownhosts.HashHostname(fmt.Sprint("host", i)), other) + "\n")
	}
	key := newKey(t)
	h, err := New(file(t, text.String()+line("proxy", key)))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Check("proxy:22", &net.TCPAddr{}, key); err != nil {
		t.Error(err)
	}
}

// A file that the system names need not be one of text: /dev/null stands for none.
func TestFilesThatAreNone(t *testing.T) {
	if _, err := New("", fifo(t), "/dev/null"); err != nil {
		t.Error(err)
	}
}

// UTF-16, as PowerShell's > and Notepad write it, a byte order mark, and the quotes that docker's --env-file keeps: what is meant is trusted,
// and nothing else.
func TestKnownHostsAsOtherProgramsWriteThem(t *testing.T) {
	key := newKey(t)
	known := "[127.0.0.1]:22 " + string(ssh.MarshalAuthorizedKey(key))
	inUTF16 := func(order binary.AppendByteOrder) string {
		text := order.AppendUint16(nil, 0xfeff)
		for _, r := range known {
			text = order.AppendUint16(text, uint16(r))
		}
		return string(text)
	}
	for _, row := range []struct{ form, tried, text string }{
		{"little end first", "known_hosts in UTF-16 (PowerShell's >, Notepad)", file(t, inUTF16(binary.LittleEndian))},
		{"big end first", "known_hosts in UTF-16, the big end first", file(t, inUTF16(binary.BigEndian))},
		{"a mark in a file", "known_hosts with a byte order mark", file(t, "\ufeff"+known)},
		{"a mark in a text", "a known_hosts line with a byte order mark", "\ufeff" + known},
		{"quotes", "a known_hosts line in quotes, as docker --env-file keeps them", `"` + strings.TrimSpace(known) + `"`},
		{"quotes and \\n", "known_hosts lines in quotes, with \\n", `'` + strings.Replace("other.example "+string(ssh.MarshalAuthorizedKey(newKey(t)))+known, "\n", `\n`, 1) + `'`},
		{"a mark and quotes", "a known_hosts line in quotes, with a byte order mark", "\ufeff\"" + known + `"`},
	} {
		h, err := New(row.text)
		if err == nil {
			err = h.Check("127.0.0.1:22", &net.TCPAddr{}, key)
		}
		if err != nil {
			t.Errorf("%s: %v", row.form, err)
		} else if err := h.Check("127.0.0.1:22", &net.TCPAddr{}, newKey(t)); !errors.Is(err, fault.ErrHostKey) {
			t.Errorf("%s trusts another key: %v", row.form, err)
		}
		compat.Row(t, "host keys", row.tried, compat.Outcome(err))
	}
}
