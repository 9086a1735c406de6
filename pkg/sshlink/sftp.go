// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sftp"
)

// ErrNoFile is returned by ReadFile and Stat where the server says that it has no such file for this account, or no SFTP.
var ErrNoFile = sftp.ErrNoFile

// ErrLarge is returned by ReadFile where the file has more bytes than are read.
var ErrLarge = sftp.ErrLarge

// FileInfo is what the server says of a file.
type FileInfo = sftp.FileInfo

// ReadFile reads a file of the server over SFTP, which may have most bytes. A server that has not
// answered when ctx ends (a command that it forces may never) has said nothing of the file: that is an error of
// class fault.ErrUnreachable, and the link stays.
// A file of less than 32 KiB takes three round trips: the session, its subsystem, the file.
func (l *Link) ReadFile(ctx context.Context, path string, most int64) ([]byte, error) {
	return files(ctx, l, func(c *sftp.Client) ([]byte, error) { return c.ReadFile(path, most) })
}

// Stat asks what there is at path, as ReadFile does.
func (l *Link) Stat(ctx context.Context, path string) (FileInfo, error) {
	return files(ctx, l, func(c *sftp.Client) (FileInfo, error) { return c.Stat(path) })
}

// List asks what there is in a directory, as ReadFile does; more files than most are ErrLarge.
func (l *Link) List(ctx context.Context, path string, most int) (map[string]FileInfo, error) {
	return files(ctx, l, func(c *sftp.Client) (map[string]FileInfo, error) { return c.List(path, most) })
}

// files has use speak SFTP (the subsystem of that name, RFC 4254, section 6.5) in a session of its own.
// When ctx ends use may still run, until the server has answered or the link has ended.
func files[T any](ctx context.Context, l *Link, use func(*sftp.Client) (T, error)) (T, error) {
	var none T
	ch, reqs, err := l.session(ctx)
	if errors.Is(err, ErrNoSession) {
		return none, fmt.Errorf("%w (%w)", ErrNoFile, err)
	}
	if err != nil {
		return none, err
	}
	defer func() { _ = ch.Close() }() // which ends what is still read
	l.wire.quickack.Store(false)
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	l.tasks.Go(func() { _, _ = io.Copy(io.Discard, ch.Stderr()) })
	var got T
	ended := make(chan struct{})
	l.tasks.Go(func() { defer close(ended); got, err = speak(ch, use) })
	select {
	case <-ended:
	case <-ctx.Done():
		return none, fault.Silent("what was asked by SFTP", ctx.Err())
	case <-l.done:
	}
	if l.lost() { // and with it whatever use was told
		return none, fault.LinkLost(net.ErrClosed)
	}
	return got, err
}

// speak waits for the subsystem before it says a word: sshd grants a session no window until something runs in it.
func speak[T any](ch ssh.Channel, use func(*sftp.Client) (T, error)) (none T, err error) {
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		return none, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	return use(sftp.New(ch))
}
