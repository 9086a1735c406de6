// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/databricks/databricks-sdk-go/service/workspace"
)

// The page's scope.json says to the workspace what it says to a reader: the SDK, of which Databricks' command is made, knows each field.
func TestTheDocumentsScopeIsTaken(t *testing.T) {
	page, err := os.ReadFile("../../docs/databricks.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("docs/databricks.md has %d blocks of JSON", len(found))
	}
	var scope workspace.CreateScope
	if err := json.Unmarshal(found[0][1], &scope); err != nil || scope.Scope != DefaultScope {
		t.Fatalf("scope %q, %v", scope.Scope, err)
	}
	if err := new(workspace.ScopeBackendType).Set(string(scope.ScopeBackendType)); err != nil {
		t.Error(err)
	}
	known, _ := json.Marshal(scope) // what is not known is lost
	var got, want any
	if json.Unmarshal(known, &got) != nil || json.Unmarshal(found[0][1], &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("known of it is %s", known)
	}
}

// Databricks' command has the calls of its SDK, with the required fields as its words: each line that people are told has as many.
func TestDocumentedCommandsOfDatabricks(t *testing.T) {
	calls, tried := reflect.TypeFor[workspace.SecretsInterface](), 0
	for _, pattern := range []string{"../../docs/*.md", "../../examples/*/*.py", "*.go", "../internal/fault/*.go"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range regexp.MustCompile(`databricks secrets ([a-z-]+)((?: [\w%@.-]+)+)`).FindAllStringSubmatch(string(text), -1) {
				tried++
				name, words := "", strings.Fields(line[2])
				for part := range strings.SplitSeq(line[1], "-") {
					name += strings.ToUpper(part[:1]) + part[1:]
				}
				call, is := calls.MethodByName(name)
				if !is {
					t.Errorf("%s: %s: there is no %s", path, line[0], name)
					continue
				}
				if words[0] == "--json" {
					continue
				}
				required := 0
				for i, of := 0, call.Type.In(1); i < of.NumField(); i++ {
					if tag := of.Field(i).Tag; !strings.Contains(tag.Get("json"), "omitempty") && tag.Get("url") != "-" {
						required++
					}
				}
				if len(words) != required {
					t.Errorf("%s: %s: %s has %d words", path, line[0], name, required)
				}
				if last := words[len(words)-1]; name == "PutAcl" {
					if err := new(workspace.AclPermission).Set(last); err != nil {
						t.Errorf("%s: %s: %v", path, line[0], err)
					}
				}
			}
		}
	}
	if tried < 8 {
		t.Errorf("%d were found; where are the others?", tried)
	}
}
