package compile

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"path"
	"sort"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/libpie"
)

// Packages of libpie that are compiled like a prepatch's own functions, and what
// those end in.
const (
	statePath = libpiePath + "/internal/state"
	wordsPath = libpiePath + "/internal/words"
)

// object is a state variable: words of the prepatch's state.
type object struct {
	name string
	kind string // of libpie: Counter, Map, PerThread, Limiter
	off  int64  // bytes from the start of the state
	rows int64  // of a table
	elem []leaf // what the type is of: key and value, or value
	// Of a limiter, in ns: a call at the allowed rate, and a burst of them.
	each, most int64
	fullAllows bool
}

// cacheLine keeps state variables apart, so that threads that use one do not slow
// down those that use another.
const cacheLine = 64

// checkState finds the package-level variables, which must be libpie's state or tables
// of constants, and lays them out.
func (m *module) checkState(info *types.Info) {
	m.objects, m.tables = map[types.Object]*object{}, map[types.Object]*alloc{}
	end := int64(bpf.StateFirst)
	for _, f := range m.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				for k, name := range spec.Names {
					var init ast.Expr
					if k < len(spec.Values) {
						init = spec.Values[k]
					}
					end = m.declare(info, name, init, end)
				}
			}
		}
	}
	if end > bpf.StateFirst {
		m.stateSize = uint32(end)
	}
}

// declare adds a state variable at an offset, and returns the offset behind it.
func (m *module) declare(info *types.Info, name *ast.Ident, init ast.Expr, at int64) int64 {
	obj := info.Defs[name]
	named, ok := types.Unalias(objType(obj)).(*types.Named)
	kind := ""
	for _, k := range []string{"Counter", "Map", "PerThread", "Limiter"} {
		if ok && isLib(named, k) {
			kind = k
		}
	}
	if kind == "" && name.Name != "_" && isTable(objType(obj)) {
		m.declareTable(info, name, init)
		return at
	}
	if kind == "" || name.Name == "_" {
		m.refuse(name.Pos(), "use a constant, or an array of constants as a table; what is kept between calls is a libpie.Counter, Map, PerThread or Limiter", "a prepatch has no package-level variables but tables of constants and libpie's state")
		return at
	}
	o := &object{name: name.Name, kind: kind, off: at}
	for i := range named.TypeArgs().Len() {
		l, ok := scalar(named.TypeArgs().At(i))
		if !ok {
			m.refuse(name.Pos(), "use an integer, or a libpie.Addr", "a %s cannot be kept in a %s", typeName(named.TypeArgs().At(i)), kind)
			return at
		}
		o.elem = append(o.elem, l)
	}
	words, ok := m.initialise(info, o, name, init)
	if !ok {
		return at
	}
	end := at + (8*words+cacheLine-1)/cacheLine*cacheLine
	if end > libpie.MaxState {
		m.refuse(name.Pos(), roomFor(libpie.MaxState-at), "with %s the prepatch has more than %d KiB of state", name.Name, libpie.MaxState>>10)
		return at
	}
	m.objects[obj] = o
	return end
}

// roomFor says how many keys fit into so many bytes. The places of a table are a power of
// two, so that a few keys more may double it.
func roomFor(bytes int64) string {
	keys := sort.Search(libpie.MaxState, func(n int) bool {
		_, words := libpie.TableSize(n + 1)
		return (8*int64(words)+cacheLine-1)/cacheLine*cacheLine > bytes
	})
	if keys == 0 {
		return "keep fewer keys in those before it"
	}
	return fmt.Sprintf("keep fewer keys: %d fit here", keys)
}

func objType(o types.Object) types.Type {
	if o == nil {
		return types.Typ[types.Invalid]
	}
	return o.Type()
}

// initialise reads what a state variable is declared with, and returns how many
// words it has.
func (m *module) initialise(info *types.Info, o *object, name *ast.Ident, init ast.Expr) (words int64, ok bool) {
	if o.kind == "Counter" {
		if init != nil {
			m.refuse(init.Pos(), "var "+o.name+" libpie.Counter", "a counter begins as 0")
		}
		return 1, init == nil
	}
	call, isCall := init.(*ast.CallExpr)
	if !isCall || len(call.Args) != 1 || !m.constructs(info, call.Fun, "New"+o.kind) {
		m.refuse(name.Pos(), fmt.Sprintf("var %s = libpie.New%s[…](…)", o.name, o.kind), "a %s is made by libpie.New%s, where it is declared", o.kind, o.kind)
		return 0, false
	}
	keys := int64(0)
	if o.kind == "Limiter" {
		keys, ok = m.limit(info, o, call.Args[0])
	} else {
		keys, ok = m.within(info, call.Args[0], 1, libpie.MaxState/16, "how many it has room for")
	}
	if !ok {
		return 0, false
	}
	rows, n := libpie.TableSize(int(keys))
	o.rows = int64(rows)
	return int64(n), true
}

// constructs reports whether fun is libpie's function of that name.
func (m *module) constructs(info *types.Info, fun ast.Expr, name string) bool {
	switch f := ast.Unparen(fun).(type) {
	case *ast.IndexExpr:
		return m.constructs(info, f.X, name)
	case *ast.IndexListExpr:
		return m.constructs(info, f.X, name)
	case *ast.SelectorExpr:
		used := info.Uses[f.Sel]
		return used != nil && used.Name() == name && used.Pkg() != nil && used.Pkg().Path() == libpiePath
	}
	return false
}

// within returns a constant from least to most.
func (m *module) within(info *types.Info, e ast.Expr, least, most int64, what string) (int64, bool) {
	if v := info.Types[e].Value; v != nil {
		if n, exact := constant.Int64Val(constant.ToInt(v)); exact && n >= least && n <= most {
			return n, true
		}
	}
	m.refuse(e.Pos(), "write the number", "%s must be a constant from %d to %d", what, least, most)
	return 0, false
}

// limit reads a libpie.Limit.
func (m *module) limit(info *types.Info, o *object, e ast.Expr) (keys int64, ok bool) {
	const instead = "libpie.Limit{Calls: 10, Seconds: 60, Burst: 20, Keys: 1000, Full: libpie.FullRefuse}"
	lit, isLit := ast.Unparen(e).(*ast.CompositeLit)
	if !isLit {
		m.refuse(e.Pos(), instead, "the limit is not written as a literal")
		return 0, false
	}
	bounds := map[string][2]int64{
		"Calls": {1, 1e9}, "Seconds": {1, 86_400}, "Burst": {1, 1e6}, "Keys": {1, libpie.MaxState / 16},
		"Full": {int64(libpie.FullAllow), int64(libpie.FullRefuse)},
	}
	n := map[string]int64{}
	for _, x := range lit.Elts {
		kv, isKV := x.(*ast.KeyValueExpr)
		if !isKV {
			m.refuse(x.Pos(), instead, "the fields of a limit are written with their names")
			return 0, false
		}
		field := kv.Key.(*ast.Ident).Name
		b := bounds[field]
		v, ok := m.within(info, kv.Value, b[0], b[1], field)
		if !ok {
			return 0, false
		}
		n[field] = v
	}
	for _, field := range []string{"Calls", "Seconds", "Burst", "Keys", "Full"} {
		if n[field] == 0 {
			m.refuse(e.Pos(), instead, "the limit does not say %s: each of its fields is a decision", field)
			return 0, false
		}
	}
	o.each = n["Seconds"] * 1e9 / n["Calls"]
	if o.each > math.MaxInt64/4/n["Burst"] {
		m.refuse(e.Pos(), "a smaller Burst, or a higher rate", "a burst is more than a century at this rate")
		return 0, false
	}
	o.most, o.fullAllows = o.each*n["Burst"], n["Full"] == int64(libpie.FullAllow)
	return n["Keys"], true
}

// addState brings libpie's state into the program.
func (m *module) addState() error {
	words, err := embedded(m.fset, wordsPath, bodiless{}, newInfo(), true)
	if err != nil {
		return err
	}
	info := newInfo()
	state, err := embedded(m.fset, statePath, importer{wordsPath: words.pkg}, info, false)
	if err != nil {
		return err
	}
	m.prog.CreatePackage(words.pkg, nil, nil, true)
	m.state = m.prog.CreatePackage(state.pkg, state.files, info, true)
	return nil
}

// checked is a type-checked package of libpie's.
type checked struct {
	pkg   *types.Package
	files []*ast.File
}

// embedded type-checks a package of libpie's: its declarations only, or all.
func embedded(fset *token.FileSet, pkgPath string, imports types.Importer, info *types.Info, declarations bool) (checked, error) {
	dir := strings.TrimPrefix(pkgPath, libpiePath+"/")
	files, err := parseAll(fset, dir)
	if err != nil {
		return checked{}, err
	}
	cfg := types.Config{Importer: imports, IgnoreFuncBodies: declarations, Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := cfg.Check(pkgPath, fset, files, info)
	if err != nil {
		return checked{}, fmt.Errorf("checking the embedded %s: %w", dir, err)
	}
	return checked{pkg, files}, nil
}

// parseAll parses the files of a folder of libpie's source.
func parseAll(fset *token.FileSet, dir string) ([]*ast.File, error) {
	entries, err := libpie.Source.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the embedded libpie: %w", err)
	}
	var files []*ast.File
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		name := path.Join(dir, e.Name())
		text, err := libpie.Source.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the embedded libpie: %w", err)
		}
		f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parsing the embedded libpie: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}
