// SPDX-License-Identifier: Apache-2.0

package proxyhost_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// Each change makes a Host unusable, and the error says why.
func TestUnusableHosts(t *testing.T) {
	type host = proxyhost.Host
	first := func(h *host) *proxyhost.Tenant { return &h.Tenants[0] }
	for what, c := range map[string]struct {
		says   string
		change func(*host)
	}{
		"no tenant":          {"there are 0 tenants", func(h *host) { h.Tenants = nil }},
		"root":               {`tenant "root"`, func(h *host) { first(h).Name = "root" }},
		"a number":           {`tenant "123"`, func(h *host) { first(h).Name = "123" }},
		"an option":          {`tenant "-f"`, func(h *host) { first(h).Name = "-f" }},
		"a shell's tenant":   {"cannot be used", func(h *host) { first(h).Name = "a;reboot" }},
		"a line in a tenant": {`tenant "a\nMatch all"`, func(h *host) { first(h).Name = "a\nMatch all" }},
		"a pattern":          {"cannot be used", func(h *host) { first(h).Name = "*" }},
		"two dashes":         {"cannot be used", func(h *host) { first(h).Name = "a--b" }},
		"a long tenant":      {"cannot be used", func(h *host) { first(h).Name = strings.Repeat("a", 33) }},
		"capitals":           {"cannot be used", func(h *host) { first(h).Name = "Sales" }},
		"twice":              {"is there twice", func(h *host) { h.Tenants = append(h.Tenants, other(t)); h.Tenants[1].Name = "alice" }},
		"no key":             {"nobody could log in", func(h *host) { first(h).Keys = nil }},
		"a key's options":    {"has options", func(h *host) { first(h).Keys = []string{`command="sh" ` + key(t, 1)} }},
		"two lines of keys":  {"not one line", func(h *host) { first(h).Keys = []string{key(t, 1) + "\n" + key(t, 2)} }},
		"a private key":      {"is a private key", func(h *host) { first(h).Keys = []string{"-----BEGIN OPENSSH PRIVATE KEY-----"} }},
		"no key at all":      {"not a public key", func(h *host) { first(h).Keys = []string{"hello"} }},
		"an authority only":  {"go together", func(h *host) { first(h).UserCA = []string{key(t, 2)} }},
		"a principal of two": {"principal", func(h *host) { first(h).UserCA, first(h).Principals = []string{key(t, 2)}, []string{"a b"} }},
		"nothing to serve":   {"nothing to serve", func(h *host) { first(h).Apps = nil }},
		"an app's name":      {"the app's name", func(h *host) { first(h).Apps[0].Name = "../x" }},
		"a long app's name":  {"the app's name", func(h *host) { first(h).Apps[0].Name = strings.Repeat("a", 300) }},
		"an app twice": {"declared twice", func(h *host) {
			first(h).Apps = append(first(h).Apps, proxyhost.Declared{Name: "sales", Host: "y.example.com"})
		}},
		"no address":         {"has no address", func(h *host) { first(h).Apps[0].Host = "" }},
		"a quote":            {"cannot be used", func(h *host) { first(h).Apps[0].Host = `a";` }},
		"a wildcard":         {"cannot be used", func(h *host) { first(h).Apps[0].Host = "*.example.com" }},
		"a pattern of nginx": {"cannot be used", func(h *host) { first(h).Apps[0].Host = "~.*" }},
		"a variable":         {"cannot be used", func(h *host) { first(h).Apps[0].Host = "$host" }},
		"a final dot":        {"cannot be used", func(h *host) { first(h).Apps[0].Host = "example.com." }},
		"unicode":            {"xn--", func(h *host) { first(h).Apps[0].Host = "münchen.example.com" }},
		"a long host":        {"cannot be used", func(h *host) { first(h).Apps[0].Host = strings.Repeat("a.", 150) + "com" }},
		"half an address":    {"neither a DNS name", func(h *host) { first(h).Apps[0].Host = "10.1.2" }},
		"an odd address":     {"cannot be used", func(h *host) { first(h).Apps[0].Host = "0.0.0.0" }},
		"a zone":             {"cannot be used", func(h *host) { first(h).Apps[0].Host = "fe80::1%eth0" }},
		"a port":             {"cannot be used", func(h *host) { first(h).Apps[0].Host = "example.com:80" }},
		"a foreign host":     {"is both tenant", func(h *host) { h.Tenants = append(h.Tenants, other(t)); h.Tenants[1].Apps[0].Host = "x.example.com" }},
		"foreign paths":      {"is both tenant", func(h *host) { h.Tenants = append(h.Tenants, other(t)); byPath(h, 0); byPath(h, 1) }},
		"a path in an app": {"used twice", func(h *host) {
			first(h).Host = "x.example.com"
			first(h).Apps = append(first(h).Apps, proxyhost.Declared{Name: "y"})
		}},
		"a free name":            {"among the free names", func(h *host) { first(h).SelfService = "example.com"; first(h).Apps[0].Host = "x--bob.example.com" }},
		"a wildcard domain":      {"self_service", func(h *host) { first(h).SelfService = "*.example.com" }},
		"certbot, free names":    {"certbot", func(h *host) { first(h).SelfService = "a.example.com"; h.TLS.Mode = "certbot" }},
		"certbot, an address":    {"certbot", func(h *host) { first(h).Apps[0].Host = "192.0.2.1"; h.TLS.Mode = "certbot" }},
		"a TLS mode":             {"tls: mode", func(h *host) { h.TLS.Mode = "maybe" }},
		"a certificate too many": {"a certificate is given", func(h *host) { h.TLS.Mode, h.TLS.Key = "certbot", "/x" }},
		"no certificate":         {"cannot be used", func(h *host) { h.TLS.Mode = "files" }},
		"a relative path":        {"access: basic_auth", func(h *host) { h.Access.BasicAuth = "htpasswd" }},
		"a path up":              {"access: basic_auth", func(h *host) { h.Access.BasicAuth = "/etc/../etc/htpasswd" }},
		"a path's blank":         {"access: basic_auth", func(h *host) { h.Access.BasicAuth = "/etc/a b;" }},
		"loopback":               {"never trusted", func(h *host) { h.Access.Allow = []string{"127.0.0.1"} }},
		"loopback of six":        {"never trusted", func(h *host) { h.Access.Allow = []string{"::1/128"} }},
		"no network":             {"allow", func(h *host) { h.Access.Allow = []string{"all"} }},
		"an auth URL":            {"auth_request", func(h *host) { h.Access.AuthRequest = "http://127.0.0.1/$x" }},
		"no auth URL":            {"sign_in and identity", func(h *host) { h.Access.SignIn = "https://x.example.com/" }},
		"a header":               {"identity", func(h *host) { h.Access.AuthRequest, h.Access.Identity = "http://127.0.0.1/", "X;" }},
		"everybody's status":     {"everybody's", func(h *host) { h.Status.Port = 8090 }},
		"a port too many":        {"the port 80 is that of http", func(h *host) { first(h).Check = 80 }},
		"no port":                {"cannot be used", func(h *host) { h.HTTP = 70000 }},
		"the layout":             {"layout", func(h *host) { h.Layout.Run = "/run/a b" }},
		"a long socket":          {"too long", func(h *host) { h.Layout.Run = "/" + strings.Repeat("x", 100) }},
		"a sign-in's query": {"without a query", func(h *host) {
			h.Access.AuthRequest, h.Access.SignIn = "http://127.0.0.1/", "https://x.example.com/?a=b"
		}},
	} {
		h := proxyhost.Host{Tenants: []proxyhost.Tenant{{Name: "alice", Keys: []string{key(t, 1)}, Apps: []proxyhost.Declared{{Name: "sales", Host: "x.example.com"}}}}}
		if _, err := proxyhost.Render(h); err != nil {
			t.Fatal(err)
		}
		c.change(&h)
		files, err := proxyhost.Render(h)
		e, is := errors.AsType[*fault.Error](err)
		if !is || e.Class != fault.ErrConfig || !strings.Contains(e.Error()+"\n"+e.Hint.String(), c.says) || len(e.Error()) > 300 || files != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func other(t testing.TB) proxyhost.Tenant {
	return proxyhost.Tenant{Name: "bob", Keys: []string{key(t, 2)}, Apps: []proxyhost.Declared{{Name: "sales", Host: "y.example.com"}}}
}

func byPath(h *proxyhost.Host, n int) {
	h.Tenants[n].Host, h.Tenants[n].Apps[0].Host = "example.com", ""
}

func TestStrictJSON(t *testing.T) {
	for text, says := range map[string]string{`{"tenant":[]}`: "unknown field", `{} {}`: "something follows", `[`: "not understood", `{"http":"80"}`: "not understood"} {
		if _, err := proxyhost.ParseHost([]byte(text)); !errors.Is(err, fault.ErrConfig) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Another tenant's coming leaves a check port where it was: a change would end links.
func TestCheckPortsStay(t *testing.T) {
	a := render(t, proxyhost.Host{Tenants: []proxyhost.Tenant{other(t)}})
	b := render(t, proxyhost.Host{Tenants: append([]proxyhost.Tenant{other(t)}, typical(t).Tenants...)})
	path := "/etc/taipy-tunnel/proxy/bob.json"
	if a.Text(path) != b.Text(path) || a.Text(path) == "" {
		t.Errorf("%s\n%s", a.Text(path), b.Text(path))
	}
}

// FuzzRender: what is rendered from any Host has nothing of it but words without a meaning to sshd,
// nginx, the shell and the others: it has the same form as what is rendered from harmless ones.
func FuzzRender(f *testing.F) {
	f.Add("alice", "sales", "x.example.com", "apps.example.com", "/etc/htpasswd", "192.0.2.0/24", "http://127.0.0.1:4180/auth", "bob@example.com")
	f.Add("a\n", "$(id)", "a;}", "`id`", "/a b", "all;", "http://$host/", "*")
	f.Add("a'", "TAIPY_TUNNEL_END", "\"", "~", "/..", "::1", "http://[::1]/#", "a,b")
	f.Fuzz(func(t *testing.T, tenant, app, host, domain, path, network, url, principal string) {
		h := proxyhost.Host{Access: proxyhost.Access{BasicAuth: path, Allow: []string{network}, AuthRequest: url, SignIn: url},
			TLS: proxyhost.TLS{Mode: "files", Certificate: path, Key: path}, Status: proxyhost.Status{Port: 8090, BasicAuth: path},
			Tenants: []proxyhost.Tenant{{Name: tenant, Keys: []string{key(t, 1) + " " + principal}, UserCA: []string{key(t, 2)}, Principals: []string{principal},
				Host: host, SelfService: domain, Apps: []proxyhost.Declared{{Name: app}}}}}
		text, err := proxyhost.Script(h)
		if err != nil {
			if !errors.Is(err, fault.ErrConfig) {
				t.Fatalf("not an error of configuration: %v", err)
			}
			return
		}
		for _, word := range []string{tenant, app, host, domain, path, network, url, principal} {
			if strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'`$;{}()<>|\\*#!,^", r) }) {
				t.Errorf("%q was let through", word)
			}
		}
		if strings.Count(text, "\nTAIPY_TUNNEL_END\n") != strings.Count(text, "<<'TAIPY_TUNNEL_END'\n") {
			t.Error("the files of the script are not apart")
		}
		d, err := proxyhost.ParseDescription([]byte(render(t, h).Text("/etc/taipy-tunnel/proxy/" + tenant + ".json")))
		if err != nil || d.Tenant != tenant || len(d.Apps) != 1 || d.Apps[0].Name != app {
			t.Errorf("the description: %+v, %v", d, err)
		}
	})
}
