// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOtherSystems: the engine and its tests build where they were not tried, so that other tooling can
// import it. They are type-checked with all that they import, which takes seconds; `go vet` compiles all
// of that first, Databricks' SDK too, and took two minutes of processor time for each system.
func TestOtherSystems(t *testing.T) {
	for _, goos := range []string{"darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			all, ours := map[string]*types.Package{"unsafe": types.Unsafe}, 0
			for _, p := range listed(t, goos, "-test", "./pkg/...", "./cmd/...") {
				if all[p.ImportPath] != nil {
					continue
				}
				checked, err := p.check(all, token.NewFileSet(), nil)
				if err != nil {
					t.Errorf("%s: %v", p.ImportPath, err)
				}
				all[p.ImportPath] = checked
				if p.Module.Main {
					ours++
				}
			}
			if ours < 10 {
				t.Errorf("checked %d of our packages", ours)
			}
		})
	}
}

// goPackage is a package as `go list` describes it.
type goPackage struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string // what an import means here: a copy of its own, or one built for a test
	Standard        bool
	Module          struct {
		Main      bool
		GoVersion string
	}
}

// listed are packages as the arguments of `go list` say, each after those that it imports.
func listed(t *testing.T, goos string, which ...string) (all []goPackage) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Standard,Module"}, which...)...)
	c.Dir = root(t)
	c.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	c.Stderr = t.Output()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for text := json.NewDecoder(out); ; {
		var p goPackage
		if err := text.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("GOOS=%s %s: %v", goos, c, err)
	}
	return all
}

// check type-checks a package; of the standard library only what others see of it. info is filled in, if it
// is not nil, with positions of fset.
func (p *goPackage) check(all map[string]*types.Package, fset *token.FileSet, info *types.Info) (*types.Package, error) {
	var files []*ast.File
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) { // the main function of tests is in Go's cache
			name = filepath.Join(p.Dir, name)
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	cfg := types.Config{IgnoreFuncBodies: p.Standard, Sizes: types.SizesFor("gc", "amd64"), Importer: importer(func(path string) (*types.Package, error) {
		if other, ok := p.ImportMap[path]; ok {
			path = other
		}
		if found := all[path]; found != nil {
			return found, nil
		}
		return nil, fmt.Errorf("%s was not checked before", path)
	})}
	if p.Module.GoVersion != "" {
		cfg.GoVersion = "go" + p.Module.GoVersion
	}
	return cfg.Check(p.ImportPath, fset, files, info)
}

type importer func(path string) (*types.Package, error)

func (f importer) Import(path string) (*types.Package, error) { return f(path) }
