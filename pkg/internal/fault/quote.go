// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What people are shown of the values that they gave: an error is saved with the notebook, mailed and
// logged, and any value may be a secret that was pasted into the wrong place. Python's twin of this file
// is _quote.py. Where the value is a secret by its name (a passphrase, a token, a password) it is never
// shown, however short it is.

const (
	quoteMost = 40 // characters; a key has more, and so have most tokens
	runLeast  = 20 // characters of base64, or of a token, in a row
)

// Quote is a value in quotes if it cannot be a secret: the path of something that exists, or a short text
// that is not Keylike. Otherwise it says how long the value is.
func Quote(value string) string {
	if Showable(value) {
		return strconv.Quote(value)
	}
	return fmt.Sprintf("(a text of %d characters)", utf8.RuneCountInString(value))
}

// Part is a part of a value, to be quoted; or the whole, which is then not shown, where that may be a secret.
func Part(part, whole string) string {
	if Keylike(whole) {
		return whole
	}
	return part
}

// word is a value as a word of a command, or what stands for it where it may be a secret.
func word(value, otherwise string) string {
	if plain(value) {
		return value
	}
	return otherwise
}

// ShellWord is a value as one word for a shell: a user of winbind's has a backslash in its name, DOMAIN\user.
func ShellWord(value string) string {
	if safe.MatchString(value) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

var safe = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Path is Quote for a value that should be a path: of one that is not there it shows how much of it is.
func Path(value string) string {
	quoted := Quote(value)
	if Showable(value) || !filepath.IsAbs(value) {
		return quoted
	}
	for dir := filepath.Dir(value); filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		if exists(dir) {
			return fmt.Sprintf("(a path of %d characters, of which %q exists)", utf8.RuneCountInString(value), dir)
		}
	}
	return fmt.Sprintf("(a path of %d characters)", utf8.RuneCountInString(value))
}

// KeyPath is Path for a setting that may be the text of a key as well: what is no file here, nor begins as a path does, may be a secret, however short.
func KeyPath(value string) string {
	if !exists(value) && !beginsPath.MatchString(value) {
		return fmt.Sprintf("(a text of %d characters)", utf8.RuneCountInString(value))
	}
	return Path(value)
}

// beginsPath is how a path begins that is meant as one: from the root, a home, here, or a drive.
var beginsPath = regexp.MustCompile(`^(/|~|\.\.?[/\\]|[A-Za-z]:[/\\]|\\\\)`)

// Showable reports whether Quote shows a value.
func Showable(value string) bool { return plain(value) || exists(value) }

// Keylike reports whether a text might hold a key or a token: 20 or more characters of [A-Za-z0-9+/_=-] in a
// row, outside a dotted host name; or, of these, "." and "~", between two slashes, with small letters, capitals and figures among them
// (client secrets of Microsoft Entra, tokens in two parts).
func Keylike(text string) bool {
	other := func(r rune) bool { return r != '.' && r != '~' && !inRun(r) }
	for _, word := range strings.FieldsFunc(text, other) {
		parts := strings.Split(word, "/")
		for i, part := range parts {
			switch {
			case isHostName(part):
				parts[i] = "."
			case len(part) >= runLeast && strings.ContainsFunc(part, isSmall) && strings.ContainsFunc(part, isCapital) && strings.ContainsFunc(part, isFigure):
				return true
			}
		}
		for run := range strings.FieldsFuncSeq(strings.Join(parts, "/"), func(r rune) bool { return r == '.' || r == '~' }) {
			if len(run) >= runLeast {
				return true
			}
		}
	}
	return false
}

// KeylikeName is Keylike for what must be the name of a host or an account, before it is refused: those may have letters of both
// cases, and figures.
func KeylikeName(name string) bool { return Keylike(strings.ToLower(name)) }

func plain(value string) bool {
	return utf8.RuneCountInString(value) <= quoteMost && !Keylike(value)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func inRun(r rune) bool {
	return isLetter(r) || isFigure(r) || strings.ContainsRune("+/_=-", r)
}

func isSmall(r rune) bool   { return 'a' <= r && r <= 'z' }
func isCapital(r rune) bool { return 'A' <= r && r <= 'Z' }
func isLetter(r rune) bool  { return isSmall(r) || isCapital(r) }
func isFigure(r rune) bool  { return '0' <= r && r <= '9' }

// isHostName reports whether a text is a name of DNS with a dot in it, whose last label has a letter, in
// small letters or in capitals. Tokens with dots (JWT) have both.
func isHostName(text string) bool {
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	if len(labels) < 2 || text != strings.ToLower(text) && text != strings.ToUpper(text) {
		return false
	}
	for _, label := range labels {
		odd := func(r rune) bool { return !isLetter(r) && !isFigure(r) && r != '-' }
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, odd) {
			return false
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], isLetter)
}

// bare is an error whose text leaves out what the call was given; errors.Is and errors.As see it all.
type bare struct {
	text string
	err  error
}

func (b bare) Error() string { return b.text }
func (b bare) Unwrap() error { return b.err }

// Reason is why a call of the standard library failed, without the path, the address or the text that it
// was given: those errors repeat them.
func Reason(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Err != nil {
		err = e.Err
	}
	if e, ok := errors.AsType[*url.Error](err); ok && e.Err != nil {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		text := e.Err
		if e.Server != "" {
			text += " (asked " + e.Server + ")"
		}
		return bare{text, err}
	}
	if e, ok := errors.AsType[*net.AddrError](err); ok {
		return bare{e.Err, err}
	}
	if e, ok := errors.AsType[*strconv.NumError](err); ok {
		return e.Err
	}
	return err
}

// JSON is why a text is not the JSON that it should be, without any value in it. Errors of our own types
// are passed on.
func JSON(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(e.Value, " ") // "number 12" says which
		return bare{fmt.Sprintf("%s is a %s, want %s", orWhole(e.Field), kind, wanted(e.Type.Kind().String())), err}
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return bare{fmt.Sprintf("it is no JSON at byte %d", e.Offset), err}
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok {
		return bare{"a moment is not written as in 2026-01-31T12:00:00Z (RFC 3339)", err}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // encoding/json has no type for it
		if name, unquoted := strconv.Unquote(name); unquoted == nil {
			return bare{"unknown field " + Quote(name), err}
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bare{"it ends too early", err}
	}
	return bare{"a value has not the form that it should have", err}
}

func orWhole(field string) string {
	if field == "" {
		return "it"
	}
	if plain(field) {
		return field
	}
	return "a field " + Quote(field)
}

// wanted is a kind of Go's in the words of JSON.
func wanted(kind string) string {
	switch {
	case kind == "struct", kind == "map":
		return "an object"
	case kind == "slice", kind == "array":
		return "a list"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	}
	return "a text"
}
