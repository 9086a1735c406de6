// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// The line that docs/proxy.md has admins put before a key lets a tunnel work, with its page's own nginx; where another port
// is exposed than the line names, the proxy refuses.
func TestTheDocumentsNarrowedKey(t *testing.T) {
	leak.Check(t)
	page, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	found := regexp.MustCompile(`(?m)^    (restrict,.*) ssh-ed25519 AAAA…$`).FindStringSubmatch(string(page))
	if found == nil {
		t.Fatal("docs/proxy.md has no such line")
	}
	slot, web := sshdtest.FreePort(), sshdtest.FreePort()
	options := strings.NewReplacer("127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", slot), "127.0.0.1:80", fmt.Sprintf("127.0.0.1:%d", web)).Replace(found[1])
	c := &chain{Server: sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: options + " %s"}), port: slot}
	c.serveSite(t, string(page), web)
	cfg := c.config(app(t, "hello"))
	cfg.Server = tunnel.Servers{fmt.Sprintf("ssh -R %s %s -p %d", "8080:127.0.0.1:5000", c.User+"@"+c.Host, c.Port)} // as Taipy's page has it
	cfg.HostKey = "256 " + c.Fingerprint() + " root@proxy (ED25519)"                                                 // as the README has it printed
	open(t, cfg)
	wantBody(t, c.url, "hello")
	cfg.Remote = c.FreePort()
	if _, err = tunnel.Expose(within(t, 20*time.Second), cfg); !errors.Is(err, tunnel.ErrForward) {
		t.Errorf("another port than the line's: %v", err)
	}
}
