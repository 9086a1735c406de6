// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// blocks are those of the documents, by page, language and the beginning of the first line, each with the tests that take it from
// there, or with what it is, if it is not to be run or pasted.
var blocks = []struct{ page, begins, taken string }{
	{"README.md", "python import taipy_tunnel", "test_calls_are_taken"},
	{"README.md", "http://203.0.113.7/#token=", "what a notebook shows"},
	{"README.md", "browser ──> nginx", "a drawing"},
	{"README.md", "taipy-tunnel databricks store", "TestDocumentedCommandLines"},
	{"README.md", "taipy-tunnel quickstart", "TestDocumentedCommandLines"},
	{"README.md", "taipy-tunnel expose", "TestDocumentedCommandLines"},
	{"README.md", "taipy-tunnel run", "TestDocumentedCommandLines"},
	{"README.md", "python expose(app=None", "test_the_signature_is_ours"},
	{"README.md", "go import", "TestTheREADMEsGo"},
	{"README.md", "./build.sh demo", "TestDocumentsNameWhatIsThere"},
	{"CONTRIBUTING.md", "./build.sh lint", "TestDocumentsNameWhatIsThere"},
	{"docs/databricks.md", "python import taipy_tunnel", "test_calls_are_taken"},
	{"docs/databricks.md", "taipy-tunnel databricks store", "TestDocumentedCommandLines"},
	{"docs/databricks.md", "databricks secrets delete-acl", "TestDocumentedCommandsOfDatabricks"},
	{"docs/databricks.md", "json {", "TestTheDocumentsScopeIsTaken"},
	{"docs/databricks.md", "databricks secrets create-scope", "TestDocumentedCommandsOfDatabricks"},
	{"docs/databricks.md", "ssh-keygen -t", "TestDocumentedKeyCommands test_names_in_a_key_vault_are_arguments TestDocumentedCommandsOfDatabricks"},
	{"docs/databricks.md", "apt-get install", "the package that ./build.sh installs for test_ssh_inside_tls"},
	{"docs/databricks.md", "nginx stream {", "test_ssh_inside_tls"},
	{"docs/how-it-works.md", "a visitor's bytes", "a drawing"},
	{"docs/known-faults.md", "upstream app", "TestTheDocumentsNginxKeepsConnections"},
	{"docs/proxy.md", `json {"version"`, "TestTheDocumentsJSONIsTaken"},
	{"docs/proxy.md", "json {", "TestTheDocumentsJSONIsTaken"},
	{"docs/proxy.md", "taipy-tunnel quickstart", "TestDocumentedCommandLines"},
	{"docs/proxy.md", "taipy-tunnel proxy setup", "TestDocumentedCommandLines"},
	{"docs/proxy.md", "The proxy is ready.", "test_calls_are_taken TestDocumentedCommandLines"},
	{"docs/proxy.md", "ok   login", "what proxy check prints"},
	{"docs/proxy.md", "NAME      STATE", "what status prints"},
	{"docs/proxy.md", "taipy-tunnel proxy script FILE |", "TestCommandsOfHints TestTheDocumentsJSONIsTaken"},
	{"docs/proxy.md", "nginx map $http_upgrade", "TestTheDocumentsNarrowedKey"},
	{"docs/proxy.md", "nginx location = /.well-known", "TestTheDocumentsNginxBehindALogin"},
	{"docs/proxy.md", "restrict,port-forwarding", "TestTheDocumentsNarrowedKey"},
	{"docs/proxy.md", "sh -c trap", "what ps shows"},
	{"docs/proxy.md", "ClientAliveInterval 5", "TestDocumentedOptionsOfSSHD"},
	{"docs/reliability.md", "ours, plain proxy", "what was logged"},
	{"docs/security.md", "go test ./pkg/proxyhost/attacks", "TestDocumentsNameWhatIsThere"},
	{"python/README.md", "python import taipy_tunnel", "test_calls_are_taken"},
}

// TestEveryBlockIsTaken: a block that is added to a document gets a row above, and a test that reads it there.
func TestEveryBlockIsTaken(t *testing.T) {
	used, tests := make([]bool, len(blocks)), testNames(t)
	for page, text := range documents(t) {
		for _, first := range firstLines(text) {
			i := slices.IndexFunc(blocks, func(b struct{ page, begins, taken string }) bool {
				return b.page == page && strings.HasPrefix(first, b.begins)
			})
			if i < 0 {
				t.Errorf("%s: nothing takes the block that begins with %q", page, first)
				continue
			}
			used[i] = true
		}
	}
	for i, b := range blocks {
		if !used[i] {
			t.Errorf("%s has no block that begins with %q", b.page, b.begins)
		}
		for word := range strings.FieldsSeq(b.taken) {
			if regexp.MustCompile(`^(Test|test_)`).MatchString(word) && !tests[word] {
				t.Errorf("%s, %q: there is no test %s", b.page, b.begins, word)
			}
		}
	}
}

// TestDocumentsNameWhatIsThere: tests, verbs of build.sh and files of this repository that a document names are there.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	build, err := os.ReadFile(filepath.Join(root(t), "build.sh"))
	if err != nil {
		t.Fatal(err)
	}
	verbs, tests, named := regexp.MustCompile(`(?m)^[a-z]+(?: \| [a-z]+)*\)`).FindAllString(string(build), -1), testNames(t), 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\./build\.sh ([a-z]+)|\b(Test[A-Z]\w+)|\x60(pkg/[\w./-]+)\x60`).FindAllStringSubmatch(text, -1) {
			named++
			_, missing := os.Stat(filepath.Join(root(t), m[3]))
			isVerb := func(line string) bool {
				return slices.Contains(strings.Split(strings.TrimSuffix(line, ")"), " | "), m[1])
			}
			if m[1] != "" && !slices.ContainsFunc(verbs, isVerb) || m[2] != "" && !tests[m[2]] || missing != nil {
				t.Errorf("%s: %s", page, m[0])
			}
		}
	}
	if named < 40 {
		t.Errorf("%d names were found; where are the others?", named)
	}
}

// documents are the texts of the pages, by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	files(t, func(path string) {
		if strings.HasSuffix(path, ".md") {
			text, err := os.ReadFile(filepath.Join(root(t), path))
			if err != nil {
				t.Fatal(err)
			}
			all[path] = string(text)
		}
	})
	return all
}

// firstLines are those of a page's blocks, between fences, with the language before them, or indented.
func firstLines(page string) (all []string) {
	lines, fenced, indented, blank := strings.Split(page, "\n"), false, false, true
	for i, line := range lines {
		fence, deep := strings.HasPrefix(line, "```"), strings.HasPrefix(line, "    ")
		switch {
		case fence && !fenced:
			all = append(all, strings.TrimSpace(line[3:]+" "+lines[i+1]))
		case deep && blank && !indented && !fenced:
			all = append(all, strings.TrimSpace(line))
			indented = true
		}
		fenced, blank = fenced != fence, strings.TrimSpace(line) == ""
		indented = indented && (blank || deep)
	}
	return all
}

// testNames are the tests of this repository, of both languages.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "python/tests/") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:func|def) (Test\w+|test_\w+)\(`).FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
	})
	return names
}
