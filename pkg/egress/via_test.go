// SPDX-License-Identifier: Apache-2.0

//go:build linux

package egress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// What is no address of a proxy is refused without a word of it: it may hold a password.
func TestViaThatIsRefused(t *testing.T) {
	for _, text := range []string{
		"http://", "http://:80", "ftp://me:hunter2@proxy:1", "socks4://proxy:1", "http://me:hunter2@proxy:99999", "http://me:hunter2@proxy:0",
		"http://me:hun#ter2@proxy:1", "http://me:12/ter2@proxy:1", "http://me:12?ter2@proxy:1", "http://me:hunter2%zz@proxy:1", "http://proxy:1/path",
		"http://me:hunter2@pro xy:1", "http://me:" + strings.Repeat("hunter2", 40) + "@proxy:1", "hunter2\x00",
	} {
		_, err := ParseVia("via", text, nil)
		e := wantFault(t, err, fault.ErrConfig, true)
		if all := e.Error() + e.Hint.String(); strings.Contains(all, "hun") || strings.Contains(all, "ter2") || !strings.Contains(all, "via") {
			t.Errorf("%q: %v, %s", text, e, e.Hint)
		}
	}
	for text, want := range map[string]string{
		"proxy:3128": "http://proxy:3128", "http://proxy": "http://proxy:80", "HTTPS://me:hunter2@proxy/": "https://proxy:443",
		"socks5h://me@[2001:db8::1]:1": "socks5://[2001:db8::1]:1", " socks5://proxy ": "socks5://proxy:1080",
	} {
		v, err := ParseVia("via", text, nil)
		if err != nil || v.String() != want || strings.Contains(fmt.Sprintf("%v %+v %s", v, Dialer{Via: v}, v), "hunter2") {
			t.Errorf("%q is %v, %v; want %s", text, v, err, want)
		}
	}
}

func TestViaFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		addr string
		want string
	}{
		{nil, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "proxy:3128"}, "host:22", "http://proxy:3128 (HTTPS_PROXY)"},
		{map[string]string{"HTTPS_PROXY": "http://up:1", "https_proxy": "http://low:1", "ALL_PROXY": "http://all:1"}, "host:22", "http://low:1 (https_proxy)"},
		{map[string]string{"ALL_PROXY": "socks5://me:hunter2@all:1"}, "192.0.2.1:22", "socks5://all:1 (ALL_PROXY)"},
		{map[string]string{"HTTP_PROXY": "http://proxy:1"}, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "127.0.0.1:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "[::1]:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1"}, "localhost:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.com, 10.0.0.0/8"}, "Proxy.Example.com:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "host:443"}, "host:22", "http://proxy:1 (HTTPS_PROXY)"},
		{map[string]string{"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "host:22", "<nil>"},
		{map[string]string{"HTTPS_PROXY": "socks4://me:hunter2@proxy:1", "NO_PROXY": "host"}, "host:22", "<nil>"},
	} {
		v, err := ViaFromEnvironment(func(name string) string { return c.env[name] }, c.addr, nil)
		if got := fmt.Sprint(v); err != nil || got != c.want && (v != nil || c.want != "<nil>") {
			t.Errorf("%v for %s: %s, %v; want %s", c.env, c.addr, got, err, c.want)
		}
	}
	_, err := ViaFromEnvironment(func(string) string { return "socks4://me:hunter2@proxy:1" }, "host:22", nil)
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "https_proxy") || strings.Contains(e.Error(), "hunter2") {
		t.Errorf("%v", e)
	}
}

// FuzzProxyAnswer: whatever a proxy says, no more of it is read than the head, and of that not much.
func FuzzProxyAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n", "HTTP/1.0 407 x\nProxy-Authenticate: Basic realm=\"x\"\n\n", "HTTP/1.1 100 c\r\n\r\nHTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n\r\n", "HTTP/1.1  200", "\r\n", "HTTP/ 99999999999\n", ": \n:\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		r := bytes.NewReader(append(said, "SSH-2.0-rest"...))
		a, seen, err := readAnswer(r)
		read := len(said) + len("SSH-2.0-rest") - r.Len()
		switch {
		case read > maxHead || len(seen) != read:
			t.Fatalf("%d bytes read, %d seen", read, len(seen))
		case err == nil && (a.status < 200 || a.status > 599):
			t.Fatalf("%+v", a)
		case err == nil && !strings.HasSuffix(seen, "\n"):
			t.Fatalf("the head ends in %q", seen)
		case err == nil && bytes.Contains(said, []byte("\n\n")) && read > len(said):
			t.Fatalf("read into what follows: %q", seen)
		}
	})
}
