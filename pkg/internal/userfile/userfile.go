// SPDX-License-Identifier: Apache-2.0

// Package userfile reads the files that a person names: keys, certificates, known hosts, configurations.
package userfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Read reads a file that a person wrote, of at most so many bytes. To open anything else, a FIFO
// or a device, may take for ever. Its errors do not name the file: the path may be a secret in the wrong
// place.
func Read(path string, most int) ([]byte, error) {
	st, err := os.Stat(Expand(path))
	if err != nil && strings.HasPrefix(path, "~/") && Home() == "" {
		return nil, errors.New("this process has no home directory: HOME is not set, and its user is not in /etc/passwd")
	}
	if err != nil {
		return nil, fault.Reason(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(Expand(path))
	if err != nil {
		return nil, fault.Reason(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(text) > most {
		return nil, fmt.Errorf("it holds more than %d bytes", most)
	}
	return text, fault.Reason(err)
}

// Expand is the path that is meant: a leading "~/" is the home directory, "file:/…" is a path too, and so is Databricks'
// "dbfs:/…", by where that file system is mounted: its volumes at /Volumes, the rest at /dbfs.
func Expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home := Home(); home != "" {
			return filepath.Join(home, rest)
		}
	}
	for scheme, mounted := range map[string]string{"file:/": "/", "dbfs:/": "/dbfs/"} {
		if rest, ok := strings.CutPrefix(path, scheme); ok {
			rest = strings.TrimLeft(rest, "/")
			if strings.HasPrefix(rest, "Volumes/") {
				mounted = "/"
			}
			return mounted + rest
		}
	}
	return path
}

// Home is the home directory: what HOME says, and where it says nothing, as in a service of systemd's, what
// passwd(5) does, as with ssh. "": neither knows one.
func Home() string {
	if home, err := os.UserHomeDir(); err == nil && home != "" {
		return home
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return ""
}

// Pasted is what somebody copied, without what came with it: blanks and line ends around it and of other systems, a byte
// order mark, and the quotes that docker's --env-file keeps; with the line ends that were written as two characters.
func Pasted(text string) string {
	text = strings.TrimSpace(endings.Replace(string(Text([]byte(text)))))
	if n := len(text); n > 1 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		text = strings.TrimSpace(text[1 : n-1])
	}
	return text
}

var endings = strings.NewReplacer("\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n")

// Text gives a text in UTF-8 without its byte order mark. It may have been in UTF-16, as Windows' editors and PowerShell
// write it; without a mark, as [Text.Encoding]::Unicode does, that is told by its first two characters.
func Text(text []byte) []byte {
	if rest, ok := bytes.CutPrefix(text, []byte("\xef\xbb\xbf")); ok {
		return rest
	}
	var order binary.ByteOrder
	mark := 2
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		order = binary.BigEndian
	case len(text) > 3 && text[0] != 0 && text[1] == 0 && text[2] != 0 && text[3] == 0:
		order, mark = binary.LittleEndian, 0
	default:
		return text
	}
	var units []uint16
	for text = text[mark:]; len(text) > 1; text = text[2:] {
		units = append(units, order.Uint16(text))
	}
	return []byte(string(utf16.Decode(units)))
}
