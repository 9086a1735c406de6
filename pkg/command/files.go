// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

const mostRead = 4 << 20 // bytes of a file

// read is the text of a file that an option names, in UTF-16 too, as PowerShell writes it. It may be one that a shell makes for a command
// (<(…)), which package userfile refuses, for it may take for ever; here ctx ends that.
func read(ctx context.Context, option, path string) (string, error) {
	text, err := readFile(ctx, userfile.Expand(path))
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err == nil && !utf8.Valid(text) {
		err = errors.New("it is not text")
	}
	if err != nil {
		return "", fault.Config("give the path of a file", "%s %s cannot be read: %w", option, fault.Path(path), fault.Reason(err))
	}
	return string(text), nil
}

func readFile(ctx context.Context, path string) ([]byte, error) {
	return until(ctx, func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return limited(f)
	})
}

// until reads until ctx ends. It leaves behind then what opens a FIFO that is never written to, or waits for a terminal: nothing can end that.
func until(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	var beside guard.Group
	beside.Go(func() {
		text, err := read()
		done <- result{text, err}
	})
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func limited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostRead+1))
	if err == nil && len(text) > mostRead {
		return nil, errors.New("it holds more than 4 MiB")
	}
	return userfile.Text(text), err
}

// textOrFile is the text of the file that a value names, if it does, else the value.
func textOrFile(ctx context.Context, option, value string) (string, error) {
	if st, err := os.Stat(userfile.Expand(value)); err != nil || st.IsDir() {
		return value, nil
	}
	return read(ctx, option, value)
}

// machine is the one that a file describes, or standard input does, "-".
func (r *run) machine(ctx context.Context, path string) (*proxyhost.Host, error) {
	if path != "-" {
		text, err := read(ctx, "FILE", path)
		if err != nil {
			return nil, err
		}
		return proxyhost.ParseHost([]byte(text))
	}
	text, err := until(ctx, func() ([]byte, error) { return r.Input(ctx) })
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.Config("", "standard input cannot be read: %w", fault.Reason(err))
	}
	return proxyhost.ParseHost(userfile.Text(text))
}

// write writes files below a directory, which is made if it is not there.
func write(dir string, files proxyhost.Files) error {
	shown := fault.Path(dir) // before there is one of that name, whatever that is
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(strings.TrimLeft(f.Path, "/")))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(f.Text), 0o644)
		}
		if err != nil {
			return fault.Config("choose another directory", "%s cannot be written below %s: %w", f.Path, shown, fault.Reason(err))
		}
	}
	return nil
}
