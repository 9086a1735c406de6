// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/x509"
	"os"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// route fills in how the connection to s, or to the first machine on the way, leaves the network.
func (cfg *Config) route(s *server) (err error) {
	roots := cfg.roots()
	if s.tls != nil {
		s.tls.Roots = roots
	}
	first := *s
	for i := range s.jumps {
		if s.jumps[i].tls != nil {
			s.jumps[i].tls.Roots = roots
		}
		first = s.jumps[0]
	}
	check := &sshlink.TLS{Roots: roots} // the certificate of an https proxy
	switch text := strings.TrimSpace(cfg.Via); {
	case text == "":
		s.via, err = sshlink.ViaFromEnvironment(cfg.getenv, first.addr(), check)
	case !strings.EqualFold(text, "none"):
		s.via, err = sshlink.ParseVia("via", text, check)
	}
	if err == nil && s.via != nil && cfg.Log != nil {
		cfg.Log.Info("the connection leaves this network by way of a proxy", "via", s.via.String())
	}
	return err
}

func (cfg *Config) getenv(name string) string {
	if cfg.Environment == nil {
		return os.Getenv(name)
	}
	return cfg.Environment[name]
}

// roots are the system's authorities and those of SSL_CERT_FILE; nil where that adds none. Go itself
// reads it once, from the environment that this process began with.
func (cfg *Config) roots() *x509.CertPool {
	text, err := os.ReadFile(cfg.getenv("SSL_CERT_FILE"))
	if err != nil {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil
	}
	return pool
}
