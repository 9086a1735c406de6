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
	if os.Getenv("HTTP_PROXY") == "" { // which is read once in a process
		squid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", "squid/5.7")
			w.Header().Set("X-Squid-Error", "ERR_DNS_FAIL 0")
			w.Header().Set("Via", "1.1 egress (squid/5.7)")
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		defer squid.Close()
		again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		again.Env = append(os.Environ(), "HTTP_PROXY="+squid.URL)
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	f := URL(t.Context(), Question{URL: "http://proxy.example.com/", Ask: "a", Reply: "b", Once: true})
	if f.Kind != Unreachable || !strings.Contains(f.Answer, "503 Service Unavailable, of the HTTP proxy") {
		t.Errorf("kind %d, %s", f.Kind, f.Answer)
	}
}
