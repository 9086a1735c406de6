// SPDX-License-Identifier: Apache-2.0

package proxyhost_test

import (
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

var update = flag.Bool("update", false, "write the golden files anew")

// key is a public key that is the same at each run.
func key(t testing.TB, n byte) string {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// typical is what most machines are.
func typical(t testing.TB) proxyhost.Host {
	return proxyhost.Host{TLS: proxyhost.TLS{Mode: "self-signed"}, Tenants: []proxyhost.Tenant{
		{Name: "sales", Keys: []string{key(t, 1) + " somebody@laptop"}, Apps: []proxyhost.Declared{{Name: "forecast", Host: "forecast.example.com"}}}}}
}

// everything has one of each.
func everything(t testing.TB) proxyhost.Host {
	return proxyhost.Host{
		TLS:    proxyhost.TLS{Mode: "files", Certificate: "/etc/ssl/proxy.pem", Key: "/etc/ssl/private/proxy.key"},
		Access: proxyhost.Access{Allow: []string{"192.0.2.0/24", "2001:db8::1"}},
		Status: proxyhost.Status{Port: 8090, Allow: []string{"198.51.100.7"}},
		HTTPS:  8443,
		Tenants: []proxyhost.Tenant{
			{Name: "alice", Keys: []string{key(t, 1)}, Host: "203.0.113.7", SelfService: "apps.example.com",
				Apps: []proxyhost.Declared{{Name: "sales"}, {Name: "hr"}, {Name: "board", Host: "board.example.com"}}},
			{Name: "bob", UserCA: []string{key(t, 2)}, Principals: []string{"bob@example.com"}, Revoked: []string{key(t, 3)}, Check: 7999,
				Access: &proxyhost.Access{AuthRequest: "http://127.0.0.1:4180/oauth2/auth", SignIn: "https://login.example.com/oauth2/start"},
				Apps:   []proxyhost.Declared{{Name: "sales", Host: "2001:db8::7"}}},
			{Name: "carol", Keys: []string{key(t, 4)}, Access: &proxyhost.Access{BasicAuth: "/etc/nginx/htpasswd"},
				Apps: []proxyhost.Declared{{Name: "sales", Host: "carol.example.com"}}},
		}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func render(t testing.TB, h proxyhost.Host) proxyhost.Files {
	t.Helper()
	files, err := proxyhost.Render(h)
	must(t, err)
	return files
}

// golden compares with a file of testdata; go test -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; look at it, then: go test ./pkg/proxyhost -update\n%s", name, got)
	}
}

func TestRenderedFiles(t *testing.T) {
	for name, h := range map[string]proxyhost.Host{"typical": typical(t), "everything": everything(t)} {
		var text strings.Builder
		for _, f := range render(t, h) {
			fmt.Fprintf(&text, "==> %s\n%s", f.Path, f.Text)
		}
		golden(t, name+".txt", text.String())
	}
}

// What is rendered for a tenant is what its client understands.
func TestDescriptionsAreUnderstood(t *testing.T) {
	files := render(t, everything(t))
	d, err := proxyhost.ParseDescription([]byte(files.Text("/etc/taipy-tunnel/proxy/alice.json")))
	must(t, err)
	if !d.CheckSlots {
		t.Error("it does not say that each slot can be asked")
	}
	if d.RepeatWithin != int(proxyhost.RepeatWithin.Seconds()) {
		t.Errorf("it says that requests are sent again within %d s", d.RepeatWithin)
	}
	for name, want := range map[string]string{"sales": "https://203.0.113.7:8443/sales/", "board": "https://board.example.com:8443/",
		"mine": "https://mine--alice.apps.example.com:8443/"} {
		app, err := d.Find(name)
		must(t, err)
		slots := map[string]int{"mine": 2}[name]
		if slots == 0 {
			slots = 4
		}
		if app.URL != want || len(app.Slots) != slots || app.Slots[0] != "/s/"+name+".0.sock" {
			t.Errorf("%s: %+v", name, app)
		}
	}
}

// A Host survives being written and read.
func TestHostIsJSON(t *testing.T) {
	text, err := json.Marshal(everything(t))
	must(t, err)
	h, err := proxyhost.ParseHost(text)
	must(t, err)
	if a, b := fmt.Sprint(render(t, *h)), fmt.Sprint(render(t, everything(t))); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}
