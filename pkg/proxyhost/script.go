// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// scriptEnd ends each file in the script, whose lines are the shell's from there on.
const scriptEnd = "TAIPY_TUNNEL_END"

// Script gives one POSIX shell script that makes a Debian or Ubuntu machine what h says, or
// brings it up to date, and with the argument "remove" undoes that.
func Script(h Host) (string, error) {
	p, err := prepare(h)
	if err != nil {
		return "", err
	}
	files, err := p.files()
	if err != nil {
		return "", err
	}
	for _, f := range files { // nothing that a Host may hold makes such a line; and if something does, no script
		if strings.Contains(f.Text, scriptEnd) {
			return "", fault.Config("", "a file holds the mark of its own end")
		}
	}
	return p.fill("install.sh", struct {
		*plan
		Files Files
	}{p, files})
}

// CloudInit gives the user data with which cloud-init makes a new machine what h says.
func CloudInit(h Host) (string, error) {
	p, err := prepare(h)
	if err != nil {
		return "", err
	}
	script, err := Script(h)
	if err != nil {
		return "", err
	}
	packed, err := pack(script)
	if err != nil {
		return "", err
	}
	return p.fill("cloud-init.yaml", struct{ Script string }{packed})
}

// pack is cloud-init's encoding gz+b64.
func pack(text string) (string, error) {
	var packed strings.Builder
	encoder := base64.NewEncoder(base64.StdEncoding, &packed)
	zip, err := gzip.NewWriterLevel(encoder, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(zip, text)
	err = errors.Join(err, zip.Close(), encoder.Close())
	return packed.String(), err
}

// TenantList is what the script goes through.
func (p *plan) TenantList() string { return strings.ReplaceAll(p.Users(), ",", " ") }
