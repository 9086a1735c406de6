// SPDX-License-Identifier: Apache-2.0

// Package forward carries bytes between accepted connections and the app.
//
//	var target forward.Target
//	target.Set("127.0.0.1:5000")
//	f := forward.Forwarder{Target: &target}
//	err := f.Serve(listener) // until the listener is closed
//	f.Close()                // and the connections with it
//
// Each connection has a goroutine for each direction and none waits for another. An end of
// file is passed on as one (half-close), a failure ends both sides. It knows nothing of SSH.
package forward

import (
	"context"
	"net"
	"sync"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/pump"
)

// Forwarder joins what a listener accepts with connections to Target.
type Forwarder struct {
	// Target is where the app listens. Required.
	Target *Target
	// Dialled is told how each attempt to reach the app ended (nil: it answered). It must not
	// block. Nil: nobody is told.
	Dialled func(addr string, err error)
	// Panicked is told of a defect in a connection's goroutine; only that connection ends.
	Panicked func(error)

	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	tasks  guard.Group
}

func (f *Forwarder) init() {
	f.once.Do(func() {
		f.ctx, f.cancel = context.WithCancel(context.Background())
		f.tasks.Panicked = f.Panicked
	})
}

// Serve accepts connections until l fails, and returns that error.
func (f *Forwarder) Serve(l net.Listener) error {
	f.init()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if !f.tasks.Go(func() { f.join(c) }) {
			_ = c.Close()
		}
	}
}

// Close ends every connection and returns when nothing of them is left.
func (f *Forwarder) Close() error {
	f.init()
	f.cancel()
	f.tasks.Wait()
	return nil
}

// join connects visitor to the app and copies both ways until both have ended.
func (f *Forwarder) join(visitor net.Conn) {
	defer func() { _ = visitor.Close() }()
	app, err := f.Target.Dial(f.ctx)
	if f.Dialled != nil && f.ctx.Err() == nil {
		f.Dialled(f.Target.Addr(), err)
	}
	if err != nil {
		return // the visitor's proxy sees a connection that ends without an answer: 502
	}
	defer func() { _ = app.Close() }()
	ended := context.AfterFunc(f.ctx, func() { _, _ = visitor.Close(), app.Close() })
	defer ended()

	up := make(chan struct{})
	f.tasks.Go(func() { defer close(up); f.copy(app, visitor) })
	f.copy(visitor, app)
	<-up
}

// copy moves bytes until src ends, then tells dst. If either fails, both are closed.
func (f *Forwarder) copy(dst, src net.Conn) {
	if _, err := pump.Copy(dst, src); err != nil {
		abort(src, dst)
		return
	}
	if half, ok := dst.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		_ = dst.Close()
	}
}

// abort closes connections in such a way that their other ends can tell it from an end of file,
// where the protocol has one: a TCP reset.
func abort(conns ...net.Conn) {
	for _, c := range conns {
		if tcp, ok := c.(interface{ SetLinger(sec int) error }); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}
