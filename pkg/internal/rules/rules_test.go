// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// may says what each package may import besides the standard library: packages of this module by
// their path below it, others by their whole path (or its beginning). The arrow of imports.
var may = map[string][]string{
	"pkg/backoff":             {},
	"pkg/internal/begun":      {},
	"pkg/internal/guard":      {},
	"pkg/internal/fault":      {},
	"pkg/internal/compat":     {},
	"pkg/internal/leak":       {},
	"pkg/internal/rules":      {},
	"pkg/internal/sshdtest":   {"pkg/internal/missing", "golang.org/x/crypto/ssh"},
	"pkg/internal/missing":    {},
	"pkg/internal/nginxtest":  {"pkg/internal/missing"},
	"pkg/internal/proxytest":  {"pkg/internal/leak", "pkg/internal/nginxtest", "pkg/internal/sshdtest", "pkg/proxyhost"},
	"pkg/internal/pump":       {},
	"pkg/internal/relay":      {"golang.org/x/sys/unix"},
	"pkg/internal/faulttest":  {},
	"pkg/internal/roottest":   {},
	"pkg/internal/secrettest": {"golang.org/x/crypto/ssh"},
	"pkg/internal/steady":     {"golang.org/x/sys/unix"},
	"pkg/internal/sftp":       {"pkg/internal/fault", "golang.org/x/crypto/ssh"},
	"pkg/internal/userfile":   {"pkg/internal/fault"},
	"pkg/forward":             {"pkg/internal/guard", "pkg/internal/pump", "golang.org/x/sys/unix"},
	"pkg/gate":                {"pkg/internal/begun", "pkg/internal/guard", "pkg/internal/pump", "github.com/klauspost/compress"},
	"pkg/proxyhost":           {"pkg/internal/fault", "golang.org/x/crypto/ssh"},
	"pkg/proxyhost/attacks":   {},
	"pkg/proxyadmin":          {"pkg/destination", "pkg/sshlink", "pkg/internal/fault"},
	"pkg/doctor":              {"pkg/destination", "pkg/sshlink", "pkg/gate", "pkg/probe", "pkg/proxyhost", "pkg/tunnel", "pkg/internal/fault", "pkg/internal/guard", "pkg/internal/loopcheck"},
	"pkg/probe":               {"pkg/internal/fault", "github.com/hashicorp/go-retryablehttp", "golang.org/x/net/http/httpguts"},
	"pkg/hostkeys":            {"pkg/sshauth", "pkg/internal/fault", "pkg/internal/userfile", "golang.org/x/crypto/ssh"},
	"pkg/sshauth":             {"pkg/internal/fault", "pkg/internal/userfile", "golang.org/x/crypto/ssh"},
	"pkg/sshlink":             {"pkg/egress", "pkg/hostkeys", "pkg/sshauth", "pkg/internal/fault", "pkg/internal/guard", "pkg/internal/sftp", "golang.org/x/crypto/ssh", "golang.org/x/sys/unix"},
	"pkg/egress":              {"pkg/internal/fault", "pkg/internal/guard", "golang.org/x/net/proxy", "golang.org/x/net/http/httpproxy"},
	"pkg/sshconfig":           {"pkg/internal/fault", "pkg/internal/userfile", "github.com/kevinburke/ssh_config"},
	"pkg/destination":         {"pkg/egress", "pkg/hostkeys", "pkg/sshauth", "pkg/sshconfig", "pkg/sshlink", "pkg/internal/fault", "pkg/internal/userfile"},
	"pkg/retry":               {"pkg/backoff", "pkg/internal/fault"},
	"pkg/slots":               {},
	"pkg/lease":               {"pkg/sshlink", "pkg/internal/fault", "pkg/internal/guard"},
	"pkg/tunnel":              {"pkg/destination", "pkg/lease", "pkg/sshauth", "pkg/sshlink", "pkg/forward", "pkg/gate", "pkg/probe", "pkg/proxyhost", "pkg/backoff", "pkg/retry", "pkg/slots", "pkg/internal/fault", "pkg/internal/guard", "pkg/internal/loopcheck", "pkg/internal/steady"},
	"pkg/internal/loopcheck":  {"pkg/gate", "pkg/probe", "pkg/sshlink", "pkg/internal/fault", "pkg/internal/steady"},
	"pkg/databricks":          {"pkg/destination", "pkg/hostkeys", "pkg/sshauth", "pkg/internal/fault", "pkg/internal/guard", "github.com/databricks/databricks-sdk-go"},
	"pkg/command":             {"pkg/probe", "pkg/sshauth", "pkg/databricks", "pkg/destination", "pkg/doctor", "pkg/proxyadmin", "pkg/proxyhost", "pkg/tunnel", "pkg/internal/fault", "pkg/internal/guard", "pkg/internal/userfile", "github.com/spf13/cobra", "github.com/spf13/pflag"},
	"cmd/taipy-tunnel":        {"pkg/command", "github.com/spf13/cobra", "golang.org/x/sys/unix", "golang.org/x/term"},
	"cshared":                 {"pkg/command", "pkg/doctor", "pkg/tunnel", "pkg/databricks", "pkg/destination", "pkg/internal/guard", "golang.org/x/sys/unix"},
	"examples/listen":         {"pkg/tunnel"},
}

// forTests are packages that only tests import.
var forTests = []string{"pkg/internal/sshdtest", "pkg/internal/nginxtest", "pkg/internal/proxytest", "pkg/internal/relay", "pkg/internal/leak", "pkg/internal/secrettest", "pkg/internal/compat", "pkg/internal/missing"}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		allowed, known := may[s.dir()]
		if !known {
			t.Errorf("%s: package %s is not in the table of who may import whom", s.path, s.dir())
		}
		for _, path := range s.imports() {
			if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") && path != "C" {
				continue // the standard library
			}
			short := strings.TrimPrefix(path, module)
			fits := func(a string) bool {
				return short == a || strings.HasPrefix(short, a+"/") && !strings.HasPrefix(a, "pkg/")
			}
			if !slices.ContainsFunc(allowed, fits) && (path != "C" || s.dir() != "cshared") {
				t.Errorf("%s: %s must not import %s", s.path, s.dir(), short)
			}
		}
	}
}

func TestEverythingIsDocumented(t *testing.T) {
	commented := map[string]bool{}
	for _, s := range sources(t) {
		if s.file.Doc != nil {
			commented[s.dir()] = true
		}
		if s.test() || !s.within("pkg") || s.within("pkg/internal") {
			continue
		}
		for _, d := range s.file.Decls {
			undocumented(t, s, d)
		}
	}
	for dir := range may {
		if !commented[dir] {
			t.Errorf("package %s has no comment", dir)
		}
	}
}

// undocumented complains about exported names without a comment that begins with them. A group
// of constants or variables may have one for all.
func undocumented(t *testing.T, s *source, d ast.Decl) {
	t.Helper()
	wants := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() || slices.ContainsFunc(docs, func(c *ast.CommentGroup) bool { return c != nil }) {
			return
		}
		t.Errorf("%s: exported %s has no comment", s.at(name.Pos()), name.Name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || ast.IsExported(strings.TrimPrefix(receiver(d), "*")) {
			wants(d.Name, d.Doc)
			if d.Doc != nil && d.Name.IsExported() && !strings.HasPrefix(d.Doc.Text(), d.Name.Name+" ") {
				t.Errorf("%s: the comment of %s does not begin with its name", s.at(d.Pos()), d.Name.Name)
			}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				wants(spec.Name, d.Doc, spec.Doc)
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					wants(name, d.Doc, spec.Doc, spec.Comment)
				}
			}
		}
	}
}

func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// TestNoBareGo: a panic in a goroutine of ours would end somebody's kernel; guard recovers it.
func TestNoBareGo(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.dir() == "pkg/internal/guard" || s.path == "cshared/start.go" || s.within("examples") || s.within("cmd") ||
			slices.Contains(forTests, s.dir()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: bare go statement; use guard.Group", s.at(g.Pos()))
			}
			return true
		})
	}
}

// TestTheHostIsSacred: no standard stream, signal, process or global logger in what is loaded into a
// notebook's kernel.
func TestTheHostIsSacred(t *testing.T) {
	const silences = "cshared/exports.go" // the global logger, to which net/http writes
	forbidden := map[string]string{"os.Stdout": "", "os.Stderr": "", "os.Stdin": "", "os.Exit": "", "os.Setenv": "",
		"fmt.Print": "", "fmt.Printf": "", "fmt.Println": "", "slog.Default": "", "slog.SetDefault": "", "os.Chdir": ""}
	for _, s := range sources(t) {
		if s.test() || s.within("examples") || s.within("cmd") || slices.Contains(forTests, s.dir()) {
			continue
		}
		for _, path := range s.imports() {
			if path == "os/signal" || path == "log" && s.path != silences || path == "os/exec" {
				t.Errorf("%s: imports %s", s.path, path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					if _, bad := forbidden[x.Name+"."+n.Sel.Name]; bad || s.path == silences && x.Name == "log" && n.Sel.Name != "SetOutput" {
						t.Errorf("%s: uses %s.%s", s.at(n.Pos()), x.Name, n.Sel.Name)
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s: %s writes to descriptor 2", s.at(n.Pos()), f.Name)
				}
			}
			return true
		})
	}
}

// TestFewLinkTheWorkspace: Databricks' SDK, which is larger than all the rest, is linked only into what
// asks a workspace.
func TestFewLinkTheWorkspace(t *testing.T) {
	const sdk = "github.com/databricks/"
	asks := []string{"pkg/databricks", "pkg/command", "cmd/taipy-tunnel", "cshared"}
	c := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}}{{range .Deps}} {{.}}{{end}}", "./...")
	c.Dir = root(t)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	links := map[string]string{}
	for line := range strings.Lines(string(out)) {
		dir, deps, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, module)), " ")
		links[dir] = deps
	}
	for dir := range may {
		if deps, listed := links[dir]; !listed {
			t.Errorf("%s is not a package", dir)
		} else if has := strings.Contains(deps, sdk); has != slices.Contains(asks, dir) {
			t.Errorf("%s links %s: %v", dir, sdk, has)
		}
	}
}

// TestCryptoFloor: v0.56.0 of x/crypto mended two deadlocks that a server can bring about.
func TestCryptoFloor(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`golang\.org/x/crypto v0\.(\d+)\.`).FindStringSubmatch(string(mod))
	if m == nil {
		t.Fatal("go.mod does not name golang.org/x/crypto v0")
	}
	if minor, err := strconv.Atoi(m[1]); err != nil || minor < 56 {
		t.Errorf("go.mod has golang.org/x/crypto v0.%s, want v0.56 or later", m[1])
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.lines(); n > 400 {
			t.Errorf("%s has %d lines, want at most 400", s.path, n)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && !s.test() {
				if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > 60 {
					t.Errorf("%s: %s has %d lines, want at most 60", s.at(f.Pos()), f.Name.Name, n)
				}
			}
		}
	}
}

func TestEverySourceNamesItsLicense(t *testing.T) {
	top := root(t)
	files(t, func(path string) {
		if !slices.Contains([]string{".go", ".c", ".h", ".py", ".sh", ".toml"}, filepath.Ext(path)) {
			return
		}
		text, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			t.Fatal(err)
		}
		head := strings.Join(strings.SplitN(string(text), "\n", 4)[:min(3, strings.Count(string(text), "\n"))], "\n")
		if len(text) > 0 && !strings.Contains(head, "SPDX-License-Identifier: Apache-2.0") {
			t.Errorf("%s: no SPDX line in its first three lines", path)
		}
	})
}

// TestHeaderIsTheInterface: the functions of the header, those of abi.c and those that it calls in
// Go are the same. The Python tests compare the header with ctypes and the built library.
func TestHeaderIsTheInterface(t *testing.T) {
	names := func(file, pattern string) (found []string) {
		text, err := os.ReadFile(filepath.Join(root(t), "cshared", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	declared := names("taipy_tunnel.h", `(?m)^\w+ tt_(\w+)\(`)
	for file, pattern := range map[string]string{"abi.c": `(?m)^PUBLIC \w+ tt_(\w+)\(`, "exports.go": `(?m)^//export go_(\w+)$`} {
		if got := names(file, pattern); !slices.Equal(got, declared) || len(got) == 0 {
			t.Errorf("%s has %v, the header %v", file, got, declared)
		}
	}
}
