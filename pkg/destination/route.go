// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"crypto/x509"
	"os"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/egress"
)

// route fills in how the connection to d, or to the first machine on the way, leaves the network.
func (cfg *Config) route(d *Destination) (err error) {
	first := *d
	if len(d.jumps) > 0 {
		first = d.jumps[0]
	}
	check := &egress.TLS{} // the certificate of an https proxy
	switch text := strings.TrimSpace(cfg.Via); {
	case text == "":
		d.via, err = egress.ViaFromEnvironment(cfg.getenv, first.addr(), check)
	case !strings.EqualFold(text, "none"):
		d.via, err = egress.ParseVia("via", text, check)
	}
	for _, t := range append(ends(d.jumps), d.tls, check) {
		if t != nil {
			t.Roots = cfg.roots
		}
	}
	if err == nil && d.via != nil && cfg.Log != nil {
		cfg.Log.Info("the connection leaves this network through a proxy", "via", d.via.String())
	}
	return err
}

// ends are those where machines on the way have SSH in TLS, nil where they have not.
func ends(machines []Destination) (found []*egress.TLS) {
	for _, m := range machines {
		found = append(found, m.tls)
	}
	return found
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
