package compile

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// libpiePath is what a prepatch imports.
const libpiePath = "github.com/patch-integration-engine/pie/libpie"

// module is a prepatch, type-checked and in SSA form.
type module struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	prog  *ssa.Program
	ssa   *ssa.Package
	sizes types.Sizes
	errs  []*Error
	used  bpf.Caps // capabilities that the guards compiled so far use

	slices    map[*ast.ArrayType]bool // types of slices that stand where one may
	orders    map[*ssa.BasicBlock]map[ssa.Instruction]int
	literals  map[*ssa.Alloc]*alloc    // arrays of functions that are tables; nil for those that are not
	longTexts bool                     // a constant string is longer than maxInlineText
	objects   map[types.Object]*object // state variables
	tables    map[types.Object]*alloc  // of constants
	stateSize uint32                   // bytes, with what comes before the first
	state     *ssa.Package             // libpie's state, written as guards are; nil without state variables
}

// load brings the files through the front end. What it refuses it refuses
// before the next stage sees it, so that no stage meets input whose cost is not
// bounded: size, then nesting, then syntax outside the subset, then types, then
// the size of types.
func load(files map[string][]byte) (*module, []*Error) {
	m := &module{fset: token.NewFileSet(), sizes: newSizes(), slices: map[*ast.ArrayType]bool{}, literals: map[*ssa.Alloc]*alloc{}, orders: map[*ssa.BasicBlock]map[ssa.Instruction]int{}}
	for _, stage := range []func(map[string][]byte){m.parse, m.screen, m.check, m.build} {
		if stage(files); len(m.errs) > 0 {
			return nil, m.errs
		}
	}
	return m, nil
}

// refuse records an error at pos.
func (m *module) refuse(pos token.Pos, instead, format string, args ...any) {
	if len(m.errs) < 10*maxErrors {
		m.errs = append(m.errs, &Error{Pos: m.place(pos), Msg: fmt.Sprintf(format, args...), Instead: instead})
	}
}

func (m *module) parse(files map[string][]byte) {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if size += len(files[name]); size > source.MaxSize {
			m.errs = append(m.errs, &Error{Pos: bpf.Pos{File: name, Line: 1, Col: 1}, Msg: fmt.Sprintf("the prepatch is larger than %d KiB", source.MaxSize>>10)})
			return
		}
		f, err := parser.ParseFile(m.fset, name, files[name], parser.SkipObjectResolution)
		if err == nil {
			m.files = append(m.files, f)
			continue
		}
		var list scanner.ErrorList
		if !errors.As(err, &list) {
			m.errs = append(m.errs, &Error{Pos: bpf.Pos{File: name, Line: 1, Col: 1}, Msg: err.Error()})
		}
		for _, e := range list {
			m.errs = append(m.errs, &Error{Pos: bpf.Pos{File: name, Line: e.Pos.Line, Col: e.Pos.Column}, Msg: e.Msg})
		}
	}
}

// check type-checks the prepatch against the embedded sources.
func (m *module) check(map[string][]byte) {
	lib, err := library()
	if err != nil {
		m.errs = append(m.errs, &Error{Msg: err.Error()})
		return
	}
	m.prog = ssa.NewProgram(m.fset, ssa.InstantiateGenerics)
	info, limits := newInfo(), mathPackage()
	imports := importer{libpiePath: lib, "math": limits}
	if m.imports("math/bits") {
		if imports["math/bits"], err = m.addBits(); err != nil {
			m.errs = append(m.errs, &Error{Msg: err.Error()})
			return
		}
	}
	cfg := types.Config{Importer: imports, Sizes: m.sizes, Error: m.typeError}
	m.pkg, _ = cfg.Check("prepatch", m.fset, m.files, info)
	if len(m.errs) > 0 {
		return
	}
	m.checkInstances(info)
	m.checkTypes(info)
	m.checkFunctions(info)
	m.checkState(info)
	if len(m.errs) > 0 {
		return
	}
	m.prog.CreatePackage(lib, nil, nil, true)
	m.prog.CreatePackage(limits, nil, nil, true)
	if len(m.objects) > 0 {
		if err := m.addState(); err != nil {
			m.errs = append(m.errs, &Error{Msg: err.Error()})
			return
		}
	}
	perLoop(info, m.files)
	m.ssa = m.prog.CreatePackage(m.pkg, m.files, info, false)
}

// perLoop has the SSA builder make the variables of a loop once, as Go did before
// 1.22. What is new since then, a variable for each round, shows only where a function
// literal or an address outlives its round: checkPost refuses the one place where a literal
// could, for which function a value is cannot depend on the round. But variables whose
// address is taken would become pointers that depend on which round it is.
func perLoop(info *types.Info, files []*ast.File) {
	for _, f := range files {
		info.FileVersions[f] = "go1.21"
	}
}

// imports reports whether a file of the prepatch imports a package.
func (m *module) imports(path string) bool {
	return slices.ContainsFunc(m.files, func(f *ast.File) bool {
		return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
			p, err := strconv.Unquote(i.Path.Value)
			return err == nil && p == path
		})
	})
}

// build brings every function into SSA form.
func (m *module) build(map[string][]byte) {
	defer func() {
		// The builder panics on what it does not expect. A file that gets
		// there must end in an error, not take pie down.
		if r := recover(); r != nil {
			m.errs = append(m.errs, &Error{Pos: m.place(m.files[0].Package), Msg: fmt.Sprintf("the guard cannot be brought into SSA form: %v", r)})
		}
	}()
	m.prog.Build()
}

func (m *module) typeError(err error) {
	var e types.Error
	if !errors.As(err, &e) {
		m.errs = append(m.errs, &Error{Msg: err.Error()})
		return
	}
	instead := ""
	for name, hint := range otherNames {
		if strings.HasSuffix(e.Msg, "undefined: libpie."+name) || strings.HasSuffix(e.Msg, "has no field or method "+name+")") {
			instead = hint
		}
	}
	if strings.Contains(e.Msg, "undefined: math.") {
		instead = "of math a guard has the limits of integers: MaxInt32 and its like"
	}
	if strings.Contains(e.Msg, "undefined: bits.") {
		instead = "of math/bits a guard has what counts, turns, adds, subtracts and multiplies; / and % divide"
	}
	if strings.HasPrefix(e.Msg, "bool ") && strings.Contains(e.Msg, "does not satisfy libpie.Number") {
		instead = "a value that is kept is an integer: 1 in a uint8 is a yes"
	}
	if strings.HasPrefix(e.Msg, "float") && strings.Contains(e.Msg, "does not satisfy libpie.Value") {
		instead = "libpie.RejectFloat rejects with a double, libpie.RejectFloat32 with a float"
	}
	m.refuse(e.Pos, instead, "%s", strings.TrimPrefix(e.Msg, "\t"))
}

// otherNames are names that are looked for in libpie and are not there, with what
// to write instead.
var otherNames = map[string]string{
	"Put": "c.Put8, Put16, Put32 and Put64 say how much is written",
}

func newInfo() *types.Info {
	return &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{},
		Uses: map[*ast.Ident]types.Object{}, Implicits: map[ast.Node]types.Object{},
		Scopes: map[ast.Node]*types.Scope{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		Instances: map[*ast.Ident]types.Instance{}, FileVersions: map[*ast.File]string{},
	}
}

// importer gives the packages a prepatch may import.
type importer map[string]*types.Package

func (i importer) Import(path string) (*types.Package, error) {
	if p := i[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("package %q is not known to guards", path)
}

// bodiless stands in for packages that only the bodies of libpie use; those that
// its declarations use are in it.
type bodiless map[string]*types.Package

func (b bodiless) Import(path string) (*types.Package, error) {
	if p := b[path]; p != nil {
		return p, nil
	}
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
	p.MarkComplete()
	return p, nil
}

// library returns libpie's declarations. Its bodies are not looked at: to the
// compiler each of its functions is an instruction.
func library() (*types.Package, error) {
	fset := token.NewFileSet()
	files, err := parseAll(fset, ".")
	if err != nil {
		return nil, err
	}
	words, err := embedded(fset, wordsPath, bodiless{}, newInfo(), true)
	if err != nil {
		return nil, err
	}
	cfg := types.Config{IgnoreFuncBodies: true, Importer: bodiless{wordsPath: words.pkg}, Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := cfg.Check(libpiePath, fset, files, nil)
	if err != nil {
		return nil, fmt.Errorf("checking the embedded libpie: %w", err)
	}
	return pkg, nil
}
