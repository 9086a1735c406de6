// SPDX-License-Identifier: Apache-2.0

//go:build linux

package destination

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// options are an option of OpenSSH with its value, and another value that is named beside it.
var options = regexp.MustCompile(`\b((?:[A-Z][a-z]+){2,}(?:[A-Z]\w*)?|Port) (yes|no|any|none|clientspecified|\d[\w.:/%]*)\b(?: \(or (\w+)\))?`)

// Every line for sshd_config that people are told is one that sshd takes.
func TestDocumentedOptionsOfSSHD(t *testing.T) {
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		missing.Skip(t, "no sshd is installed")
	}
	_ = os.MkdirAll("/run/sshd", 0o755)
	lines := map[string]string{}
	for path, text := range documents(t) {
		if strings.HasSuffix(path, ".go") {
			text = comments.ReplaceAllString(text, "")
		}
		for _, m := range options.FindAllStringSubmatch(text, -1) {
			lines[m[1]+" "+strings.ReplaceAll(m[2], "%d", "8080")] = path
			if m[3] != "" {
				lines[m[1]+" "+m[3]] = path
			}
		}
	}
	var tried []string
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		switch word, _, _ := strings.Cut(line, " "); word {
		case "ServerAliveInterval", "ServerAliveCountMax", "ExitOnForwardFailure": // ssh's, which docs/reliability.md measures
			continue
		case "PerSourcePenaltyExemptList": // from OpenSSH 9.8 on: Debian 13's has it
			if root := sshdtest.Trixie(); root != "" {
				sshdtest.Start(t, sshdtest.Options{Root: root, Config: []string{line}})
				continue
			}
		}
		file := filepath.Join(t.TempDir(), "sshd_config")
		if err := os.WriteFile(file, []byte("HostKey "+sshdtest.NewKey(t, "ed25519")+"\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sshd, "-t", "-f", file).CombinedOutput()
		if err != nil && strings.HasPrefix(line, "PerSourcePenaltyExemptList") && bytes.Contains(out, []byte("Bad configuration option")) {
			t.Logf("%s: this sshd is older than 9.8", line)
			continue
		}
		if err != nil {
			t.Errorf("%s: %s: %v\n%s", lines[line], line, err, out)
		}
		tried = append(tried, line)
	}
	t.Logf("%q", tried)
	if len(tried) < 15 {
		t.Error("where are the others?")
	}
}
