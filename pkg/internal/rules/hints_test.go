// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/token"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestHintsNameSettings: hints name settings as marks, {host_key}, which each face writes in its own way; package
// fault says how. A mark has the name of a field of tunnel.Config in JSON, or is the time for the set-up. A setting
// in Python's style, host_key=, would be told to a program in Go, and on the command line.
func TestHintsNameSettings(t *testing.T) {
	all := sources(t)
	names := strings.Join(append(jsonNames(t, all), "timeout"), "|")
	mark := regexp.MustCompile(`(?:^|[^{])\{([a-z_]+)(?:=[^{}]*|=\{\{.*\}\})?\}`)
	known := regexp.MustCompile(`^(?:` + names + `)$`)
	pythons := regexp.MustCompile(`(?:^|[^{\w#?&-])(?:` + names + `)=`)
	marks := 0
	for _, s := range all {
		if s.test() || !s.within("pkg") && !s.within("cshared") || s.dir() == "pkg/gate" || s.path == "pkg/command/notebook.go" { // which give no hints: the gate reads token= in URLs, the other one writes Python
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if text, ok := literal(n); ok {
				for _, m := range mark.FindAllStringSubmatch(text, -1) {
					marks++
					if !known.MatchString(m[1]) {
						t.Errorf("%s: {%s} is no setting", s.at(n.Pos()), m[1])
					}
				}
				if m := pythons.FindString(text); m != "" {
					t.Errorf("%s: %q is Python's way to write a setting; in a hint it is {%[2]s}", s.at(n.Pos()), strings.Trim(m, `= "(,;`))
				}
			}
			_, isField := n.(*ast.Field) // whose tag is no text
			return !isField
		})
	}
	if marks < 40 {
		t.Errorf("found %d marks; where are the others?", marks)
	}
}

// TestHintsAreWritten: a text that is not written in the sources becomes a part of a hint by Hintf alone, where
// braces in it are no marks.
func TestHintsAreWritten(t *testing.T) {
	all, constants := sources(t), map[string]bool{} // by directory and name
	for _, s := range all {
		for _, d := range s.file.Decls {
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						constants[s.dir()+" "+name.Name] = true
					}
				}
			}
		}
	}
	for _, s := range all {
		if s.test() || s.path == "pkg/internal/fault/hint.go" {
			continue
		}
		var written func(ast.Expr) bool
		written = func(e ast.Expr) bool {
			switch e := e.(type) {
			case *ast.BinaryExpr:
				return written(e.X) && written(e.Y)
			case *ast.Ident:
				return constants[s.dir()+" "+e.Name]
			}
			_, ok := literal(e)
			return ok
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if (name == "Hint" || name == "Hintf") && !written(call.Args[0]) {
				t.Errorf("%s: %s of what is not written here", s.at(n.Pos()), name)
			}
			return true
		})
	}
}

// TestErrorsHaveNoMarks: a mark is for hints. In the words of an error nobody makes a setting of it.
func TestErrorsHaveNoMarks(t *testing.T) {
	all, seen := sources(t), 0
	mark := regexp.MustCompile(`\{(?:` + strings.Join(jsonNames(t, all), "|") + `)[=}]`)
	words := map[string]int{"Errorf": 0, "New": 0, "Config": 1} // which argument is an error's words: fmt's, errors', package fault's
	for _, s := range all {
		if s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if i, known := words[f.Sel.Name]; known && i < len(call.Args) {
				if text, is := literal(call.Args[i]); is {
					seen++
					if m := mark.FindString(text); m != "" {
						t.Errorf("%s: an error says %s", s.at(n.Pos()), m)
					}
				}
			}
			return true
		})
	}
	if seen < 200 {
		t.Errorf("found %d errors; where are the others?", seen)
	}
}

// literal is the text of a string in the source.
func literal(n ast.Node) (text string, ok bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// jsonNames are those of the fields of tunnel.Config.
func jsonNames(t *testing.T, all []*source) (names []string) {
	t.Helper()
	for _, s := range all {
		if s.path != "pkg/tunnel/config.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name != "Config" {
				return false
			}
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				tag, _ := strconv.Unquote(f.Tag.Value)
				if name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ","); name != "-" {
					names = append(names, name)
				}
			}
			return true
		})
	}
	if len(names) < 20 {
		t.Fatalf("Config has %q", names)
	}
	return names
}
