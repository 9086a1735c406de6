// SPDX-License-Identifier: Apache-2.0

package hostkeys

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

// knownFiles are known_hosts files, which may change while a tunnel is open.
type knownFiles struct {
	paths []string
	given bool // the owner named the file: it must be there, and hold something

	mu     sync.Mutex // of Fresh
	texts  [][]byte   // of the paths, as they were last read
	latest *Known     // what they said, as far as it is understood
	warned string     // of which error
	told   string     // which lines are passed over
}

// Fresh returns h as its files have it now.
func (h *Known) Fresh(log *slog.Logger) *Known {
	if h.files == nil {
		return h
	}
	h.files.mu.Lock()
	defer h.files.mu.Unlock()
	now, err := h.files.read()
	if err != nil && err.Error() != h.files.warned {
		h.files.warned = err.Error()
		log.Warn("known host keys cannot be read again; they count as they were", "reason", err.Error())
	}
	if note := now.passedOver(""); note != h.files.told {
		if h.files.told = note; note != "" {
			log.Warn("known host keys: " + note)
		}
	}
	return now
}

// below says where a path that is not absolute was looked for.
func below(path string) string {
	if !filepath.IsAbs(userfile.Expand(path)) {
		return " of the working directory"
	}
	return ""
}

// read returns what the files say, and after an error what they said before, if ever. A file that is gone is taken as it
// was: a home directory may be away for a moment, and nobody is trusted for it who was not before.
func (f *knownFiles) read() (*Known, error) {
	texts := make([][]byte, len(f.paths))
	copy(texts, f.texts)
	for i, path := range f.paths {
		text, err := userfile.Read(path, maxKnownHosts)
		if err == nil {
			texts[i] = userfile.Text(text)
		} else if f.given {
			return f.latest, fault.Config("give a fingerprint (SHA256:…), a known_hosts line, or the path of a known_hosts file",
				"host_key %s is no host key, and cannot be read as a file%s: %w", fault.KeyPath(userfile.Expand(path)), below(path), err)
		}
	}
	all, source := bytes.Join(texts, []byte("\n")), "known_hosts"
	if f.given {
		source = fault.Quote(userfile.Expand(f.paths[0]))
	}
	if f.latest != nil && bytes.Equal(all, bytes.Join(f.texts, []byte("\n"))) {
		return f.latest, nil
	}
	h := readLines(string(all), source)
	if f.given {
		var err error
		if h, err = given(string(all), source); err != nil {
			return f.latest, err
		}
		if f.latest != nil && (h.pins == nil) != (f.latest.pins == nil) { // the way there may lead past machines for which it must not count
			return f.latest, fault.Config("expose again", "%s has fingerprints now where it had lines, or the other way round", source)
		}
	}
	h.files, f.texts, f.latest = f, texts, h
	return h, nil
}
