// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// maxRecords is how many records wait for tt_events; older ones give way.
const maxRecords = 1024

// events is what happened since the last tt_events. An eventfd tells that there is something, so
// that nobody has to be called back while he holds his interpreter's lock.
var events ring

type ring struct {
	mu      sync.Mutex
	fd      int // 0: none yet
	records []record
	lost    int
}

type record struct {
	Handle  int64       `json:"handle"`
	Type    string      `json:"type"`
	Time    float64     `json:"time,omitempty"`
	Level   string      `json:"level,omitempty"`
	Message string      `json:"message,omitempty"`
	Hint    tunnel.Hint `json:"hint,omitempty"`
	Lost    int         `json:"lost,omitempty"`
}

// descriptor returns the eventfd.
func (r *ring) descriptor() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd == 0 {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return 0, err
		}
		r.fd = fd
		if len(r.records) > 0 {
			r.announce()
		}
	}
	return r.fd, nil
}

// announce is called with mu held.
func (r *ring) announce() {
	if r.fd != 0 {
		_, _ = unix.Write(r.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (r *ring) add(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) >= maxRecords {
		r.records = r.records[1:]
		r.lost++
	}
	r.records = append(r.records, rec)
	r.announce()
}

// status announces news of a tunnel, unless that was already the last thing said.
func (r *ring) status(handle int64) {
	r.mu.Lock()
	n := len(r.records)
	same := n > 0 && r.records[n-1] == record{Handle: handle, Type: "status"}
	r.mu.Unlock()
	if !same {
		r.add(record{Handle: handle, Type: "status"})
	}
}

// defect reports a panic.
func (r *ring) defect(handle int64, err error) {
	r.add(record{Handle: handle, Type: "log", Time: now(time.Now()), Level: "error", Message: err.Error()})
}

// take removes as many of the oldest records as fit in size bytes with a NUL, and returns them
// as a JSON array. If not even one fits it removes none and returns that one.
func (r *ring) take(size int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []byte{'['}
	taken := 0
	for _, rec := range r.records {
		if taken == 0 {
			rec.Lost = r.lost
		}
		text, err := json.Marshal(rec)
		if err != nil {
			panic(err)
		}
		if taken > 0 {
			text = append([]byte{','}, text...)
		}
		if len(out)+len(text)+2 > size {
			if taken == 0 {
				return append(append(out, text...), ']')
			}
			break
		}
		out = append(out, text...)
		taken++
	}
	if taken > 0 {
		r.lost = 0
		r.records = append([]record(nil), r.records[taken:]...)
	}
	return append(out, ']')
}

// handler is a slog.Handler that files records under a tunnel's handle.
type handler struct {
	handle int64
	attrs  []slog.Attr
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	var hint tunnel.Hint
	write := func(a slog.Attr) bool {
		if is, ok := a.Value.Any().(tunnel.Hint); ok {
			hint = is
		} else if text := a.Value.String(); text != "" {
			fmt.Fprintf(&b, "; %s: %s", a.Key, text)
		}
		return true
	}
	for _, a := range h.attrs {
		write(a)
	}
	r.Attrs(write)
	level := strings.ToLower(r.Level.String())
	if r.Level == slog.LevelWarn {
		level = "warning"
	}
	events.add(record{Handle: h.handle, Type: "log", Time: now(r.Time), Level: level, Message: b.String(), Hint: hint})
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

func (h handler) WithGroup(string) slog.Handler { return h }

func now(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
