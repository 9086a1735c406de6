// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxyhost_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// A script that an admin is to read before it runs has to be short.
func TestScriptIsShortAndClean(t *testing.T) {
	certbot := typical(t)
	certbot.TLS.Mode = "certbot"
	for name, h := range map[string]proxyhost.Host{"typical": typical(t), "everything": everything(t), "certbot": certbot} {
		text, err := proxyhost.Script(h)
		must(t, err)
		if n := strings.Count(text, "\n"); name != "everything" && n >= 400 {
			t.Errorf("%s has %d lines", name, n)
		}
		for _, f := range render(t, h) {
			if strings.HasPrefix(f.Text, "#!/bin/sh") {
				alone := t.TempDir() + "/alone.sh"
				must(t, os.WriteFile(alone, []byte(f.Text), 0o644))
				run(t, "shellcheck", alone)
			}
			if strings.Contains(f.Text, "TAIPY_TUNNEL_END") || f.Text != "" && !strings.HasSuffix(f.Text, "\n") || !strings.Contains(text, f.Text) {
				t.Errorf("%s is not as it should be in the script", f.Path)
			}
		}
		path := t.TempDir() + "/install.sh"
		must(t, os.WriteFile(path, []byte(text), 0o644))
		run(t, "shellcheck", "--shell=sh", path)
		if name == "typical" {
			golden(t, "typical.sh.txt", text)
		}
	}
}

func TestCloudInit(t *testing.T) {
	text, err := proxyhost.CloudInit(typical(t))
	must(t, err)
	script, err := proxyhost.Script(typical(t))
	must(t, err)
	_, block, _ := strings.Cut(text, "content: ")
	block, _, _ = strings.Cut(block, "\nruncmd:")
	packed, err := base64.StdEncoding.DecodeString(block)
	must(t, err)
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	must(t, err)
	if got, err := io.ReadAll(zip); err != nil || string(got) != script || !strings.HasPrefix(text, "#cloud-config\n") {
		t.Errorf("%v: %s", err, text)
	}
	if len(text) > 16<<10 {
		t.Errorf("it has %d bytes, and some clouds take 16 KiB", len(text))
	}
}

// The files are shown below a directory, also where an earlier run has left others. What is not ours stays.
func TestScriptShowsItsFiles(t *testing.T) {
	h := typical(t)
	dir, path := t.TempDir(), t.TempDir()+"/install.sh"
	show := func(change func()) (files map[string]string) {
		t.Helper()
		change()
		text, err := proxyhost.Script(h)
		must(t, err)
		must(t, os.WriteFile(path, []byte(text), 0o644))
		run(t, "sh", path, "files", dir)
		files = map[string]string{}
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				text, err := os.ReadFile(path)
				files[strings.TrimPrefix(path, dir)] = string(text)
				return err
			}
			return err
		}))
		return files
	}
	gone := "/etc/taipy-tunnel/keys/" + h.Tenants[0].Name
	before := show(func() {})
	must(t, os.WriteFile(dir+"/notes", []byte("mine"), 0o644))
	after := show(func() { h.Tenants[0].Name = "renamed" })
	if before[gone] == "" || after[gone] != "" || after["/etc/taipy-tunnel/keys/renamed"] == "" || after["/notes"] != "mine" || len(after) != len(before)+1 {
		t.Errorf("before %d, after %d files: %q", len(before), len(after), slices.Sorted(maps.Keys(after)))
	}
	must(t, os.WriteFile(dir+"/.taipy-tunnel", []byte("./notes\n./../../x\n"), 0o644)) // not as it was written
	if after := show(func() {}); after["/notes"] != "mine" {
		t.Error("somebody else's list is heeded")
	}
}
