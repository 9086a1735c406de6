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
	return talking(t, func(server *Client) {
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
}

// talking is a client whose server does what a test says.
func talking(t *testing.T, serve func(server *Client)) *Client {
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
		serve(&Client{server: c})
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
	marshalled := func(flags uint32, rest any) []byte {
		return append(ssh.Marshal(struct{ Flags uint32 }{flags}), ssh.Marshal(rest)...)
	}
	all := marshalled(fxHasSize|fxHasOwner|fxHasMode|fxHasTimes|fxHasMore, struct {
		Size                  uint64
		UID, GID              uint32
		Mode, Read, Last      uint32
		More                  uint32
		Name, Value, Followed string
	}{9, 1000, 33, 0o042750, 1, 1785542400, 1, "acl@openssh.com", "x", "next"})
	want := FileInfo{fs.ModeDir | fs.ModeSetgid | 0o750, 1000, 33, time.Unix(1785542400, 0)}
	if got, left, err := attributes(all); err != nil || got != want || string(left) != string(text("next")) {
		t.Errorf("%v %q %v", got, left, err)
	}
	for n := range len(all) - len(text("next")) {
		if _, _, err := attributes(all[:n]); err == nil {
			t.Errorf("attributes that are cut after %d bytes are read", n)
		}
	}
	if got, _, err := attributes(marshalled(fxHasMode, struct{ Mode uint32 }{0o140600})); err != nil || got.Mode != fs.ModeIrregular|0o600 || !got.Modified.IsZero() {
		t.Errorf("%v %v", got, err)
	}
}

// A directory is read to its end, and one that has none, or too many files, is an error.
func TestList(t *testing.T) {
	names := func(all ...string) (packet []byte) {
		packet = ssh.Marshal(struct{ Count uint32 }{uint32(len(all))})
		for _, name := range all {
			packet = append(packet, ssh.Marshal(struct {
				Name, Long        string
				Flags, Read, Last uint32
			}{name, "-rw " + name, fxHasTimes, 1, 2})...)
		}
		return packet
	}
	list := func(pieces func(n int) (kind byte, rest []byte)) (map[string]FileInfo, error) {
		c := talking(t, func(to *Client) {
			to.write(fxIs, fxVersion, nil)
			for n := 0; ; n++ {
				r, err := to.receive()
				switch {
				case err != nil:
					return
				case r.kind == fxOpendir:
					to.write(fxHandle, r.number, text("h"))
				case r.kind == fxReaddir:
					kind, rest := pieces(n)
					to.write(kind, r.number, rest)
				}
			}
		})
		return c.List("/s", 100)
	}
	pieces := [][]byte{names(".", "..", "a"), names("b")}
	got, err := list(func(int) (byte, []byte) {
		if len(pieces) == 0 {
			return fxStatus, code(fxEOF)
		}
		piece := pieces[0]
		pieces = pieces[1:]
		return fxName, piece
	})
	if len(got) != 2 || err != nil || !got["b"].Modified.Equal(time.Unix(2, 0)) {
		t.Errorf("%v %v", got, err)
	}
	for name, piece := range map[string][]byte{"without an end": names("a"), "of nothing": names(), "cut": names("a")[:9]} {
		if got, err := list(func(int) (byte, []byte) { return fxName, piece }); err == nil {
			t.Errorf("a directory %s: %v", name, got)
		}
	}
}
