// SPDX-License-Identifier: Apache-2.0

package loopcheck

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
)

// Carried is an app whose bytes a tunnel carries as they are. What it says for itself tells what an answer at the URL was worth.
type Carried struct {
	// App is where it listens; without an Addr there is none, or its bytes are not carried.
	App probe.App
	// Slot is where the web server in front reaches the tunnel.
	Slot net.Addr
}

// InVain is an error where the tunnel has answered a question in the place of an app that speaks TLS: the web server in front sends HTTP. The
// app is asked as visitors will ask it.
func (c Carried) InVain(ctx context.Context) error {
	if c.App.Addr != "" && errors.Is(c.App.Answers(ctx), fault.ErrTLS) {
		return fault.AppAskedInClear(c.App.Addr)
	}
	return nil
}

// NotTheApps is an error where TLS came for an app that speaks none, so that the answer cannot be its own; else nil.
func (c Carried) NotTheApps(ctx context.Context, f probe.Finding) *fault.Error {
	if !f.Carried || f.Kind != probe.Guarded || c.App.Addr == "" || !c.App.OnlyHTTP(ctx) {
		return nil
	}
	return fault.AppAskedInTLS(c.App.Addr, c.Slot)
}

// Unchecked is why the URL could not be checked. access is whom the tunnel admits.
func (c Carried) Unchecked(ctx context.Context, f probe.Finding, access string) string {
	if strings.HasSuffix(f.Answer, fault.WithinTLS) && c.App.Addr != "" {
		there := c.App
		if there.Raw = true; errors.Is(there.Answers(context.WithoutCancel(ctx)), syscall.ECONNREFUSED) {
			return fault.UncheckedWithoutApp(f.Answer)
		}
	}
	return fault.Unchecked(f.Answer, f.Kind == probe.Guarded, access)
}
