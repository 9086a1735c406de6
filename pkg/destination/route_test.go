// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Which proxy a connection leaves by is decided for the first machine on the way.
func TestRoutes(t *testing.T) {
	env := map[string]string{"HTTPS_PROXY": "http://me:hunter2@out:3128", "NO_PROXY": "near"}
	for _, c := range []struct {
		server, jump, via string
		env               map[string]string
		want              string
	}{
		{"me@far", "", "", env, "http://out:3128 (HTTPS_PROXY)"},
		{"me@near", "", "", env, "<nil>"},
		{"me@near", "me@far", "", env, "http://out:3128 (HTTPS_PROXY)"},
		{"me@far", "me@near", "", env, "<nil>"},
		{"me@far", "me@near,me@middle", "", env, "<nil>"},
		{"me@127.0.0.1", "", "", env, "<nil>"},
		{"tls://me@far", "", "", env, "http://out:3128 (HTTPS_PROXY)"},
		{"me@far", "", "none", env, "<nil>"},
		{"me@far", "", " NONE ", env, "<nil>"},
		{"me@near", "", "socks5://me:hunter2@127.0.0.1", env, "socks5://127.0.0.1:1080"},
		{"me@far", "", "", map[string]string{}, "<nil>"},
		{"me@far", "", "", nil, "http://own:1 (https_proxy)"},
	} {
		t.Setenv("https_proxy", "own:1")
		t.Setenv("no_proxy", "")
		var log bytes.Buffer
		d, err := Resolve(Config{Server: c.server, Jump: c.jump, Via: c.via, Environment: c.env, SSHConfig: "none", Log: slog.New(slog.NewTextHandler(&log, nil))})
		if got := fmt.Sprint(d.via); err != nil || got != c.want && (d.via != nil || c.want != "<nil>") {
			t.Errorf("%s by %q, %q: %s, %v; want %s", c.server, c.jump, c.via, got, err, c.want)
		}
		if strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), "leaves this network") != (d.via != nil) {
			t.Errorf("%s: logged %s", c.server, log.String())
		}
	}
	for via, says := range map[string]string{"ftp://me:hunter2@h:1": "via names", "": "ALL_PROXY has a port"} {
		_, err := Resolve(Config{Server: "me@far", Via: via, Environment: map[string]string{"ALL_PROXY": "http://me:hunter2@h:70000"}, SSHConfig: "none"})
		if !errors.Is(err, fault.ErrConfig) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", via, err, says)
		}
	}
}

// SSL_CERT_FILE is read at each handshake, so that a file that comes later counts. Resolve does not read it: to parse the
// usual 140 authorities takes 3 ms, twenty times as long as the rest.
func TestAuthoritiesAreReadWhenOneIsNeeded(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	d, err := Resolve(Config{Server: "tls://me@127.0.0.1", SSHConfig: "none", Environment: map[string]string{"SSL_CERT_FILE": file}})
	if err != nil {
		t.Fatal(err)
	}
	handshake := func() error {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := d.tls.Over(t.Context(), c, "127.0.0.1", s.Listener.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if err := handshake(); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("with no such file: %v", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := handshake(); err != nil {
		t.Errorf("with its file: %v", err)
	}
}
