// SPDX-License-Identifier: Apache-2.0

//go:build linux && roots

package roottest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
)

// certified is the name for which there is a certificate. Here, and in the machine, it leads to that.
const certified = "app.example.com"

// byCertbot is a quickstart with --certbot: the machine prints a command, and when that has run visitors come by https with the certificate of an
// authority. Pebble stands in for Let's Encrypt: it asks nginx for the proof, as that does (RFC 8555, section 8.3).
func (m *machine) byCertbot(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	m.must("echo 127.0.0.1 " + certified + " >>/etc/hosts")
	as := []string{"root@127.0.0.1", "--key", m.key, "--host-key", m.hostKey(), "--name", "app", "--domain", certified, "--certbot"}
	code, said := m.quickly(t.Context(), nil, as...)
	printed := regexp.MustCompile(`certbot certonly .*`).FindString(said)
	if code != command.OK || printed == "" || !strings.Contains(said, "https://"+certified+"/") || !strings.Contains(said, "until the certbot command has run") {
		t.Fatalf("%d\n%s", code, said)
	}
	end := m.pebble(t)
	defer end()
	m.must("printf '#!/bin/sh\\nexec nginx -s reload\\n' >/root/systemctl && chmod 755 /root/systemctl") // none runs here
	m.must("PATH=/root:$PATH " + printed + " --server https://127.0.0.1:14000/dir --no-verify-ssl --agree-tos --register-unsafely-without-email -n")
	code, said = m.quickly(t.Context(), nil, as...)
	if code != command.OK || strings.Contains(said, "no certificate that browsers trust") || !strings.Contains(said, "Pebble") {
		t.Errorf("%d\n%s", code, said)
	}
	resp, err := m.trusting(t).Get("https://" + certified + "/")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if page, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(page), "The app is away") {
		t.Errorf("%s\n%s", resp.Status, page)
	}
	m.removed(t)
}

// pebble runs it until the function that is returned is called.
func (m *machine) pebble(t *testing.T) (end func()) {
	must(t, os.WriteFile(m.root+"/root/pebble.json", []byte(`{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
		"certificate": "/root/pebble.pem", "privateKey": "/root/pebble.key", "httpPort": 80, "tlsPort": 443}}`), 0o600))
	m.must("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=pebble -addext subjectAltName=IP:127.0.0.1 -keyout /root/pebble.key -out /root/pebble.pem 2>/dev/null")
	m.must("PEBBLE_VA_NOSLEEP=1 setsid pebble -config /root/pebble.json >/root/pebble.log 2>&1 </dev/null & echo $! >/root/pebble.pid")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := m.sh("openssl s_client -connect 127.0.0.1:14000 </dev/null"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(m.must("cat /root/pebble.log"))
		}
	}
	return func() {
		if t.Failed() {
			t.Log(m.must("tail -50 /root/pebble.log"))
		}
		m.must("kill $(cat /root/pebble.pid)")
	}
}

// trusting is a visitor who trusts pebble's authority, and no other.
func (m *machine) trusting(t *testing.T) *http.Client {
	api, err := os.ReadFile(m.root + "/root/pebble.pem")
	must(t, err)
	trusts := func(trusted []byte) *http.Client {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(trusted) {
			t.Fatalf("no certificate: %s", trusted)
		}
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 20 * time.Second}
	}
	resp, err := trusts(api).Get("https://127.0.0.1:15000/roots/0")
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	root, err := io.ReadAll(resp.Body)
	must(t, err)
	return trusts(root)
}
