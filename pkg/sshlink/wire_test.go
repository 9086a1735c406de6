// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
)

// When reading fails x/crypto has already seen that it writes in vain; or it would open a channel that nobody ends.
func TestWritingFailsBeforeReading(t *testing.T) {
	for name, early := range map[string]bool{"since the login": false, "before the login": true} {
		near, far := net.Pipe()
		var tasks guard.Group
		w := newWire(near, tasks.Go, func() {})
		var wrote []error
		write := func() {
			_, err := w.Write([]byte("x"))
			wrote = append(wrote, err)
		}
		if !early {
			w.fails(write)
		}
		_ = far.Close()
		if _, err := w.Read(make([]byte, 1)); err == nil || len(wrote) == 0 == !early {
			t.Errorf("%s: read: %v; it wrote %d times before", name, err, len(wrote))
		}
		if early {
			w.fails(write)
		}
		if len(wrote) != 1 || !errors.Is(wrote[0], net.ErrClosed) {
			t.Errorf("%s: it wrote: %v", name, wrote)
		}
		_ = w.Close()
		_ = near.Close()
		tasks.Wait()
	}
}

// impatientConn is a connection of which the kernel has lost patience.
type impatientConn struct{ net.Conn }

func (impatientConn) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.ETIMEDOUT)}
}

// That the kernel gave up is told as that, and what the server did as what it was.
func TestWhyItEnded(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	for _, c := range []net.Conn{near, impatientConn{near}} {
		var tasks guard.Group
		w := newWire(c, tasks.Go, func() {})
		_, impatient := c.(impatientConn)
		if impatient {
			for err := error(nil); err == nil; {
				_, err = w.Write([]byte("x"))
			}
		}
		if got := w.why(io.EOF); errors.Is(got, syscall.ETIMEDOUT) != impatient || errors.Is(got, io.EOF) == impatient {
			t.Errorf("%T: %v", c, got)
		}
		_ = w.Close()
		_ = near.Close()
		tasks.Wait()
	}
}

// deafConn is a connection from which nothing is read any more once it is deaf.
type deafConn struct {
	net.Conn
	deaf  <-chan struct{}
	heard chan int // bytes that came since
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.deaf:
	default:
		return n, err
	}
	for err == nil {
		c.heard <- n
		n, err = c.Conn.Read(p)
	}
	return 0, err
}

// A link ends also while keys are exchanged, and more is to be sent than x/crypto keeps until then.
func TestTheEndWhileKeysAreExchanged(t *testing.T) {
	leak.Check(t)
	host, deaf := newSigner(t), make(chan struct{})
	server := make(chan *deafConn, 1)
	addr := accepting(t, func(c net.Conn) {
		d := &deafConn{c, deaf, make(chan int, 1000)}
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
		cfg.RekeyThreshold = 16 << 10
		cfg.AddHostKey(host)
		conn, chans, reqs, err := ssh.NewServerConn(d, cfg)
		if err != nil {
			return
		}
		server <- d
		var tasks sync.WaitGroup
		defer tasks.Wait()
		tasks.Go(func() { ssh.DiscardRequests(reqs) })
		<-deaf
		for range 2 { // the server wants other keys then
			_, _, _ = conn.SendRequest("x", false, make([]byte, 16<<10))
		}
		for range chans {
		}
	})
	l, err := Dial(within(t, 10*time.Second), fakeConfig(t, addr, host))
	if err != nil {
		t.Fatal(err)
	}
	d := <-server
	close(deaf)
	for sent := 0; sent < 500; { // the answer to that; a keepalive is shorter
		sent = <-d.heard
	}
	var writers sync.WaitGroup
	wrote := make(chan struct{}, 100)
	for range cap(wrote) {
		writers.Go(func() { _, _, _ = l.ssh.SendRequest("x", false, nil); wrote <- struct{}{} })
	}
	for range 64 { // so many are kept
		<-wrote
	}
	_ = d.Close()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.Close(); writers.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the link does not end")
	}
}
