// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// ErrNoFile is returned by ReadFile where the server has no such file, or no SFTP for this account.
var ErrNoFile = errors.New("the server shows this account no such file")

// ReadFile reads a file of the server over SFTP (the subsystem of that name, RFC 4254, section 6.5),
// in a session of its own. More than most bytes are an error. A server that has not answered when
// ctx ends (a command that it forces may never) has no such file, and the link stays.
func (l *Link) ReadFile(ctx context.Context, path string, most int64) ([]byte, error) {
	ch, reqs, err := l.session(ctx)
	if errors.Is(err, ErrNoSession) {
		return nil, fmt.Errorf("%w (%w)", ErrNoFile, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = ch.Close() }() // which ends what is still read
	l.wire.quickack.Store(false)
	l.tasks.Go(func() { ssh.DiscardRequests(reqs) })
	l.tasks.Go(func() { _, _ = io.Copy(io.Discard, ch.Stderr()) })
	var text []byte
	ended := make(chan struct{})
	l.tasks.Go(func() { defer close(ended); text, err = readFile(ch, path, most) })
	select {
	case <-ended:
		return text, err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w (%w)", ErrNoFile, ctx.Err())
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func readFile(ch ssh.Channel, path string, most int64) ([]byte, error) {
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		return nil, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	// One packet, one request at a time: what a hostile server can make it hold is bounded.
	c, err := sftp.NewClientPipe(ch, ch, sftp.MaxConcurrentRequestsPerFile(1))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	defer func() { _ = c.Close() }()
	f, err := c.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(readerOnly{f}, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

// readerOnly hides that a file can write itself elsewhere, for which it would ask how large it is.
type readerOnly struct{ io.Reader }
