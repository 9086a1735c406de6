// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// description is that of a machine, as a file has it.
type description struct {
	host   *proxyhost.Host
	file   string
	before []byte // what the file held; nil: there was none
	mode   os.FileMode
}

// description is that of the machine, or one without accounts.
func (s *starting) description(srv *destination.Destination) (d description, err error) {
	if d.file = userfile.Expand(s.file); d.file == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return d, fault.Config("give another file, --file FILE", "there is no home directory to keep the machine's description in")
		}
		name := strings.ReplaceAll(srv.Host, ":", "-")
		if srv.Port != 22 {
			name += "-" + strconv.Itoa(srv.Port)
		}
		d.file = filepath.Join(dir, "taipy-tunnel", name+".json")
	}
	if at, err := filepath.EvalSymlinks(d.file); err == nil {
		d.file = at
	}
	d.mode = 0o644
	info, err := os.Stat(d.file)
	if errors.Is(err, os.ErrNotExist) {
		d.host = &proxyhost.Host{}
		return d, nil
	}
	if err == nil {
		d.mode = info.Mode().Perm()
		d.before, err = os.ReadFile(d.file)
	}
	if err != nil {
		return d, fault.Config("give another file, --file FILE", "%s cannot be read: %w", fault.Path(d.file), fault.Reason(err))
	}
	d.host, err = proxyhost.ParseHost(userfile.Text(d.before))
	return d, err
}

// describes is an error where a machine has accounts that are not in the description, and would be removed.
func (d description) describes(accounts []string) error {
	for _, name := range accounts {
		if !slices.ContainsFunc(d.host.Tenants, func(t proxyhost.Tenant) bool { return t.Name == name }) {
			return fault.Config("give the file from which the machine was set up last, --file FILE: accounts that are not in it are removed",
				"the machine has the account %s already, of which %s says nothing", fault.Quote(name), fault.Path(d.file))
		}
	}
	return nil
}

// keep writes the description down, unless somebody has done so meanwhile.
func (d description) keep() error {
	now, err := os.ReadFile(d.file)
	if err == nil && !bytes.Equal(now, d.before) || errors.Is(err, os.ErrNotExist) && d.before != nil {
		return fault.Config("run it again", "%s was changed meanwhile; nothing was done on the machine", fault.Path(d.file))
	}
	text, err := json.MarshalIndent(d.host, "", "  ")
	if err != nil {
		return fault.Internal(err)
	}
	if err = os.MkdirAll(filepath.Dir(d.file), 0o755); err == nil {
		err = whole(d.file, append(text, '\n'), d.mode, os.Rename)
	}
	if err != nil {
		return fault.Config("choose another file, --file FILE", "%s cannot be written: %w", fault.Path(d.file), fault.Reason(err))
	}
	return nil
}

// undo puts back what the file held, where the machine is as it was: a script that was lost or given up may have come to its end.
func (d description) undo(why error) {
	switch {
	case errors.Is(why, fault.ErrUnreachable), errors.Is(why, context.Canceled), errors.Is(why, context.DeadlineExceeded):
	case d.before == nil:
		_ = os.Remove(d.file)
	default:
		_ = whole(d.file, d.before, d.mode, os.Rename)
	}
}

// whole writes a file that is there whole or not at all. put is os.Rename, or os.Link, which replaces none.
func whole(path string, text []byte, mode os.FileMode, put func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return put(f.Name(), path)
}
