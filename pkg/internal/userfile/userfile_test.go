// SPDX-License-Identifier: Apache-2.0

package userfile

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func TestHome(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	if text, err := Read("~/file", 10); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	t.Setenv("HOME", "")
	me, err := user.Current()
	if err != nil || me.HomeDir == "" { // a user who is in no /etc/passwd
		if got := Expand("~/file"); got != "~/file" {
			t.Errorf("without a home: %q", got)
		}
		if _, err := Read("~/file", 10); err == nil || !strings.Contains(err.Error(), "HOME is not set") {
			t.Errorf("without a home: %v", err)
		}
		return
	}
	if got := Expand("~/file"); got != filepath.Join(me.HomeDir, "file") {
		t.Errorf("HOME is not set: %q, want that of %s", got, me.HomeDir)
	}
}

// The schemes that Databricks' tools write are paths of the driver.
func TestPathsOfDatabricks(t *testing.T) {
	for given, want := range map[string]string{
		"dbfs:/FileStore/k":     "/dbfs/FileStore/k",
		"dbfs:///FileStore/k":   "/dbfs/FileStore/k",
		"dbfs:/Volumes/k":       "/Volumes/k",
		"dbfs:///Volumes/k":     "/Volumes/k",
		"dbfs:/VolumesOfMine/k": "/dbfs/VolumesOfMine/k",
		"dbfs:/":                "/dbfs/",
		"file:/Workspace/k":     "/Workspace/k",
		"file:///Workspace/k":   "/Workspace/k",
		"/dbfs/FileStore/k":     "/dbfs/FileStore/k",
		"dbfs":                  "dbfs",
		"./dbfs:/FileStore/k":   "./dbfs:/FileStore/k",
	} {
		if got := Expand(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}
