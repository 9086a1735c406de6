// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	tokenBits  = 144 // of a token that is made here: 24 characters
	tokenLeast = 128 // of one that is given
)

// Token admits visitors. Formatting one shows nothing of it; Text does.
type Token struct {
	secret  []byte
	expires time.Time
	text    string
}

// DeriveToken makes the token of a secret of at least 32 bytes: the same secret and label give the
// same token (HKDF with SHA-256, RFC 5869). With expires, that moment is signed into it; the zero
// time is never.
func DeriveToken(secret []byte, label string, expires time.Time) (*Token, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "taipy-tunnel visitors' token v1\x00"+label, sha256.Size)
	if err != nil {
		return nil, err
	}
	t := &Token{secret: key, expires: expires}
	t.text = t.sign("token")
	return t.dated(), nil
}

// GivenToken is a token that its owner made up. It needs 128 bits, as far as its characters can
// tell: 32 hexadecimal digits, or 22 letters and digits. They are those of RFC 6750, section 2.1.
func GivenToken(text string, expires time.Time) (*Token, error) {
	if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") != "" {
		return nil, errors.New("token holds a character other than letters, digits and -._~+/=")
	}
	if strength(text) < tokenLeast {
		return nil, errors.New("token is too short to be safe from guessing: 22 random letters and digits are needed")
	}
	key := sha256.Sum256([]byte("taipy-tunnel given token v1\x00" + text))
	return (&Token{secret: key[:], expires: expires, text: text}).dated(), nil
}

// RandomToken is a new token.
func RandomToken(expires time.Time) *Token {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	t, err := DeriveToken(secret, "", expires)
	if err != nil {
		panic(err) // HKDF refuses only lengths that are not used here
	}
	return t
}

// strength is how many bits a text has if its characters were drawn at random from the smallest
// usual alphabet that has them all, repetitions set aside.
func strength(text string) int {
	different := map[rune]bool{}
	for _, r := range text {
		different[r] = true
	}
	alphabet := 64
	for _, set := range []string{"0123456789", "0123456789abcdef", "0123456789ABCDEF", "abcdefghijklmnopqrstuvwxyz234567"} {
		if strings.Trim(text, set) == "" {
			alphabet = len(set)
			break
		}
	}
	if len(different) < 8 {
		alphabet = len(different)
	}
	if alphabet < 2 {
		return 0
	}
	return int(float64(len(text)) * math.Log2(float64(alphabet)))
}

func (t *Token) dated() *Token {
	if !t.expires.IsZero() {
		until := strconv.FormatInt(t.expires.Unix(), 10)
		t.text = until + "." + t.sign("until "+until)
	}
	return t
}

func (t *Token) sign(what string) string {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write([]byte(what))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tokenBits/8])
}

// Text is the token itself, for the link and nothing else.
func (t *Token) Text() string { return t.text }

// Format implements fmt.Formatter and shows nothing of the token, whatever the verb.
func (Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "token") }

// Expires is when it ends, the zero time for never.
func (t *Token) Expires() time.Time { return t.expires }

// verdict is what a text is as a token.
type verdict int

const (
	wrong verdict = iota
	expired
	right
)

// judge compares in constant time. A token that bears a date is good until then, whatever the
// newest one's date is.
func (t *Token) judge(text string) verdict {
	if t == nil || text == "" {
		return wrong
	}
	if t.expires.IsZero() {
		return map[bool]verdict{true: right}[equal(text, t.text)]
	}
	until, mac, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(until, 10, 64)
	switch {
	case err != nil || !equal(mac, t.sign("until "+until)):
		return wrong
	case time.Now().Unix() >= n:
		return expired
	}
	return right
}

func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
