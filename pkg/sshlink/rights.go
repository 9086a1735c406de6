// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sftp"
)

// What the account may do on the server, asked in ways that change nothing there and leave nothing behind.

// MayRun reports whether the account runs commands of its choice. Where the server forces another
// one, that is run; if it says nothing, neither does MayRun.
func (l *Link) MayRun(ctx context.Context) (bool, error) {
	said, err := l.Run(ctx, "echo taipy-tunnel | tr a-z A-Z") // in any shell; no answer repeats what was asked
	if errors.Is(err, ErrNoSession) {
		return false, nil
	}
	return bytes.Contains(said, []byte("TAIPY-TUNNEL")), err
}

// MayListen reports whether the account may listen on a TCP port of 127.0.0.1. It takes any free
// one, for a moment.
func (l *Link) MayListen(ctx context.Context) (bool, error) {
	back, err := l.ask(ctx, onPort(0))
	if back == nil || err != nil {
		return false, err
	}
	return true, l.cancel(ctx, back)
}

// socketWaits are the waits before a socket is asked for again.
var socketWaits = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}

// MayListenUnix reports whether the account may listen on unix sockets at all, wherever that be. It asks for
// the empty path, which OpenSSH binds in Linux's abstract namespace: there is no file. There is one
// such name for the whole machine, so that somebody else may have it for a moment.
func (l *Link) MayListenUnix(ctx context.Context) (bool, error) {
	for try := 0; ; try++ {
		back, err := l.ask(ctx, onSocket(""))
		if back != nil {
			return true, l.cancel(ctx, back)
		}
		if err != nil || try == len(socketWaits) {
			return false, err
		}
		select {
		case <-time.After(socketWaits[try]):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// MayReach reports whether the server would connect the account to addr, "host:port". Whether anybody
// answers there makes no difference.
func (l *Link) MayReach(ctx context.Context, addr string) (bool, error) {
	c, err := l.Dial(ctx, addr)
	if err == nil {
		_ = c.Close()
		return true, nil
	}
	if _, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return Unconnected(err), nil
	}
	return false, err
}

// MayWrite reports whether the account may change files by SFTP. It asks to remove the directory absent, which must not be
// there: a server that takes no changes says so before it looks.
func (l *Link) MayWrite(ctx context.Context, absent string) (bool, error) {
	_, err := files(ctx, l, func(c *sftp.Client) (struct{}, error) { return struct{}{}, c.RemoveDirectory(absent) })
	if errors.Is(err, ErrNoFile) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if _, looked := errors.AsType[*sftp.Refusal](err); looked {
		return true, nil
	}
	return err == nil, err
}

// Starved reports whether err of Dial says that the server could not even try to connect: it has no descriptor left for a socket. Sshd
// has no words of its own for that, while it tells why a connection failed that it tried (channels.c, connect_to_helper and
// channel_post_connecting).
func Starved(err error) bool {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	return ok && refused.Reason == ssh.ConnectionFailed && refused.Message == "open failed"
}
