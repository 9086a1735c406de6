// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/taipy-tunnel/taipy-tunnel/"

// source is a Go file of this repository.
type source struct {
	path string // from the root: "pkg/tunnel/config.go"
	file *ast.File
	fset *token.FileSet
}

func (s *source) dir() string            { return filepath.Dir(s.path) }
func (s *source) test() bool             { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) at(p token.Pos) string  { return s.path + s.fset.Position(p).String()[len("x.go"):] }
func (s *source) lines() int             { return s.fset.Position(s.file.End()).Line }
func (s *source) line(p token.Pos) int   { return s.fset.Position(p).Line }
func (s *source) within(dir string) bool { return s.dir() == dir || strings.HasPrefix(s.path, dir+"/") }
func (s *source) imports() (paths []string) {
	for _, i := range s.file.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

// root is the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("not a checkout: %v", err)
	}
	return dir
}

// files calls f with each file of the checkout that a person wrote, by its path from the root.
func files(t *testing.T, f func(path string)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != top && (strings.HasPrefix(name, ".") || name == "dist" || name == "testdata" || name == "__pycache__") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		short, err := filepath.Rel(top, path)
		f(short)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources returns all Go files.
func sources(t *testing.T) (all []*source) {
	t.Helper()
	top := root(t)
	files(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", text, parser.ParseComments)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, &source{path, file, fset})
	})
	if len(all) < 20 {
		t.Fatalf("found %d Go files, is this the checkout?", len(all))
	}
	return all
}
