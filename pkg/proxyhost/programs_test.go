// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// program is the path of one that has to be there with CI=true.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	missing.Skip(t, "there is no %s", name)
	return ""
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	said, err := exec.Command(program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return string(said)
}

// installed has the files of h in a directory, and a certificate.
func installed(t testing.TB, h proxyhost.Host) (dir string, files proxyhost.Files) {
	t.Helper()
	dir = t.TempDir()
	h.Layout = proxyhost.Layout{Etc: dir + "/etc", Run: "/run/taipy-tunnel", SSHD: dir + "/sshd", Site: dir + "/site",
		Log: dir, Cache: dir + "/cache", Tmpfiles: dir + "/tmpfiles", Limits: dir + "/limits", Unit: dir + "/unit"}
	if h.TLS.Mode == "files" {
		h.TLS.Certificate, h.TLS.Key = dir+"/etc/tls/certificate.pem", dir+"/etc/tls/key.pem"
	}
	files = render(t, h)
	for _, f := range files {
		must(t, os.MkdirAll(filepath.Dir(f.Path), 0o755))
		must(t, os.WriteFile(f.Path, []byte(f.Text), 0o644))
	}
	must(t, os.MkdirAll(dir+"/etc/tls", 0o755))
	run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test",
		"-keyout", dir+"/etc/tls/key.pem", "-out", dir+"/etc/tls/certificate.pem")
	return dir, files
}

// nginxRefuses returns what nginx says of the site, "" if it takes it without a word.
func nginxRefuses(t testing.TB, dir string) string {
	t.Helper()
	conf := fmt.Sprintf("pid %[1]s/pid;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path %[1]s/b;\nproxy_temp_path %[1]s/p;\n"+
		"fastcgi_temp_path %[1]s/f;\nuwsgi_temp_path %[1]s/u;\nscgi_temp_path %[1]s/s;\ninclude %[1]s/site;\n}\n", dir)
	must(t, os.WriteFile(dir+"/nginx.conf", []byte(conf), 0o644))
	said, err := exec.Command(program(t, "nginx"), "-t", "-q", "-e", "stderr", "-c", dir+"/nginx.conf").CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, said)
	}
	return string(said)
}

// many is a machine of 50 teams.
func many(t testing.TB) (h proxyhost.Host) {
	for i := range 50 {
		tenant := proxyhost.Tenant{Name: fmt.Sprintf("team%d", i), Keys: []string{key(t, byte(i))}, Host: fmt.Sprintf("team%d.example.com", i)}
		for a := range 4 {
			app := proxyhost.Declared{Name: fmt.Sprintf("app-%d", a)}
			if a < 2 {
				app.Host = fmt.Sprintf("app-%d-%d.example.com", a, i)
			}
			tenant.Apps = append(tenant.Apps, app)
		}
		h.Tenants = append(h.Tenants, tenant)
	}
	return h
}

func TestNginxTakesWhatIsRendered(t *testing.T) {
	long := typical(t)
	long.Tenants[0].Apps[0].Host = strings.Repeat(strings.Repeat("x", 60)+".", 4) + "com"
	certbot := typical(t)
	certbot.TLS.Mode = "certbot"
	for name, h := range map[string]proxyhost.Host{"typical": typical(t), "everything": everything(t), "many": many(t), "long": long, "certbot": certbot} {
		start := time.Now()
		_, err := proxyhost.Script(h)
		must(t, err)
		took := time.Since(start)
		t.Logf("%s: rendered in %v", name, took)
		if took > 10*time.Second {
			t.Errorf("%s: rendering took %v", name, took)
		}
		dir, _ := installed(t, h)
		if said := nginxRefuses(t, dir); said != "" {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// sshd is asked what it makes of the drop-in for a tenant, and for others.
func TestSSHDTakesWhatIsRendered(t *testing.T) {
	for name, h := range map[string]proxyhost.Host{"typical": typical(t), "everything": everything(t), "many": many(t)} {
		dir, _ := installed(t, h)
		run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/hostkey")
		config := dir + "/sshd_config"
		must(t, os.WriteFile(config, []byte("Include "+dir+"/sshd\nHostKey "+dir+"/hostkey\nSubsystem sftp internal-sftp\nX11Forwarding yes\n"), 0o644))
		run(t, "sshd", "-t", "-f", config)
		said := run(t, "sshd", "-T", "-f", config, "-C", "user="+h.Tenants[0].Name+",host=x,addr=192.0.2.1")
		for _, want := range []string{"forcecommand internal-sftp -R", "chrootdirectory /run/taipy-tunnel/%u", "permitlisten none",
			"allowstreamlocalforwarding remote", "maxsessions 1", "x11forwarding no", "permitopen 127.0.0.1:", "streamlocalbindmask 0117"} {
			if !strings.Contains(said, "\n"+want) {
				t.Errorf("%s: no %s in\n%s", name, want, said)
			}
		}
		said = run(t, "sshd", "-T", "-f", config, "-C", "user=root,host=x,addr=192.0.2.1")
		for _, want := range []string{"x11forwarding yes", "permitlisten any", "forcecommand none", "chrootdirectory none"} {
			if !strings.Contains(said, "\n"+want) {
				t.Errorf("%s: for others no %s in\n%s", name, want, said)
			}
		}
	}
}
