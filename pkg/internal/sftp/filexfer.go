// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	fxVersion    = 3
	fxForReading = 1        // SSH_FXF_READ
	fxPiece      = 32 << 10 // bytes asked for at once: what every server gives (section 3)
	fxMost       = 64 << 10 // bytes of one packet: as many as requests are all that a hostile server makes us hold

	// Kinds of packets (section 3) and of answers to them.
	fxInit    = 1
	fxIs      = 2 // SSH_FXP_VERSION
	fxOpen    = 3
	fxRead    = 5
	fxOpendir = 11
	fxReaddir = 12
	fxRmdir   = 15
	fxStat    = 17
	fxStatus  = 101
	fxHandle  = 102
	fxData    = 103
	fxName    = 104
	fxAttrs   = 105

	// Codes of fxStatus (section 7).
	fxOK     = 0
	fxEOF    = 1
	fxNoFile = 2
	fxDenied = 3

	// What is in attributes (section 5).
	fxHasSize  = 1
	fxHasOwner = 2
	fxHasMode  = 4
	fxHasTimes = 8
	fxHasMore  = 1 << 31
)

// Client is a conversation, for one file or one question. What is asked is sent at once, and answered in any order.
type Client struct {
	server io.ReadWriter
	asked  uint32            // requests
	begun  bool              // the server has told its version
	err    error             // of sending
	early  map[uint32]*reply // that nobody has waited for yet, by the request
}

// reply is a packet of the server.
type reply struct {
	kind   byte
	number uint32 // of the request that it answers; of fxIs the version
	rest   []byte
}

// New begins one. The caller closes the connection. It does not wait for the server.
func New(server io.ReadWriter) *Client {
	c := &Client{server: server, early: map[uint32]*reply{}}
	c.write(fxInit, fxVersion, nil)
	return c
}

// write sends a packet. An error is returned by expect.
func (c *Client) write(kind byte, number uint32, rest []byte) {
	p := binary.BigEndian.AppendUint32(nil, uint32(1+4+len(rest)))
	p = binary.BigEndian.AppendUint32(append(p, kind), number)
	if _, err := c.server.Write(append(p, rest...)); err != nil && c.err == nil {
		c.err = err
	}
}

// send asks for something, and does not wait for the answer.
func (c *Client) send(kind byte, request any) (asked uint32) {
	c.asked++
	c.write(kind, c.asked, ssh.Marshal(request))
	return c.asked
}

// expect waits for the answer to a request. One of the right kind is unpacked into to; with fxStatus the error says how it
// ended.
func (c *Client) expect(asked uint32, kind byte, to any) error {
	r, err := c.answer(asked)
	switch {
	case err != nil:
		return err
	case r.kind == fxStatus:
		err = status(r.rest)
	}
	switch {
	case err != nil || kind == fxStatus && r.kind == kind:
		return err
	case r.kind != kind:
		return fmt.Errorf("sftp: an answer of kind %d in place of %d", r.kind, kind)
	}
	return ssh.Unmarshal(r.rest, to)
}

// begin waits for the server's version. One that says something else, or ends, does not speak SFTP.
func (c *Client) begin() error {
	err := c.err
	var r *reply
	if err == nil {
		r, err = c.receive()
	}
	if err == nil && (r.kind != fxIs || r.number != fxVersion) {
		err = fmt.Errorf("sftp: it begins with %d, %d in place of version %d", r.kind, r.number, fxVersion)
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNoFile, err)
	}
	c.begun = true
	return nil
}

// answer returns the answer to a request.
func (c *Client) answer(asked uint32) (*reply, error) {
	if !c.begun {
		if err := c.begin(); err != nil {
			return nil, err
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	for c.early[asked] == nil {
		r, err := c.receive()
		switch {
		case err != nil:
			return nil, err
		case r.number == 0 || r.number > c.asked:
			return nil, errors.New("sftp: an answer to nothing")
		default:
			c.early[r.number] = r
		}
	}
	r := c.early[asked]
	delete(c.early, asked)
	return r, nil
}

func (c *Client) receive() (*reply, error) {
	var head [4 + 1 + 4]byte
	if _, err := io.ReadFull(c.server, head[:]); err != nil {
		return nil, cutShort(err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 1+4 || length > fxMost {
		return nil, fmt.Errorf("sftp: a packet of %d bytes", length)
	}
	r := &reply{kind: head[4], number: binary.BigEndian.Uint32(head[5:]), rest: make([]byte, length-1-4)}
	if _, err := io.ReadFull(c.server, r.rest); err != nil {
		return nil, cutShort(err)
	}
	return r, nil
}

// cutShort keeps the end of a conversation apart from that of a file.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Refusal is a status other than that all went well.
type Refusal struct {
	code uint32
	text string // the server's own words
}

func (r *Refusal) Error() string { return fmt.Sprintf("sftp: %s (%d)", fault.Quote(r.text), r.code) }

// Is has errors.Is know those that have a meaning here.
func (r *Refusal) Is(target error) bool {
	return target == map[uint32]error{fxEOF: io.EOF, fxNoFile: fs.ErrNotExist, fxDenied: fs.ErrPermission}[r.code]
}

// status is how a request ended, as the server says.
func status(rest []byte) error {
	var is struct {
		Code uint32
		Rest []byte `ssh:"rest"` // words, which some servers leave out
	}
	if err := ssh.Unmarshal(rest, &is); err != nil {
		return err
	}
	if is.Code == fxOK {
		return nil
	}
	var said struct {
		Text string
		Rest []byte `ssh:"rest"`
	}
	_ = ssh.Unmarshal(is.Rest, &said)
	return &Refusal{is.Code, said.Text}
}

// attributes reads those of a file (section 5), and returns what follows them.
func attributes(rest []byte) (info FileInfo, left []byte, err error) {
	words := func(n int) []uint32 {
		read := make([]uint32, n)
		if len(rest) < 4*n {
			err, rest = io.ErrUnexpectedEOF, nil
			return read
		}
		for i := range read {
			read[i] = binary.BigEndian.Uint32(rest[4*i:])
		}
		rest = rest[4*n:]
		return read
	}
	flags := words(1)[0]
	if flags&fxHasSize != 0 {
		words(2)
	}
	if flags&fxHasOwner != 0 {
		owner := words(2)
		info.UID, info.GID = owner[0], owner[1]
	}
	if flags&fxHasMode != 0 {
		info.Mode = fileMode(words(1)[0])
	}
	if flags&fxHasTimes != 0 {
		info.Modified = time.Unix(int64(words(2)[1]), 0)
	}
	if flags&fxHasMore != 0 {
		for n := words(1)[0]; n > 0 && err == nil; n-- {
			var is struct {
				Name, Value string
				Rest        []byte `ssh:"rest"`
			}
			err = ssh.Unmarshal(rest, &is)
			rest = is.Rest
		}
	}
	return info, rest, err
}

// fileMode reads the mode of inode(7).
func fileMode(mode uint32) fs.FileMode {
	is := fs.FileMode(mode & 0o777)
	for bit, what := range map[uint32]fs.FileMode{0o1000: fs.ModeSticky, 0o2000: fs.ModeSetgid, 0o4000: fs.ModeSetuid} {
		if mode&bit != 0 {
			is |= what
		}
	}
	switch mode & 0o170000 {
	case 0o040000:
		is |= fs.ModeDir
	case 0o100000:
	default:
		is |= fs.ModeIrregular
	}
	return is
}
