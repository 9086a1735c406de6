// SPDX-License-Identifier: Apache-2.0

package proxyhost_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// The JSON of docs/proxy.md is what is read: the machine's, with keys in the place of the dots, and the description that a
// tenant reads.
func TestTheDocumentsJSONIsTaken(t *testing.T) {
	page, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(found) != 2 {
		t.Fatalf("docs/proxy.md has %d blocks of JSON", len(found))
	}
	text := regexp.MustCompile(`ssh-ed25519 AAAA…`).ReplaceAllString(found[0][1], key(t, 1))
	host, err := proxyhost.ParseHost([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if script, err := proxyhost.Script(*host); err != nil || !strings.Contains(string(script), "hr-notebooks") {
		t.Errorf("the script: %v", err)
	}
	d, err := proxyhost.ParseDescription([]byte(found[1][1]))
	if err != nil {
		t.Fatal(err)
	}
	if app, err := d.Find("staff"); err != nil || app.URL != "https://hr.example.com/staff/" {
		t.Errorf("%+v, %v", app, err)
	}
}
