// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestQuote(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 10))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"":                         `""`,
		"me@host":                  `"me@host"`,
		"/home/me/.ssh/id_ed25519": `"/home/me/.ssh/id_ed25519"`,
		"me@ec2-203-0-113-25.compute-1.amazonaws.com": "(a text of 43 characters)", // too long, though not keylike
		"my-long-proxy-name-here.example.com":         `"my-long-proxy-name-here.example.com"`,
		"0123456789abcdef0123":                        "(a text of 20 characters)",
		"0123456789abcdef012":                         `"0123456789abcdef012"`,
		"ab\n":                                        `"ab\n"`,
		strings.Repeat("ä ", 20):                      strconv.Quote(strings.Repeat("ä ", 20)),
		strings.Repeat("ä ", 20) + "x":                "(a text of 41 characters)",
		dir:                                           strconv.Quote(dir),
	} {
		if got := Quote(value); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got, want := Path(dir+"/no"), " characters, of which "+strconv.Quote(dir)+" exists)"; !strings.HasSuffix(got, want) {
		t.Errorf("%s, want …%s", got, want)
	}
	if got := Path("/" + strings.Repeat("x", 50)); got != "(a path of 51 characters)" {
		t.Error(got)
	}
}

func TestKeylike(t *testing.T) {
	for _, text := range []string{"MC4CAQAwBQYDK2VwBCIEIA/x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "me@dapi0123456789abcdef01", "a-name-without-a-domain",
		"AAAAC3NzaC1lZDI1NTE5.com", "https://example.com/0123456789abcdef0123"} {
		if !Keylike(text) {
			t.Errorf("%q could be a secret", text)
		}
	}
	for _, text := range []string{"", "me@host:22", "a-name-with-a-domain.example.com", "A-NAME-WITH-A-DOMAIN.EXAMPLE.COM.", "tls://me@a-name-with-a-domain.example.com:443",
		"2001:db8:0:0:1:0:0:1", "correct horse battery staple"} {
		if Keylike(text) {
			t.Errorf("%q could not be a secret", text)
		}
	}
}

// Errors of the standard library say why, and keep what errors.Is finds in them.
func TestReason(t *testing.T) {
	const secret = "SECRET"
	_, path := os.Open("/" + secret)
	_, number := strconv.Atoi(secret)
	_, _, address := net.SplitHostPort(secret)
	request := error(&url.Error{Op: "Get", URL: "http://" + secret, Err: errors.New("refused")})
	name := error(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: secret, Server: "192.0.2.1:53", IsNotFound: true}})
	for _, err := range []error{path, number, address, request, name} {
		if err == nil || !strings.Contains(err.Error(), secret) {
			t.Fatalf("%v does not quote", err)
		}
		if got := Reason(err); strings.Contains(got.Error(), secret) || got.Error() == "" {
			t.Errorf("%v", got)
		}
	}
	if !errors.Is(Reason(path), os.ErrNotExist) {
		t.Error("not there any more")
	}
	if e, ok := errors.AsType[*net.DNSError](Reason(name)); !ok || !e.IsNotFound || Reason(name).Error() != "no such host (asked 192.0.2.1:53)" {
		t.Errorf("%v", Reason(name))
	}
}

func TestJSONHasNoValueInIt(t *testing.T) {
	const secret = "SECRET-0123456789-SECRET"
	type inner struct {
		N int       `json:"n"`
		T time.Time `json:"t"`
		L []string  `json:"l"`
	}
	for text, says := range map[string]string{
		`{"n":"` + secret + `"}`:     "n is a string, want a number",
		`{"n":12345678901234567890}`: "n is a number, want a number",
		`{"l":{"` + secret + `":1}}`: "l is a object, want a list",
		`{"t":"` + secret + `"}`:     "a moment is not written as in",
		`{"` + secret + `":1}`:       "unknown field (a text of 24 characters)",
		`{"m":1}`:                    `unknown field "m"`,
		`"` + secret + `"`:           "it is a string, want an object",
		secret:                       "no JSON at byte 1",
		`{"n":1`:                     "ends too early",
	} {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		var into inner
		if got := JSON(d.Decode(&into)).Error(); !strings.Contains(got, says) || strings.Contains(got, secret) {
			t.Errorf("%s: %s, want %s", text, got, says)
		}
	}
}

// What is pasted into a shell arrives there as it was meant.
func TestWordsForAShell(t *testing.T) {
	for _, user := range []string{"me", `CORP\me`, "it's me", "$(reboot)", "me@corp.example", ""} {
		err := LoginRefused(user, "203.0.113.7:22", "", []string{"ssh-ed25519 AAAA"}, errors.New("no"))
		_, word, _ := strings.Cut(err.Hint.String(), "-C user=")
		word, _, _ = strings.Cut(word, ",host=")
		if said, err := exec.Command("sh", "-c", "printf %s "+word).Output(); err != nil || string(said) != user {
			t.Errorf("%q: %q (%v) arrives of %s", user, said, err, word)
		}
	}
}

// What x/crypto says is not for people, and stays for errors.Is.
func TestWordsOfOthersAreLeftOut(t *testing.T) {
	words := errors.New("ssh: unable to authenticate, attempted methods [none publickey]")
	for name, err := range map[string]*Error{
		"login":   LoginRefused("me", "a:22", "", []string{"ssh-ed25519 AAAA"}, words),
		"ciphers": NoCommon("a:22", "client to server cipher", []string{"aes256-cbc"}, words),
	} {
		if strings.Contains(err.Error(), "ssh:") || !errors.Is(err, words) || From(err) != err {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an app registration of Microsoft Entra has as its secret (40 characters, with ~ and .), and a token in two parts, look
// like the names of hosts, but for their letters.
func TestSecretsThatLookLikeHostNames(t *testing.T) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	rng := rand.New(rand.NewPCG(1, 0))
	random := func(n int, from string) string {
		var b strings.Builder
		for range n {
			b.WriteByte(from[rng.IntN(len(from))])
		}
		return b.String()
	}
	for kind, draw := range map[string]func() string{
		"a client secret": func() string { return random(3, letters) + "8Q~" + random(34, letters+"~._-") },
		"two parts":       func() string { return random(17, letters) + "aZ.9" + random(17, letters) }, // of 300 one has no figure by chance, and is shown
	} {
		for range 1000 {
			if secret := draw(); Showable(secret) {
				t.Errorf("%s is shown: %s", kind, secret)
			}
		}
	}
}
