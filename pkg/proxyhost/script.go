// SPDX-License-Identifier: Apache-2.0

package proxyhost

import "strings"

// scriptEnd ends each file in the script. No file has such a line: nothing in a Host may hold an underscore
// and begin a line.
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
	return p.fill("cloud-init.yaml", struct{ Script string }{"      " + strings.ReplaceAll(strings.TrimSuffix(script, "\n"), "\n", "\n      ")})
}

// TenantList is what the script goes through.
func (p *plan) TenantList() string { return strings.ReplaceAll(p.Users(), ",", " ") }
