// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What the HTTP proxy of this machine's network answers in place of the site, as Squid does for a name that it cannot resolve,
// says nothing of where the site leads.
func TestAnswersOfTheNetworksOwnProxy(t *testing.T) {
	const inside = "TAIPY_TUNNEL_INSIDE"
	if os.Getenv(inside) == "" { // the settings are read once in a process
		answered := func(body string) string {
			squid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Via", "1.1 egress (squid/5.7)")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte(body))
			}))
			t.Cleanup(squid.Close)
			return squid.URL
		}
		for kind, by := range map[string]string{"proxy": answered("ERR_DNS_FAIL"), "site": answered("<center><h1>503</h1></center><hr><center>nginx</center>")} {
			again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
			again.Env = append(os.Environ(), inside+"="+kind, "HTTP_PROXY="+by, "http_proxy=", "NO_PROXY=", "no_proxy=")
			if out, err := again.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", kind, err, out)
			}
		}
		return
	}
	f := URL(t.Context(), Question{URL: "http://proxy.example.com/", Ask: "a", Reply: "b", Once: true})
	if os.Getenv(inside) == "site" { // nginx's own page has come all the way
		if f.Kind != Nobody {
			t.Errorf("kind %d, %s", f.Kind, f.Answer)
		}
	} else if f.Kind != Unreachable || !strings.Contains(f.Answer, "503 Service Unavailable, from this machine's HTTP proxy") {
		t.Errorf("kind %d, %s", f.Kind, f.Answer)
	}
}
