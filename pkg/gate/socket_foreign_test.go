// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// That the app refuses websockets of its own page is told of those alone: not of another protocol, nor of what is asked by
// something else than a page of it, which has no Origin (RFC 6455, section 10.2).
func TestWebsocketsThatAreNoneOfThePage(t *testing.T) {
	for name, header := range map[string][]string{
		"curl --http2":   {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"},
		"without a page": upgrade,
	} {
		t.Run(name, func(t *testing.T) {
			check(t)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			t.Cleanup(app.Close)
			told := 0
			_, addr := open(t, Config{Target: at(app.Listener.Addr().String()), Access: Access{Public: true}, Websocket: func(bool) { told++ }})
			if got := ask(t, addr, "GET", "/admin", "", header...); got.StatusCode != http.StatusForbidden || told != 0 {
				t.Errorf("%d, told %d times that the app refuses the websockets of its page", got.StatusCode, told)
			}
		})
	}
}
