// SPDX-License-Identifier: Apache-2.0

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// ErrNoFile is returned by ReadFile where the server says that it has no such file for this account, or no SFTP.
var ErrNoFile = errors.New("the server shows this account no such file")

// ReadFile reads a file of the server over SFTP. More than most bytes are an error. A server that has not
// answered when ctx ends (a command that it forces may never) has said nothing of the file: that is an error of
// class fault.ErrUnreachable, and the link stays.
// A file of less than 32 KiB takes three round trips: the session, its subsystem, the file.
func (l *Link) ReadFile(ctx context.Context, path string, most int64) ([]byte, error) {
	return files(ctx, l, func(s *sftp) ([]byte, error) { return s.readFile(path, most) })
}

// readFile asks for the file and for its first piece at once, by the handle that sshd is going to give it: sshd counts them from 0
// (sftp-server.c, handle_to_string). Where that guess is wrong, it costs another round trip.
func (s *sftp) readFile(path string, most int64) ([]byte, error) {
	const guess = "\x00\x00\x00\x00"
	opened := s.send(fxOpen, struct {
		Path         string
		Flags, Attrs uint32
	}{path, fxForReading, 0})
	piece := s.read(guess, 0)
	var is struct{ Handle string }
	if err := s.expect(opened, fxHandle, &is); err != nil {
		return nil, noFile(err)
	}
	if is.Handle != guess {
		piece = s.read(is.Handle, 0)
	}
	var text []byte
	for {
		var got struct{ Data string }
		err := s.expect(piece, fxData, &got)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		text = append(text, got.Data...)
		if int64(len(text)) > most {
			return nil, fmt.Errorf("%s has more than %d bytes", path, most)
		}
		if len(got.Data) < fxPiece { // of an ordinary file less comes at its end alone (draft, section 6.4)
			return text, nil
		}
		piece = s.read(is.Handle, len(text))
	}
}

func (s *sftp) read(handle string, from int) (asked uint32) {
	return s.send(fxRead, struct {
		Handle string
		Offset uint64
		Length uint32
	}{handle, uint64(from), fxPiece})
}

// noFile is ErrNoFile if the server has said so. Any other failure (SSH_FX_FAILURE: no memory, no descriptors) is
// one of the moment.
func noFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%w)", ErrNoFile, err)
	}
	return err
}

// FileInfo is what the server says of a file.
type FileInfo struct {
	// Mode has permissions, and of the types of files ModeDir and, for all others but ordinary files, ModeIrregular.
	Mode fs.FileMode
	// UID and GID are the numbers of its owner and its group.
	UID, GID uint32
}

// Stat asks what there is at path, as ReadFile does.
func (l *Link) Stat(ctx context.Context, path string) (FileInfo, error) {
	return files(ctx, l, func(s *sftp) (FileInfo, error) {
		var attrs struct {
			Flags uint32
			Rest  []byte `ssh:"rest"`
		}
		if err := s.expect(s.send(fxStat, struct{ Path string }{path}), fxAttrs, &attrs); err != nil {
			return FileInfo{}, noFile(err)
		}
		return fileInfo(attrs.Flags, attrs.Rest)
	})
}

// removeDirectory asks the server to remove an empty directory.
func (s *sftp) removeDirectory(path string) error {
	return s.expect(s.send(fxRmdir, struct{ Path string }{path}), fxStatus, nil)
}

// files has use speak SFTP (the subsystem of that name, RFC 4254, section 6.5) in a session of its own.
// When ctx ends use may still run, until the server has answered or the link has ended.
func files[T any](ctx context.Context, l *Link, use func(*sftp) (T, error)) (T, error) {
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
func speak[T any](ch ssh.Channel, use func(*sftp) (T, error)) (none T, err error) {
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		return none, fmt.Errorf("%w (%v)", ErrNoFile, err)
	}
	return use(newSFTP(ch))
}
