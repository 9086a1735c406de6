// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDerivedTokensAreForEver: links that people have must open the app after every release.
func TestDerivedTokensAreForEver(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	for _, c := range []struct {
		label string
		until time.Time
		want  string
	}{
		{"me@host:22\x008080\x001", time.Time{}, "0_QaBR0z3-xLzgHKJ40c65oR"},
		{"me@host:22\x008080\x002", time.Time{}, "6TsKiPuxGzk_kXO3rsIqBe0s"},
		{"me@host:22\x008080\x001", time.Unix(4000000000, 0), "4000000000.0wvjSRQCgr9582vV0H9vdc9j"},
	} {
		token, err := DeriveToken(secret, c.label, c.until)
		if err != nil || token.Text() != c.want {
			t.Errorf("%q until %s: %v, %s; want %s", c.label, c.until, err, token.Text(), c.want)
		}
		if token.judge(token.Text()) != right || !token.Expires().Equal(c.until) {
			t.Errorf("%s does not admit", token.Text())
		}
	}
	given, err := GivenToken(tokenText, time.Unix(4000000000, 0))
	if err != nil || given.Text() != "4000000000.qgTH_DZBBo5mQ2g8j3cykAoo" {
		t.Errorf("a dated given token: %v, %s", err, given.Text())
	}
	if name := cookieName("me@host:22\x008080"); name != "taipy-tunnel-970db32a1564" {
		t.Errorf("the cookie is called %s: every visitor would need the link again", name)
	}
	if one, other := RandomToken(time.Time{}), RandomToken(time.Time{}); one.Text() == other.Text() {
		t.Error("two random tokens are the same")
	}
}

func TestGivenTokens(t *testing.T) {
	for text, good := range map[string]bool{
		"":                                        false,
		"secret":                                  false,
		"0123456789abcdef0123456789abcdef":        true,  // 32 hexadecimal digits
		"0123456789abcdef0123456789abcde":         false, // 31
		"0123456789ABCDEF0123456789ABCDEF":        true,
		"Zk3v9QmX7bTn2LrW5cYh8J":                  true, // 22 letters and digits
		"Zk3v9QmX7bTn2LrW5cYh8":                   false,
		"12345678901234567890123456789012":        false, // digits need 39
		"123456789012345678901234567890123456789": true,
		strings.Repeat("a", 100):                  false,
		strings.Repeat("ab", 60):                  false,
		"Zk3v9QmX7bTn2LrW5cYh8JpD ":               false,
		"Zk3v9QmX7bTn2LrW5cYh8JpD;":               false,
		"Zk3v9QmX7bTn2LrW5cYh8JpDä":               false,
		"Zk3v9QmX7bTn2LrW5cYh8J+/=":               true,
		"Zk3v9QmX7bTn2LrW5cYh8J-._~":              true,
	} {
		token, err := GivenToken(text, time.Time{})
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && (token.Text() != text || token.judge(text) != right) {
			t.Errorf("%q does not admit, but %s", text, token.Text())
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q is in the message: %v", text, err)
		}
	}
}

func TestDatedTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := make([]byte, 32)
		short, _ := DeriveToken(secret, "", time.Now().Add(time.Hour))
		long, _ := DeriveToken(secret, "", time.Now().Add(24*time.Hour))
		never, _ := DeriveToken(secret, "", time.Time{})
		date, mac, _ := strings.Cut(short.Text(), ".")
		later, _, _ := strings.Cut(long.Text(), ".")
		for _, text := range []string{later + "." + mac, "0" + date + "." + mac, "+" + short.Text(), date + "." + mac + "=", date + ".", "." + mac, mac, never.Text(), "9." + never.Text()} {
			if short.judge(text) != wrong {
				t.Errorf("%s admits", text)
			}
		}
		if never.judge(short.Text()) != wrong {
			t.Error("a dated token admits where none is dated")
		}
		if long.judge(short.Text()) != right {
			t.Error("a link that was given out earlier does not admit until its date")
		}
		time.Sleep(time.Hour)
		if long.judge(short.Text()) != expired || long.judge(long.Text()) != right {
			t.Error("an hour later: the short one admits, or the long one does not")
		}
	})
}

func TestTokensDoNotShow(t *testing.T) {
	token := given(t, tokenText)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{token, *token, []*Token{token}, struct{ T *Token }{token}} {
			if got := fmt.Sprintf(format, v); strings.Contains(got, tokenText) || strings.Contains(got, fmt.Sprintf("%x", tokenText)) {
				t.Errorf("%s of %T: %s", format, v, got)
			}
		}
	}
	var none *Token
	if none.judge("") != wrong || none.judge("x") != wrong {
		t.Error("no token at all admits")
	}
}
