// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// What sshd does at a login may take longer than the patience (PAM's session modules), and its kernel takes what it is sent meanwhile: it
// is waited for. One that never answers is given up, and the error says when that was.
func TestServerThatAnswersLateAfterTheLogin(t *testing.T) {
	leak.Check(t)
	const pause = 2 * patience * tick
	dial := func(pause time.Duration) *Link {
		t.Helper()
		l, err := Dial(within(t, 20*time.Second), pausing(t, pause))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	began := time.Now()
	late, mute := dial(pause), dial(time.Hour)
	if err := late.Answers(within(t, 20*time.Second)); err != nil {
		t.Fatalf("after %v: %v (%v)", time.Since(began), err, late.Err())
	}
	if took := time.Since(began); took < pause {
		t.Errorf("it answered after %v", took)
	}
	select {
	case <-mute.Done():
	case <-time.After(10 * loginPatience * tick):
		t.Fatal("the mute one is never given up")
	}
	if took := time.Since(began); took < loginPatience*tick {
		t.Errorf("the mute one was given up after %v", took)
	}
	if e := wantFault(t, mute.Err(), fault.ErrUnreachable, false); !errors.Is(e, fault.ErrStalled) || e.Hint == "" {
		t.Errorf("%v\n%s", e, e.Hint)
	}
}

// pausing is a server that answers the first request after a pause; its kernel takes what comes meanwhile.
func pausing(t testing.TB, pause time.Duration) Config {
	t.Helper()
	return admitting(t, func(conn *ssh.ServerConn, reqs <-chan *ssh.Request) {
		ended := make(chan struct{})
		go func() { defer close(ended); _ = conn.Wait() }()
		select {
		case <-time.After(pause):
		case <-ended:
		}
		ssh.DiscardRequests(reqs)
		<-ended
	})
}
