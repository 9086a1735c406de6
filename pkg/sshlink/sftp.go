// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// ErrNoFile is returned by ReadFile where the server says that it has no such file for this account, or no SFTP.
var ErrNoFile = errors.New("the server shows this account no such file")

// ReadFile reads a file of the server over SFTP. More than most bytes are an error. A server that has not
// answered when ctx ends (a command that it forces may never) has said nothing of the file: that is an error of
// class fault.ErrUnreachable, and the link stays.
func (l *Link) ReadFile(ctx context.Context, path string, most int64) ([]byte, error) {
	return files(ctx, l, func(c *sftp.Client) ([]byte, error) { return readFile(c, path, most) })
}

func readFile(c *sftp.Client, path string, most int64) ([]byte, error) {
	f, err := c.Open(path)
	if err != nil {
		return nil, noFile(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(readerOnly{f}, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

// noFile is ErrNoFile if the server has said so. Any other failure (SSH_FX_FAILURE: no memory, no descriptors) is
// one of the moment.
func noFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	return err
}

// FileInfo is what the server says of a file.
type FileInfo struct {
	Mode fs.FileMode
	// UID and GID are the numbers of its owner and its group.
	UID, GID uint32
}

// Stat asks what there is at path, as ReadFile does.
func (l *Link) Stat(ctx context.Context, path string) (FileInfo, error) {
	return files(ctx, l, func(c *sftp.Client) (FileInfo, error) {
		st, err := c.Stat(path)
		if err != nil {
			return FileInfo{}, noFile(err)
		}
		info := FileInfo{Mode: st.Mode()}
		if more, ok := st.Sys().(*sftp.FileStat); ok {
			info.UID, info.GID = more.UID, more.GID
		}
		return info, nil
	})
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

func speak[T any](ch ssh.Channel, use func(*sftp.Client) (T, error)) (none T, err error) {
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		return none, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	// One packet, one request at a time: what a hostile server can make it hold is bounded.
	c, err := sftp.NewClientPipe(ch, ch, sftp.MaxConcurrentRequestsPerFile(1))
	if err != nil {
		return none, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	defer func() { _ = c.Close() }()
	return use(c)
}

// readerOnly hides that a file can write itself elsewhere, for which it would ask how large it is.
type readerOnly struct{ io.Reader }
