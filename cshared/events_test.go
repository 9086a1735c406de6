// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

func decode(t *testing.T, text []byte) (recs []record) {
	t.Helper()
	if err := json.Unmarshal(text, &recs); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return recs
}

func TestTakeGivesWholeRecordsThatFit(t *testing.T) {
	var r ring
	if got := string(r.take(100)); got != "[]" {
		t.Fatalf("an empty ring gives %s", got)
	}
	for range 10 {
		r.add(record{Handle: 1, Type: "log", Level: "info", Message: strings.Repeat("x", 100)})
	}
	if got := r.take(50); len(got) < 50 || len(r.records) != 10 {
		t.Fatalf("nothing fits: %d bytes, %d records left", len(got), len(r.records))
	}
	total := 0
	for len(r.records) > 0 {
		got := r.take(500)
		if len(got) >= 500 {
			t.Fatalf("%d bytes for a buffer of 500", len(got))
		}
		total += len(decode(t, got))
	}
	if total != 10 {
		t.Errorf("%d records came, want 10", total)
	}
}

func TestOldRecordsGiveWayAndAreCounted(t *testing.T) {
	var r ring
	for i := range maxRecords + 7 {
		r.add(record{Handle: int64(i), Type: "log"})
	}
	recs := decode(t, r.take(1<<20))
	if len(recs) != maxRecords || recs[0].Handle != 7 || recs[0].Lost != 7 || recs[1].Lost != 0 {
		t.Errorf("%d records, the first %+v", len(recs), recs[0])
	}
}

func TestStatusIsFolded(t *testing.T) {
	var r ring
	for range 5 {
		r.status(1)
	}
	r.status(2)
	r.status(1)
	if recs := decode(t, r.take(1<<20)); len(recs) != 3 {
		t.Errorf("%d records, want 3", len(recs))
	}
}

func TestDescriptorAnnounces(t *testing.T) {
	var r ring
	r.status(1) // before anybody asked for the descriptor
	fd, err := r.descriptor()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, 8)
	if n, err := unix.Read(fd, b); n != 8 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := unix.Read(fd, b); err != unix.EAGAIN {
		t.Errorf("nothing new: %v, want EAGAIN", err)
	}
	r.status(2)
	if n, err := unix.Read(fd, b); n != 8 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("a child process would inherit the descriptor")
	}
}

func TestLogRecordsReadAsSentences(t *testing.T) {
	events.take(1 << 20)
	slog.New(handler{handle: 3}).With("a", 1).Warn("what happened", "hint", tunnel.Hint("pass {host_key}"), "b", 2, "empty", "")
	recs := decode(t, events.take(1<<20))
	if len(recs) != 1 || recs[0].Level != "warning" || recs[0].Message != "what happened; a: 1; b: 2" || recs[0].Hint != "pass {host_key}" || recs[0].Time == 0 {
		t.Errorf("%+v", recs)
	}
}
