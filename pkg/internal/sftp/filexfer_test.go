// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// fileServer answers what it is asked over SFTP when it has heard three packets: the version, the file to open and what to read of
// it. Those come without an answer to any of them.
func fileServer(t *testing.T, answers func(to *Client)) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var task sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); task.Wait() })
	task.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		server := &Client{server: c}
		var kinds []byte
		for range 3 {
			r, err := server.receive()
			if err != nil {
				t.Errorf("after %v: %v", kinds, err)
				return
			}
			kinds = append(kinds, r.kind)
		}
		if !bytes.Equal(kinds, []byte{fxInit, fxOpen, fxRead}) {
			t.Errorf("asked %v", kinds)
		}
		answers(server)
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return New(c)
}

func text(s string) []byte { return ssh.Marshal(struct{ Text string }{s}) }

func code(n uint32) []byte { return ssh.Marshal(struct{ Code uint32 }{n}) }

// A short file is read in one round trip, whatever comes first.
func TestFileInOneRoundTrip(t *testing.T) {
	const sshds = "\x00\x00\x00\x00"
	for name, c := range map[string]struct {
		answers func(to *Client)
		want    string
		err     error
	}{
		"sshd": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxHandle, 1, text(sshds))
			to.write(fxData, 2, text("hello"))
		}, "hello", nil},
		"in another order": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxData, 2, text("hello"))
			to.write(fxHandle, 1, text(sshds))
		}, "hello", nil},
		"another handle": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxHandle, 1, text("another"))
			to.write(fxStatus, 2, code(4))
			if r, err := to.receive(); err != nil || r.number != 3 || !bytes.Contains(r.rest, []byte("another")) {
				return
			}
			to.write(fxData, 3, text("hello"))
		}, "hello", nil},
		"an empty file": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxHandle, 1, text(sshds))
			to.write(fxStatus, 2, code(fxEOF))
		}, "", nil},
		"no file": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxStatus, 1, append(code(2), text("No such file\x1b")...))
		}, "", ErrNoFile},
		"forbidden": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxStatus, 1, code(fxDenied))
		}, "", fs.ErrPermission},
		"opened by a word":   {func(to *Client) { to.write(fxIs, fxVersion, nil); to.write(fxStatus, 1, code(fxOK)) }, "", errors.ErrUnsupported},
		"no memory":          {func(to *Client) { to.write(fxIs, fxVersion, nil); to.write(fxStatus, 1, code(4)) }, "", errors.ErrUnsupported},
		"another version":    {func(to *Client) { to.write(fxIs, 6, nil) }, "", ErrNoFile},
		"no version":         {func(to *Client) { to.write(fxHandle, 1, text(sshds)) }, "", ErrNoFile},
		"an unasked answer":  {func(to *Client) { to.write(fxIs, fxVersion, nil); to.write(fxHandle, 7, text(sshds)) }, "", errors.ErrUnsupported},
		"words":              {func(to *Client) { _, _ = io.WriteString(to.server, "this is an ordinary shell") }, "", ErrNoFile},
		"a packet of 0":      {func(to *Client) { _, _ = to.server.Write(make([]byte, 20)) }, "", ErrNoFile},
		"an end":             {func(*Client) {}, "", ErrNoFile},
		"an end in a packet": {func(to *Client) { to.write(fxIs, fxVersion, nil); _, _ = to.server.Write([]byte{0, 0, 0, 9, fxHandle}) }, "", io.ErrUnexpectedEOF},
		"no end of a packet": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			_, _ = to.server.Write([]byte{0xff, 0, 0, 9, fxHandle, 0, 0, 0, 1})
		}, "", errors.ErrUnsupported},
		"too much": {func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			to.write(fxHandle, 1, text(sshds))
			to.write(fxData, 2, text(strings.Repeat("x", 101)))
		}, "", errors.ErrUnsupported},
	} {
		got, err := fileServer(t, c.answers).ReadFile("/file", 100)
		switch {
		case c.err == errors.ErrUnsupported: // any but ErrNoFile
			if err == nil || errors.Is(err, ErrNoFile) {
				t.Errorf("%s: %v", name, err)
			}
		case string(got) != c.want || !errors.Is(err, c.err):
			t.Errorf("%s: %q, %v", name, got, err)
		case err != nil && strings.Contains(err.Error(), "\x1b"):
			t.Errorf("%s: the server's own words are shown: %q", name, err)
		}
	}
}

func TestFileInfo(t *testing.T) {
	all := ssh.Marshal(struct {
		Size              uint64
		UID, GID          uint32
		Mode, Since, Last uint32
	}{9, 1000, 33, 0o042750, 1, 2})
	if got, err := fileInfo(fxHasSize|fxHasOwner|fxHasMode|8, all); err != nil || got != (FileInfo{fs.ModeDir | fs.ModeSetgid | 0o750, 1000, 33}) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := fileInfo(fxHasSize|fxHasOwner|fxHasMode, all[:14]); err == nil {
		t.Error("attributes that are cut short are read")
	}
	if got, err := fileInfo(fxHasMode, ssh.Marshal(struct{ Mode uint32 }{0o140600})); err != nil || got.Mode != fs.ModeIrregular|0o600 {
		t.Errorf("%v %v", got, err)
	}
}
