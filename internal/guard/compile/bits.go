package compile

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
)

// bitsSource is a math/bits written in the subset, so that its functions are
// inlined like the prepatch's own.
//
//go:embed bits.go.txt
var bitsSource string

// bitsPackage type-checks bitsSource, bodies included.
func bitsPackage(fset *token.FileSet) (*types.Package, []*ast.File, *types.Info, error) {
	f, err := parser.ParseFile(fset, "math/bits", bitsSource, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("parsing the embedded math/bits: %w", err)
	}
	info := newInfo()
	cfg := types.Config{Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := cfg.Check("math/bits", fset, []*ast.File{f}, info)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("checking the embedded math/bits: %w", err)
	}
	return pkg, []*ast.File{f}, info, nil
}
