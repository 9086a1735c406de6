// SPDX-License-Identifier: Apache-2.0

// Package sshconfig reads ssh_config(5) files, and never runs anything in them.
//
//	files, err := sshconfig.Read("", log) // ~/.ssh/config and /etc/ssh/ssh_config
//	host, err := files.Host("proxy", "", 0) // host.HostName, host.User, host.Port, …
//
// How much it reads is bounded: bytes, files, and Includes within Includes.
package sshconfig

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/kevinburke/ssh_config"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

const (
	maxSSHConfig = 256 << 10 // bytes of all files together
	maxIncludes  = 256       // files
	maxDepth     = 16        // of Include, as readconf.c of OpenSSH
)

// holds is a keyword of our own, in each section, by which to see whether it applies.
const holds = "TaipyTunnelHolds"

// Files are what ssh_config(5) files say. Nothing in them is ever run.
//
// Host, Include, "Match all", "Match host" (which is compared with the name that was given, not
// with HostName) and "Match originalhost" are understood. Sections of other Match lines are passed over with a warning, and so is what
// cannot be read: ssh may well understand it. There is no CanonicalizeHostname.
type Files struct {
	sections []section
	log      *slog.Logger
}

// section is one Host or Match line with what follows it.
type section struct {
	cfg   *ssh_config.Config
	under []*ssh_config.Config // the Host lines above the Includes that led here
}

// Read reads a file as ssh -F does: "" stands for ~/.ssh/config and /etc/ssh/ssh_config,
// neither of which need exist, and "none" for no file. An error is of class fault.ErrConfig.
func Read(path string, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Files{log: log}
	r := &configReader{Files: c, left: maxSSHConfig}
	switch path {
	case "none":
		return c, nil
	case "":
		for _, p := range []string{"~/.ssh/config", "/etc/ssh/ssh_config"} {
			if err := r.file(p, nil, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				log.Warn("a configuration file of ssh is passed over", "file", p, "reason", err.Error())
			}
		}
		return c, nil
	}
	if err := r.file(path, nil, 0); err != nil {
		return nil, fault.Config("give the path of a file that ssh -F takes, or \"none\"", "ssh_config %s cannot be read: %w", fault.Path(userfile.Expand(path)), err)
	}
	return c, nil
}

// configReader cuts files into sections for the library, which is given whole lines of a keyword
// and a value only: it reads Includes without any bound, refuses a whole file for one Match line,
// and does not end on a line that begins with an equals sign.
type configReader struct {
	*Files
	left  int // bytes that may still be read
	files int
}

// file reads one file. under are the conditions that hold for all of it.
func (r *configReader) file(path string, under []*ssh_config.Config, depth int) error {
	if r.files++; r.files > maxIncludes || depth > maxDepth {
		return errors.New("too many files include each other")
	}
	text, err := userfile.Read(path, r.left)
	if err != nil {
		return err
	}
	r.left -= len(text)
	dir := "~/.ssh"
	if strings.HasPrefix(filepath.Clean(path), "/etc/ssh/") {
		dir = "/etc/ssh"
	}
	r.text(string(text), dir, under, depth)
	return nil
}

// text reads the text of a file; dir is what an Include without a directory is relative to.
func (r *configReader) text(text, dir string, under []*ssh_config.Config, depth int) {
	head, body, skip := "Host *", "", false
	flush := func() {
		if body == "" {
			return
		}
		if cfg := r.decode(head + "\n" + holds + " yes\n" + body); cfg != nil {
			r.sections = append(r.sections, section{cfg, under})
		}
		body = ""
	}
	for line := range strings.Lines(text) {
		key, value := keyword(line)
		switch lower := strings.ToLower(key); {
		case key == "" || value == "":
		case lower == "host" || lower == "match":
			flush()
			head, skip = r.head(lower, value)
		case skip, lower == strings.ToLower(holds):
		case strings.Contains(strings.Join(words(value), ""), "#"): // a comment for the library, not for ssh
			r.log.Warn("a line of the ssh configuration is passed over", "keyword", key, "reason", "a # within a word")
		case lower == "include":
			flush()
			if cfg := r.decode(head + "\n" + holds + " yes\n"); cfg != nil {
				r.include(words(value), dir, append(under[:len(under):len(under)], cfg), depth)
			}
		default:
			body += key + " " + value + "\n"
		}
	}
	flush()
}

// head is a Host or Match line in the library's own words; skip: it has none for it.
func (r *configReader) head(key, value string) (line string, skip bool) {
	f := slices.DeleteFunc(words(value), func(w string) bool { return strings.Contains(w, "#") })
	if len(f) == 0 {
		return "Host *", true
	}
	if key == "host" {
		return "Host " + strings.Join(f, " "), false
	}
	switch kind := strings.ToLower(f[0]); {
	case len(f) == 1 && kind == "all":
		return "Host *", false
	case len(f) == 2 && (kind == "host" || kind == "originalhost"):
		return "Host " + strings.Join(strings.Split(f[1], ","), " "), false
	default:
		r.log.Warn("a section of the ssh configuration is passed over", "match", kind)
		return "Host *", true
	}
}

// decode has the library read a section; it panics on some that make no sense.
func (r *configReader) decode(text string) (cfg *ssh_config.Config) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Warn("a section of the ssh configuration is passed over", "reason", "it cannot be read")
			cfg = nil
		}
	}()
	cfg, err := ssh_config.DecodeBytes([]byte(text))
	if err != nil {
		panic(err) // it quotes the line
	}
	return cfg
}

func (r *configReader) include(paths []string, dir string, under []*ssh_config.Config, depth int) {
	for _, path := range paths {
		if !filepath.IsAbs(path) && !strings.HasPrefix(path, "~") {
			path = filepath.Join(dir, path)
		}
		files, err := filepath.Glob(userfile.Expand(path))
		if err != nil {
			r.log.Warn("an Include of the ssh configuration is passed over", "file", path, "reason", err.Error())
		}
		for _, f := range files {
			if err := r.file(f, under, depth+1); err != nil {
				r.log.Warn("an Include of the ssh configuration is passed over", "file", f, "reason", err.Error())
			}
		}
	}
}

// keyword splits a line of ssh_config(5), "Keyword value" or "Keyword=value"; "" for a comment and
// for what is neither.
func keyword(line string) (key, value string) {
	line = strings.TrimSpace(line)
	if strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return "", ""
	}
	end := strings.IndexFunc(line, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	if end <= 0 {
		return "", ""
	}
	key, value = line[:end], strings.TrimLeft(line[end:], " \t")
	if rest, ok := strings.CutPrefix(value, "="); ok {
		value = strings.TrimLeft(rest, " \t")
	} else if value == line[end:] {
		return "", ""
	}
	return key, value
}

// words splits a value at blanks; double quotes hold blanks together, and # begins a comment.
func words(value string) (out []string) {
	for value = strings.TrimLeft(value, " \t"); value != "" && value[0] != '#'; value = strings.TrimLeft(value, " \t") {
		end, after := strings.IndexAny(value, " \t"), 0
		if value[0] == '"' {
			value = value[1:]
			end, after = strings.IndexByte(value, '"'), 1
		}
		if end < 0 {
			end, after = len(value), 0
		}
		if end > 0 {
			out = append(out, value[:end])
		}
		value = value[end+after:]
	}
	return out
}

// about returns the part that concerns a host.
func (c *Files) about(alias string) *Files {
	part := &Files{log: c.log}
	for _, s := range c.sections {
		applies := true
		for _, cfg := range append(s.under[:len(s.under):len(s.under)], s.cfg) {
			yes, err := cfg.Get(alias, holds)
			if applies = err == nil && yes != ""; !applies {
				break
			}
		}
		if applies {
			part.sections = append(part.sections, s)
		}
	}
	return part
}

// all returns what is said about a host under a keyword, the first first.
func (c *Files) all(alias, key string) (values []string) {
	for _, s := range c.sections {
		if found, err := s.cfg.GetAll(alias, key); err == nil {
			values = append(values, found...)
		}
	}
	return values
}

// first returns what counts for a keyword that may be given once: what is said first.
func (c *Files) first(alias, key string) string {
	if values := c.all(alias, key); len(values) > 0 {
		return values[0]
	}
	return ""
}
