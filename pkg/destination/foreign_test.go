// SPDX-License-Identifier: Apache-2.0

package destination

import (
	"strings"
	"testing"
)

// The server of a command that another program runs is that of ssh, whatever a password before it has in it; and no program
// is taken for a machine.
func TestCommandsOfOtherPrograms(t *testing.T) {
	for text, want := range map[string]string{
		"sshpass -p p@ss ssh -l me 203.0.113.7":       "me@203.0.113.7",
		"sshpass -pp@ss ssh alias":                    "alias",
		"env X=p@ss ssh -N alias":                     "alias",
		"sudo -u me@corp ssh -p 2222 alias":           "alias:2222",
		"me@203.0.113.7 -p 2222 ssh other":            "me@203.0.113.7:2222",
		"-p 2222 me@203.0.113.7 ssh other@192.0.2.2":  "me@203.0.113.7:2222",
		"plink -l me 203.0.113.7":                     "",
		"plink -P 2222 me@203.0.113.7":                "",
		"plink.exe -batch -pw hunter2 me@203.0.113.7": "",
		"mosh -p 2222 me@203.0.113.7":                 "",
		"sftp -P 2222 me@203.0.113.7":                 "",
		"putty -ssh me@203.0.113.7 -P 22":             "",
	} {
		got, err := Canonical(text)
		switch {
		case want != "" && (err != nil || got != want):
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		case want == "" && (err == nil || strings.Contains(err.Error(), "port") || strings.Contains(err.Error(), "no user")):
			t.Errorf("%s: %q, %v; want that it is no command of ssh", text, got, err)
		}
	}
}

// A name of a machine has letters, digits, dashes, dots; what a shell, a page or a chat leaves beside it is told, and not asked
// of a name server.
func TestNamesThatNoMachineHas(t *testing.T) {
	for _, text := range []string{"ssh -N me@203.0.113.7&", "while true; do ssh -N me@203.0.113.7; done", "me@203.0.113.7,", "**me@203.0.113.7**", "<me@203.0.113.7>",
		"me@203.0.113.7\u200b", "“me@203.0.113.7”", "me@203.0.113.7#2222", "me@host?pw=hunter2", "me@hunter2!x"} {
		if _, err := Resolve(Config{Server: text, SSHConfig: "none"}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"me@bücher.example", "me@a_b-c.example.com.", "me@[fe80::1%eth0]", `CORP\me@h`} {
		if _, err := Resolve(Config{Server: text, SSHConfig: "none"}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A value that may be a token is not shown in part either.
func TestNoPartOfATokenIsShown(t *testing.T) {
	const first, rest = "Ab1Cd2Ef3Gh4I", "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2"
	for _, cfg := range []Config{{Server: first + ":" + rest}, {Server: "me@" + first + "://" + rest}, {Server: "ssh -p " + rest + " " + first + " me@h"},
		{Server: "me@h", Jump: first + ":" + rest}} {
		cfg.SSHConfig = "none"
		if _, err := Resolve(cfg); err == nil || strings.Contains(err.Error(), first) {
			t.Errorf("%q, %q: %v", cfg.Server, cfg.Jump, err)
		}
	}
}
