// SPDX-License-Identifier: Apache-2.0

// Package sftp is the little of SFTP, version 3 (draft-ietf-secsh-filexfer-02), that reads one file or asks for one thing, over a
// connection that its caller has made.
//
//	text, err := sftp.New(channel).ReadFile("/etc/hostname", 1<<20)
//
// The library for it, github.com/pkg/sftp, waits for the server's version before it asks for anything, for a file before it
// reads, and for the end of the file after that: three round trips more.
//
// Promises. It holds no more than the file and 64 KiB for each thing that was asked for. Words of the server are quoted in errors.
package sftp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrNoFile is returned where the server says that it has no such file for this account, or does not speak SFTP.
var ErrNoFile = errors.New("the server shows this account no such file")

// ErrLarge is returned where a file has more bytes than are read.
var ErrLarge = errors.New("the file is too large")

// ReadFile reads a file, of at most so many bytes: more are an error.
//
// It asks for the file and for its first piece at once, by the handle that sshd is going to give it: sshd counts them from 0
// (sftp-server.c, handle_to_string). Where that guess is wrong, it costs another round trip.
func (c *Client) ReadFile(path string, most int64) ([]byte, error) {
	const guess = "\x00\x00\x00\x00"
	opened := c.send(fxOpen, struct {
		Path         string
		Flags, Attrs uint32
	}{path, fxForReading, 0})
	piece := c.read(guess, 0)
	var is struct{ Handle string }
	if err := c.expect(opened, fxHandle, &is); err != nil {
		return nil, noFile(err)
	}
	if is.Handle != guess {
		piece = c.read(is.Handle, 0)
	}
	var text []byte
	for {
		var got struct{ Data string }
		err := c.expect(piece, fxData, &got)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		text = append(text, got.Data...)
		if int64(len(text)) > most {
			return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrLarge, path, most)
		}
		if len(got.Data) < fxPiece { // of an ordinary file less comes at its end alone (draft, section 6.4)
			return text, nil
		}
		piece = c.read(is.Handle, len(text))
	}
}

func (c *Client) read(handle string, from int) (asked uint32) {
	return c.send(fxRead, struct {
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
	// Modified is when, in whole seconds by the server's clock. Zero: it does not say.
	Modified time.Time
}

// Stat asks what there is at path.
func (c *Client) Stat(path string) (FileInfo, error) {
	var attrs struct {
		All []byte `ssh:"rest"`
	}
	if err := c.expect(c.send(fxStat, struct{ Path string }{path}), fxAttrs, &attrs); err != nil {
		return FileInfo{}, noFile(err)
	}
	info, _, err := attributes(attrs.All)
	return info, err
}

// List asks what there is in a directory, by name, without "." and "..". More than so many files are an error.
func (c *Client) List(path string, most int) (map[string]FileInfo, error) {
	var is struct{ Handle string }
	if err := c.expect(c.send(fxOpendir, struct{ Path string }{path}), fxHandle, &is); err != nil {
		return nil, noFile(err)
	}
	found, read := map[string]FileInfo{}, 0
	for {
		var got struct {
			Count uint32
			Rest  []byte `ssh:"rest"`
		}
		err := c.expect(c.send(fxReaddir, is), fxName, &got)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		for n := got.Count; n > 0 && err == nil; n-- {
			read++
			var file struct {
				Name, Long string
				Rest       []byte `ssh:"rest"`
			}
			var info FileInfo
			if err = ssh.Unmarshal(got.Rest, &file); err == nil {
				info, got.Rest, err = attributes(file.Rest)
			}
			if file.Name != "." && file.Name != ".." {
				found[file.Name] = info
			}
		}
		switch {
		case err != nil:
			return nil, err
		case got.Count == 0 || read > most: // nothing new for ever
			return nil, fmt.Errorf("%w: the directory %s has more than %d files, or does not end", ErrLarge, path, most)
		}
	}
}

// RemoveDirectory asks the server to remove an empty directory. What it answers instead is a *Refusal.
func (c *Client) RemoveDirectory(path string) error {
	return c.expect(c.send(fxRmdir, struct{ Path string }{path}), fxStatus, nil)
}
