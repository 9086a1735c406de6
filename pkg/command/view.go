// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// brief is what is to be told when it changes: the state, why, and what should be mended.
func brief(s tunnel.Status) string {
	line := string(s.State)
	if s.LastError != nil && s.State != tunnel.Up {
		line += ": " + s.LastError.Error()
	}
	if s.Warning != nil {
		line += "; warning: " + s.Warning.Error()
	}
	if s.Unchecked != "" {
		line += "; the URL could not be checked: " + s.Unchecked
	}
	return line
}

// view is a tunnel as a terminal shows it, again and again in the same place.
type view struct {
	tunnel   *tunnel.Tunnel
	setting  func(name, value string) string // of hints
	at       time.Time
	requests int64
	rate     float64 // requests per second, of the last seconds
}

const lastRequests = 5 // of a view

func newView(t *tunnel.Tunnel, setting func(name, value string) string) *view {
	return &view{tunnel: t, setting: setting, at: time.Now()}
}

func (v *view) text(now time.Time) string {
	s := v.tunnel.Status()
	if gone := now.Sub(v.at); gone >= time.Second {
		v.rate = float64(s.Requests-v.requests) / gone.Seconds()
		v.at, v.requests = now, s.Requests
	}
	app := s.Target
	if app == "" {
		app = "none yet"
	}
	lines := []string{
		"State     " + string(s.State) + ", for " + time.Since(s.Since).Round(time.Second).String(),
		"App       " + app,
		fmt.Sprintf("Proxy     %s, %d connections to it", s.Server, s.Links),
		fmt.Sprintf("Visitors  %d now, %d today (UTC)", s.Visitors, s.VisitorsToday),
		fmt.Sprintf("Requests  %d, %.1f a second; %d failed, %d slow, %d refused", s.Requests, v.rate, s.Failed, s.Slow, s.Refused),
	}
	if s.LastError != nil {
		lines = append(lines, v.why("Why       ", s.LastError)...)
	}
	if s.Warning != nil {
		lines = append(lines, v.why("Warning   ", s.Warning)...)
	}
	for _, req := range v.tunnel.Requests(lastRequests) {
		at := time.UnixMicro(int64(req.Time * 1e6)).Format(time.TimeOnly)
		lines = append(lines, fmt.Sprintf("%s  %-4s %3d %6.0f ms  %s", at, req.Method, req.Status, req.Seconds*1000, fault.Printable(req.Path)))
	}
	return strings.Join(lines, "\n")
}

func (v *view) why(what string, e *tunnel.Error) []string {
	lines := []string{what + e.Error()}
	if hint := e.Hint.In(v.setting); hint != "" {
		lines = append(lines, "          -> "+hint)
	}
	return lines
}
