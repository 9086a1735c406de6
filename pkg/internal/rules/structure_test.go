// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"math/bits"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The bars of pkg/tunnel: what it has today. They only go down: a change that lowers a figure lowers its bar.
const (
	mostFiles   = 12
	mostUses    = 44
	mostUp      = 3
	mostHolders = 0
)

// TestTunnelIsNoGodObject holds the inside of pkg/tunnel to an order, as TestImportsPointOneWay does with
// packages. A file uses another if it has a name that the other declares: a type, function, constant or
// variable, a method or a field. Each pair of files counts once in each direction. Of the orders in which
// the files can be read, one has the fewest uses that run back up; these are counted. cloudflared's
// connection has 16 files, 34 uses and none that runs up.
func TestTunnelIsNoGodObject(t *testing.T) {
	inside := look(t, "pkg/tunnel")
	uses, up := 0, inside.up()
	for _, others := range inside.uses {
		uses += bits.OnesCount32(others)
	}
	t.Logf("%d files, %d uses, %d of them up, %d holders: %s", len(inside.files), uses, up, len(inside.holders), strings.Join(inside.holders, ", "))
	for _, c := range []struct {
		what      string
		got, most int
	}{
		{"files", len(inside.files), mostFiles}, {"uses of one file by another", uses, mostUses}, {"uses that run back up", up, mostUp},
		{"structs besides Tunnel that hold a *Tunnel (" + strings.Join(inside.holders, ", ") + ")", len(inside.holders), mostHolders},
	} {
		if c.got > c.most {
			t.Errorf("pkg/tunnel has %d %s, want at most %d", c.got, c.what, c.most)
		}
	}
	if t.Failed() {
		t.Logf("who uses whom:\n%s", inside)
	}
}

// structure is what a package looks like inside.
type structure struct {
	files   []string // without tests
	uses    []uint32 // by each file, as a set of files
	holders []string // structs with a field in which a *Tunnel is
}

// look type-checks a package, as it is on Linux.
func look(t *testing.T, dir string) *structure {
	t.Helper()
	all := map[string]*types.Package{"unsafe": types.Unsafe}
	fset, info := token.NewFileSet(), &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	var p goPackage
	for _, p = range listed(t, "linux", "./"+dir) { // itself is the last
		if all[p.ImportPath] != nil {
			continue
		}
		with := info
		if p.ImportPath != module+dir {
			with = nil
		}
		checked, err := p.check(all, fset, with)
		if err != nil {
			t.Fatalf("%s: %v", p.ImportPath, err)
		}
		all[p.ImportPath] = checked
	}
	in := all[module+dir]
	if in == nil || len(p.GoFiles) > 26 { // 2^26 sets took 12 s on a busy machine
		t.Fatalf("%s: not checked, or with too many files to try their orders: %v", dir, p.GoFiles)
	}
	s := &structure{files: p.GoFiles, uses: make([]uint32, len(p.GoFiles))}
	file := func(at token.Pos) int { return slices.Index(s.files, filepath.Base(fset.Position(at).Filename)) }
	for name, is := range info.Uses {
		if is.Pkg() == in && is.Pos().IsValid() && file(name.Pos()) != file(is.Pos()) {
			s.uses[file(name.Pos())] |= 1 << file(is.Pos())
		}
	}
	holders := map[string]bool{}
	for name, is := range info.Defs {
		if is, ok := is.(*types.TypeName); ok && name.Name != "Tunnel" {
			if fields, ok := is.Type().Underlying().(*types.Struct); ok && holds(fields) {
				holders[name.Name] = true
			}
		}
	}
	s.holders = slices.Sorted(maps.Keys(holders))
	return s
}

// holds reports whether a value of a type has a Tunnel in it, or the way to one, without asking another named type.
func holds(of types.Type) bool {
	switch of := types.Unalias(of).(type) {
	case *types.Named:
		if of.Obj().Name() == "Tunnel" {
			return true
		}
		for i := range of.TypeArgs().Len() { // atomic.Pointer[Tunnel]
			if holds(of.TypeArgs().At(i)) {
				return true
			}
		}
	case *types.Struct:
		for field := range of.Fields() {
			if holds(field.Type()) {
				return true
			}
		}
	case *types.Map:
		return holds(of.Key()) || holds(of.Elem())
	case interface{ Elem() types.Type }: // a pointer, slice, array or channel
		return holds(of.Elem())
	}
	return false
}

// up is how many uses run back up in the best order. fewest has that for each set of files that may stand
// first: another one that is put below them uses some of them.
func (s *structure) up() int {
	fewest := make([]uint8, 1<<len(s.files))
	for set := 1; set < len(fewest); set++ {
		best := uint8(255)
		for rest := uint32(set); rest != 0; rest &= rest - 1 {
			last := bits.TrailingZeros32(rest)
			above := uint32(set) &^ (1 << last)
			best = min(best, fewest[above]+uint8(bits.OnesCount32(s.uses[last]&above)))
		}
		fewest[set] = best
	}
	return int(fewest[len(fewest)-1])
}

// String says which file uses which.
func (s *structure) String() string {
	var text strings.Builder
	for i, name := range s.files {
		var others []string
		for j, other := range s.files {
			if s.uses[i]&(1<<j) != 0 {
				others = append(others, other)
			}
		}
		fmt.Fprintf(&text, "%s uses %s\n", name, strings.Join(others, " "))
	}
	return text.String()
}
