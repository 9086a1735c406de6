// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/http"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// What the doctor says of an answer to a visitor has no cause in it that the other rows exclude.
func TestDoctorJudgesAVisit(t *testing.T) {
	for name, row := range map[string]struct {
		visit      probe.Visited
		at         approach
		says, mute string
	}{
		"a login before an address that leads here":     {probe.Visited{Status: http.StatusUnauthorized}, approach{url: "http://h/", ours: true}, "a login", "another host"},
		"a login before one of which that is not known": {probe.Visited{Status: http.StatusUnauthorized}, approach{url: "http://h/", held: true}, "another host", "proxy_pass"},
		"no page, below a path":                         {probe.Visited{Status: http.StatusNotFound, Ours: true}, approach{url: "http://h/sales/", ours: true}, "a slash at the end of proxy_pass", "login"},
		"no page, at the root":                          {probe.Visited{Status: http.StatusNotFound, Ours: true}, approach{url: "http://h/", ours: true}, "the app itself answers so", "proxy_pass"},
	} {
		t.Run(name, func(t *testing.T) {
			c := judgeVisit(row.visit, "a visitor", row.at)
			if hint := c.Hint.String(); !c.OK || !strings.Contains(hint, row.says) || strings.Contains(hint, row.mute) {
				t.Errorf("%+v", c)
			}
		})
	}
}
