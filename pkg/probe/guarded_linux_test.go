// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/nginxtest"
)

// nginx that wants a certificate of its visitors.
func TestClientCertificateBeforeNginx(t *testing.T) {
	dir := t.TempDir()
	made := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
		"-subj", "/CN=127.0.0.1", "-keyout", filepath.Join(dir, "key"), "-out", filepath.Join(dir, "cert"))
	if said, err := made.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v: %s", err, said)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	nginxtest.Start(t, fmt.Sprintf(`server { listen 127.0.0.1:%d ssl; ssl_certificate %[2]s/cert; ssl_certificate_key %[2]s/key;
		ssl_client_certificate %[2]s/cert; ssl_verify_client on; return 204; }`, port, dir), port)
	q := Question{URL: fmt.Sprintf("https://127.0.0.1:%d/", port), Ask: "question", Reply: "answer", AnyCertificate: true}
	f := URL(t.Context(), q)
	if f.Kind != Guarded || f.Answer != "400 Bad Request, it wants a client certificate" {
		t.Errorf("found %+v", f)
	}
	compat.Row(t, "servers", "client certificates, before the tunnel in nginx", compat.Taken+": the URL could not be checked: "+fault.Unchecked(f.Answer, true, "token"))
	q.URL = fmt.Sprintf("http://127.0.0.1:%d/", port)
	q.Once = true
	if f := URL(t.Context(), q); f.Kind != Elsewhere {
		t.Errorf("asked without TLS: found %+v", f)
	}
}
