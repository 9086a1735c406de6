// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tunnel_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/proxytest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// Who passes the link of the card as Config.URL, with its token, is not shown it in logs, the status, the doctor's rows or errors.
func TestALinkAsURL(t *testing.T) {
	c := newChain(t, sshdtest.Options{})
	asking := c.config(app(t, "hello"))
	asking.Raw, asking.Access = false, tunnel.Access{}
	first := open(t, asking)
	link := first.URL()
	_, token, _ := strings.Cut(link, "#token=")
	_ = first.Close()
	for name, url := range map[string]string{"#token=": link, "?token=": strings.Replace(link, "#token=", "?token=", 1)} {
		cfg := asking
		cfg.URL = url
		var log proxytest.Log
		cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
		tun := open(t, cfg)
		status, err := json.Marshal(tun.Status())
		if err != nil {
			t.Fatal(err)
		}
		for where, shown := range map[string]string{"log": log.String(), "status": string(status), "doctor": fmt.Sprint(tun.Doctor(t.Context()))} {
			if strings.Contains(shown, token) {
				at := strings.Index(shown, token)
				t.Errorf("%s: the %s shows the token: …%s…", name, where, shown[max(0, at-60):min(len(shown), at+20)])
			}
		}
		if got := tun.URL(); strings.Count(got, "token=") != 1 {
			t.Errorf("the link is %s", got)
		}
		_ = tun.Close()
	}
}
