// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// What stops the check and may let visitors pass is no failure in the doctor's last row either, and it is called what it was seen
// to be.
func TestDoctorBehindWhatStopsTheCheck(t *testing.T) {
	for name, lines := range map[string]string{
		"406":                             `if ($http_user_agent !~ Mozilla/5) { return 406; }`,
		"429":                             `return 429;`,
		"400":                             `return 400;`,
		"511":                             `return 511;`,
		"403":                             `deny all;`,
		"a page that asks for a password": `error_page 403 = @login; location = /login { default_type text/html; return 200 "<input type=password>"; } location @login { return 302 /login; } location = /.well-known/taipy-tunnel { deny all; } location = / { return 302 /login; }`,
		"a firewall's page":               `default_type text/html; return 200 "The requested URL was rejected. Please consult with your administrator";`,
	} {
		t.Run(name, func(t *testing.T) {
			_, cfg := guardedBy(t, lines)
			cfg.Raw, cfg.Access = false, tunnel.Access{}
			tun := open(t, cfg)
			url, visitor := rowOf(t, tun, "url"), rowOf(t, tun, "visitor")
			if tun.Status().Unchecked == "" || !url.OK || !visitor.OK {
				t.Errorf("unchecked %q\nurl %+v\nvisitor %+v", tun.Status().Unchecked, url, visitor)
			}
			if strings.Contains(visitor.Hint.String(), "a login or another host stands") && name == "403" {
				t.Errorf("a rule for addresses: %s", visitor.Hint)
			}
		})
	}
}
