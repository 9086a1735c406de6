// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

const hostileGrowth = 10 << 20 // bytes that a server may make us hold

// growth watches how much more memory is in use than when it began, until the function that it
// returns is called. What three collections in a row find alive is held: one finds what was allocated while
// it ran as well, which on a busy machine is megabytes. The servers of these tests live in the same
// process, so they hold little.
func growth(t testing.TB) (most func() int64) {
	t.Helper()
	use := func() int64 { // what the last collection found alive; not what was dropped since
		held := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(held)
		return int64(held[0].Value.Uint64() + held[1].Value.Uint64())
	}
	runtime.GC()
	begin, peak := use(), int64(0)
	stop := make(chan struct{})
	var task sync.WaitGroup
	task.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var last [3]int64
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.GC() // what is only waiting to be collected is not held
				last[n%len(last)] = use() - begin
				peak = max(peak, slices.Min(last[:]))
			}
		}
	})
	return func() int64 { close(stop); task.Wait(); return peak }
}

// packet is an unencrypted binary packet (RFC 4253, section 6).
func packet(payload []byte) []byte {
	padding := 8 - (5+len(payload))%8
	if padding < 4 {
		padding += 8
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	p = append(append(p, byte(padding)), payload...)
	return append(p, make([]byte, padding)...)
}

// debug is SSH_MSG_DEBUG (RFC 4253, section 11.3), ignore SSH_MSG_IGNORE (section 11.2).
var (
	debug  = packet(append([]byte{4, 1}, ssh.Marshal(struct{ Text, Language string }{strings.Repeat("d", 8000), ""})...))
	ignore = packet(append([]byte{2}, ssh.Marshal(struct{ Data string }{strings.Repeat("i", 8000)})...))
)

// flood sends head once and then the rest for as long as somebody takes it.
func flood(head string, rest []byte) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, head)
		for {
			if _, err := c.Write(rest); err != nil {
				return
			}
		}
	}
}

// hugeKey is a host key of a megabyte.
type hugeKey struct{ ssh.Signer }

func (h hugeKey) PublicKey() ssh.PublicKey { return hugePublic{h.Signer.PublicKey()} }

type hugePublic struct{ ssh.PublicKey }

func (h hugePublic) Marshal() []byte { return append(h.PublicKey.Marshal(), make([]byte, 200<<10)...) }

// TestHostileHandshakes: whatever a server says before the login, the error comes in time and
// little of it is held.
func TestHostileHandshakes(t *testing.T) {
	const version = "SSH-2.0-hostile\r\n"
	for name, serve := range map[string]func(net.Conn){
		"endless line":          flood("", bytes.Repeat([]byte("x"), 4096)),
		"endless lines":         flood("", bytes.Repeat([]byte("hello\r\n"), 600)),
		"endless version":       flood("SSH-2.0-", bytes.Repeat([]byte("x"), 4096)),
		"debug messages":        flood(version, debug),
		"ignored messages":      flood(version, ignore),
		"length of 4 GiB":       flood(version+"\xff\xff\xff\xff\x04", bytes.Repeat([]byte{20}, 4096)),
		"length of 0":           flood(version+"\x00\x00\x00\x00\x00", make([]byte, 64)),
		"padding beyond packet": flood(version+"\x00\x00\x00\x0c\xff", make([]byte, 64)),
		"KEXINIT of nonsense":   flood(version, packet(append([]byte{20}, bytes.Repeat([]byte{0xff}, 4000)...))),
		"an end with many words": says(version + string(packet(append([]byte{1}, ssh.Marshal(struct {
			Reason         uint32
			Text, Language string
		}{2, strings.Repeat("\x1b[2J\r\n", 5000), ""})...)))),
		"huge host key": func(c net.Conn) {
			cfg := &ssh.ServerConfig{NoClientAuth: true}
			cfg.AddHostKey(hugeKey{newSigner(t)})
			_, _, _, _ = ssh.NewServerConn(c, cfg)
		},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			cfg := fakeConfig(t, accepting(t, serve), newSigner(t))
			most := growth(t)
			begin := time.Now()
			_, err := Dial(within(t, time.Second), cfg)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v, the limit was 1 s", took)
			}
			if held := most(); held > hostileGrowth {
				t.Errorf("held %d MiB", held>>20)
			}
			if !errors.Is(err, fault.ErrUnreachable) && !errors.Is(err, fault.ErrHostKey) {
				t.Errorf("got %v", err)
			}
			if text := err.Error(); strings.ContainsAny(text, "\x1b\r\n") || len(text) > 10_000 {
				t.Errorf("the server's own words are shown: %.100q", text)
			}
		})
	}
}

// TestHostileFloods: a server that we logged in to may open and ask what it likes, as fast as it
// can. The link goes on or ends; it is closed in time and holds little.
func TestHostileFloods(t *testing.T) {
	good := ssh.Marshal(forwarded{"127.0.0.1", 8080, "127.0.0.1", 1})
	open := func(kind string, payload []byte) func(*ssh.ServerConn) {
		return func(s *ssh.ServerConn) {
			var tasks sync.WaitGroup
			defer tasks.Wait()
			for range 8 {
				tasks.Go(func() {
					for range 2000 {
						_, reqs, err := s.OpenChannel(kind, payload)
						if _, refused := errors.AsType[*ssh.OpenChannelError](err); err != nil && !refused {
							return
						}
						if err == nil {
							tasks.Go(func() { ssh.DiscardRequests(reqs) })
						}
					}
				})
			}
		}
	}
	ask := func(kind string, reply bool, payload []byte) func(*ssh.ServerConn) {
		return func(s *ssh.ServerConn) {
			for range 20000 {
				if _, _, err := s.SendRequest(kind, reply, payload); err != nil {
					return
				}
			}
		}
	}
	for name, f := range map[string]func(*ssh.ServerConn){
		"channels for our slot":     open("forwarded-tcpip", good),
		"channels of no kind":       open("x", make([]byte, 20_000)),
		"requests":                  ask("x", false, make([]byte, 20_000)),
		"requests that want a word": ask("keepalive@openssh.com", true, nil),
		"host keys":                 ask("hostkeys-00@openssh.com", false, make([]byte, 30_000)),
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			finished := make(chan struct{})
			cfg := opener(t, func(s *ssh.ServerConn) { defer close(finished); f(s) })
			l, err := Dial(within(t, 10*time.Second), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			most := growth(t)
			if _, err := l.Listen(within(t, 10*time.Second), 8080); err != nil { // nobody accepts
				t.Fatal(err)
			}
			select {
			case <-finished:
			case <-l.Done():
			case <-time.After(2 * time.Second): // long enough: it is being answered as fast as it asks
			}
			closed := make(chan struct{})
			go func() { _ = l.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatal("Close hangs")
			}
			if held := most(); held > hostileGrowth {
				t.Errorf("held %d MiB", held>>20)
			}
		})
	}
}

// FuzzBanner: a server that says these bytes and no more is told apart in time, whatever they are.
func FuzzBanner(f *testing.F) {
	for _, s := range []string{"", "SSH-2.0-x\r\n", "SSH-1.99-x\r\n", "HTTP/1.1 400\r\n\r\n", "\x00\n\n", "Exceeded MaxStartups\r\n",
		"hello\r\nSSH-2.0-x\r\n", "SSH-2.0-x\r\n" + string(debug[:64])} {
		f.Add([]byte(s))
	}
	host := newSigner(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		cfg := fakeConfig(t, accepting(t, says(string(said))), host)
		l, err := Dial(within(t, 2*time.Second), cfg)
		if err == nil {
			_ = l.Close()
			t.Fatal("logged in")
		}
		wantFault(t, err, fault.ErrUnreachable, false)
	})
}
