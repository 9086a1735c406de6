// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/begun"
)

// full is a connection by a link that answers, though behind what fills it.
type full struct {
	net.Conn
	after time.Duration
}

func (s full) Answers(ctx context.Context) error {
	select {
	case <-time.After(s.after):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A body that is long under way because the link is full is not taken for one that another tunnel was asked: its bytes have
// just come by the link.
func TestABodyThatComesLateByAFullLink(t *testing.T) {
	behind(t, func(d *door) {
		d.app = func(http.ResponseWriter, *http.Request) {}
		d.clock = func(context.Context) (time.Duration, bool) { return 0, true }
		at := time.Now().UnixMilli()
		here, there := net.Pipe()
		d.conns <- full{there, 25 * time.Second}
		v := visitOn(t, here, "POST", "/", onceID, "", fmt.Sprintf("%s: %d.%03d", passedHeader, at/1000, at%1000), "Content-Length: 21")
		for range 21 {
			time.Sleep(begun.Fresh / 20)
			_, _ = here.Write([]byte("x"))
		}
		d.wants("late", v.answer(), http.StatusOK, "")
		d.wantsRuns("late", 1)
	})
}
