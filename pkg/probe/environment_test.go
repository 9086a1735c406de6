// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What this network's own HTTP proxy answers says nothing of where visitors are led who do not come through it.
func TestAnswersOfTheNetworksOwnProxy(t *testing.T) {
	const inside = "TAIPY_TUNNEL_INSIDE"
	rows := map[string]struct {
		url    string
		status int
		page   string
		want   Kind
		says   string
	}{
		"its own page":                 {"http://proxy.example.com/", 503, "ERR_DNS_FAIL", Unreachable, "503 Service Unavailable, from this machine's HTTP proxy"},
		"nginx's page, passed on":      {"http://proxy.example.com/", 503, "<center><h1>503</h1></center><hr><center>nginx</center>", Nobody, "503 Service Unavailable"},
		"it wants a login":             {"http://proxy.example.com/", 407, "", Unreachable, "407 Proxy Authentication Required, from this machine's HTTP proxy"},
		"it wants a login, https":      {"https://proxy.example.com/", 407, "", Unreachable, "Proxy Authentication Required, through this machine's HTTP proxy"},
		"it does not let by, https":    {"https://proxy.example.com/", 403, "ERR_ACCESS_DENIED", Unreachable, "Forbidden, through this machine's HTTP proxy"},
		"it finds nothing, https":      {"https://proxy.example.com/", 502, "ERR_DNS_FAIL", Unreachable, "Bad Gateway, through this machine's HTTP proxy"},
		"it does not let by, no https": {"http://proxy.example.com/", 403, "ERR_ACCESS_DENIED", Guarded, "403 Forbidden"},
	}
	if name := os.Getenv(inside); name != "" { // the settings are read once in a process
		row := rows[name]
		f := URL(t.Context(), Question{URL: row.url, Ask: "a", Reply: "b", Once: true})
		if f.Kind != row.want || !strings.Contains(f.Answer, row.says) {
			t.Errorf("kind %d, want %d; %s", f.Kind, row.want, f.Answer)
		}
		return
	}
	for name, row := range rows {
		squid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Via", "1.1 egress (squid/5.7)")
			w.WriteHeader(row.status)
			_, _ = fmt.Fprint(w, row.page)
		}))
		again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		again.Env = append(os.Environ(), inside+"="+name, "HTTP_PROXY="+squid.URL, "HTTPS_PROXY="+squid.URL, "http_proxy=", "https_proxy=", "NO_PROXY=", "no_proxy=")
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		squid.Close()
	}
}
