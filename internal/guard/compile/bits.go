package compile

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/types"
)

// bitsSource is a math/bits written in the subset, so that its functions are
// inlined like the prepatch's own.
//
//go:embed bits.go.txt
var bitsSource string

// addBits type-checks bitsSource, bodies included, and gives it to the program: only where
// a prepatch imports it, because it takes as long as a usual prepatch does.
func (m *module) addBits() (*types.Package, error) {
	f, err := parser.ParseFile(m.fset, "math/bits", bitsSource, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parsing the embedded math/bits: %w", err)
	}
	info, files := newInfo(), []*ast.File{f}
	cfg := types.Config{Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := cfg.Check("math/bits", m.fset, files, info)
	if err != nil {
		return nil, fmt.Errorf("checking the embedded math/bits: %w", err)
	}
	m.prog.CreatePackage(pkg, files, info, true)
	return pkg, nil
}
