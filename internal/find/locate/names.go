package locate

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// name is a function name taken apart as people write it.
type name struct {
	whole   string
	base    string // without source file and version
	source  string // of "http.c:parse"
	version string // of "strdup@GLIBC_2.2.5"
}

// parseName takes a name apart. A colon that is not part of :: separates the
// source file, an @ or @@ the symbol version.
func parseName(s string) name {
	n := name{whole: s, base: s}
	if i := strings.IndexByte(s, ':'); i > 0 && i+1 < len(s) && s[i+1] != ':' && strings.Contains(s[:i], ".") && !strings.ContainsAny(s[:i], "()<> ") {
		n.source, n.base = s[:i], s[i+1:]
	}
	if base, version, ok := strings.Cut(n.base, "@"); ok && base != "" {
		n.base, n.version = base, strings.TrimPrefix(version, "@")
	}
	return n
}

// candidate is an address that a name may mean.
type candidate struct {
	name     string
	vaddr    address.Vaddr
	size     uint64
	how      string
	local    bool
	source   string
	indirect bool
	// version is set, and older true, for a symbol version a link would not pick.
	version string
	older   bool
	// entry is where the name stands in a jump table that leads to vaddr, or 0.
	entry address.Vaddr
}

// tables are the name tables of a file; one that is missing is empty.
type tables struct {
	dyn, sym []binfile.Symbol
	golang   *binfile.GoTable
	// symFrom is where sym comes from: ".symtab", ".gnu_debugdata", or the path
	// of a separate debug file.
	symFrom string
}

func readTables(f *binfile.File) (tables, error) {
	var t tables
	var err error
	if t.dyn, err = f.DynSymbols(); err != nil && !missing(err) {
		return t, err
	}
	if t.sym, err = f.Symbols(); err != nil && !missing(err) {
		return t, err
	}
	t.symFrom = ".symtab"
	if mini, err := f.MiniDebug(); t.sym == nil && err == nil {
		if t.sym, err = mini.Symbols(); err == nil {
			t.symFrom = ".gnu_debugdata"
		}
	}
	if t.golang, err = f.GoTable(); err != nil && !missing(err) {
		return t, err
	}
	return t, nil
}

// lookup returns every address in f the name may mean, strongest evidence first.
func (t *tables) lookup(f *binfile.File, n name) ([]candidate, error) {
	out := t.exact(n)
	if len(out) == 0 && n.version == "" {
		out = t.goNames(n)
	}
	var err error
	if len(out) == 0 && n.version == "" {
		out, err = t.demangled(n)
	}
	for i := range out {
		out[i] = throughJumpTable(f, out[i])
	}
	return out, err
}

func (t *tables) exact(n name) []candidate {
	var out []candidate
	for i := range t.dyn {
		s := &t.dyn[i]
		if s.Name != n.base || !s.IsFunc() || n.source != "" || n.version != "" && n.version != s.Version {
			continue
		}
		c := ofSymbol(s, ".dynsym "+s.Full())
		c.version, c.older = s.Version, !s.Default
		out = append(out, c)
	}
	for i := range t.sym {
		s := &t.sym[i]
		if !s.IsFunc() || !strings.HasPrefix(s.Name, n.base) {
			continue
		}
		// The linker writes versioned names into .symtab as nm prints them.
		base, version, versioned := strings.Cut(s.Name, "@")
		if base != n.base && sourceName(s.Name) != n.base {
			continue
		}
		if n.source != "" && n.source != s.Source || n.version != "" && n.version != strings.TrimPrefix(version, "@") {
			continue
		}
		c := ofSymbol(s, t.symFrom+" "+s.Name)
		c.version = strings.TrimPrefix(version, "@")
		c.older = versioned && !strings.HasPrefix(version, "@")
		out = append(out, c)
	}
	return out
}

func ofSymbol(s *binfile.Symbol, how string) candidate {
	return candidate{
		name: s.Name, vaddr: s.Value, size: s.Size, how: how,
		local: s.Bind == elf.STB_LOCAL, source: s.Source, indirect: s.IsIndirect(),
	}
}

// goNames matches a Go name with or without the directories of its import
// path: server.(*client).processPub.
func (t *tables) goNames(n name) []candidate {
	var out []candidate
	if t.golang == nil {
		return nil
	}
	for i := range t.golang.Funcs {
		g := &t.golang.Funcs[i]
		if !goNameMatches(g.Name, n.base) {
			continue
		}
		out = append(out, candidate{name: g.Name, vaddr: g.Entry, size: g.Size, how: ".gopclntab " + g.Name})
	}
	return out
}

// goNameMatches compares with what the linker wrote, which escapes dots in the
// last element of an import path as %2e: a name is taken as people write it and as nm
// prints it.
func goNameMatches(full, wanted string) bool {
	full, wanted = strings.ReplaceAll(full, "%2e", "."), strings.ReplaceAll(wanted, "%2e", ".")
	rest, ok := strings.CutSuffix(full, wanted)
	return ok && (rest == "" || strings.HasSuffix(rest, "/"))
}

// Bounds of demangling: the longest name, the length of all names demangled in
// one lookup, both in bytes, and the longest result as a power of two. Mangled
// names refer back to their own parts, so that a short one can mean a long one.
const (
	maxMangled    = 4096
	maxDemangling = 16 << 20
	maxDemangled  = 14
)

// ErrTooManyNames says that a name is like more mangled names than are looked
// through.
var ErrTooManyNames = errors.New("too many C++ or Rust names are like it; give the mangled name, as nm prints it")

// demangled matches C++ and Rust symbols by what people write: with or without
// parameters, spaces apart.
func (t *tables) demangled(n name) ([]candidate, error) {
	wanted := spelled(n.base)
	id := lastIdentifier(n.base)
	if id == "" {
		return nil, nil
	}
	left := maxDemangling
	var out []candidate
	for _, table := range []struct {
		name string
		syms []binfile.Symbol
	}{{".dynsym", t.dyn}, {t.symFrom, t.sym}} {
		for i := range table.syms {
			s := &table.syms[i]
			plain := sourceName(s.Name)
			if !s.IsFunc() || !isMangled(plain) || !strings.Contains(s.Name, id) || n.source != "" && n.source != s.Source {
				continue
			}
			if left -= len(s.Name); left < 0 {
				return nil, fmt.Errorf("%s: %w", n.whole, ErrTooManyNames)
			}
			if !demangledMatches(plain, wanted) {
				continue
			}
			c := ofSymbol(s, table.name+" "+s.Name)
			c.name = demangle.Filter(plain, demangle.MaxLength(maxDemangled))
			out = append(out, c)
		}
	}
	return out, nil
}

// isMangled tells C++ and Rust names. Clones (_Z1fv.isra.0) are not matched by
// what they were made from; they are listed as its copies.
func isMangled(s string) bool {
	return (strings.HasPrefix(s, "_Z") || strings.HasPrefix(s, "_R")) && len(s) <= maxMangled && !strings.Contains(s, ".")
}

func demangledMatches(mangled, wanted string) bool {
	for _, opts := range [][]demangle.Option{{}, {demangle.NoParams}, {demangle.NoParams, demangle.NoTemplateParams}} {
		s, err := demangle.ToString(mangled, append(opts, demangle.MaxLength(maxDemangled))...)
		if err == nil && (spelled(s) == wanted || spelled(withoutResult(s)) == wanted) {
			return true
		}
	}
	return false
}

// spelled brings the ways in which one C++ name is written to one: without spaces,
// const behind what it is about, std::string by that name.
func spelled(s string) string {
	s = strings.ReplaceAll(constBehind(s), " ", "")
	return strings.ReplaceAll(s, "std::__cxx11::basic_string<char,std::char_traits<char>,std::allocator<char>>", "std::string")
}

// constBehind writes "const char*" as demanglers do, "char const*". What is left of a
// type that it does not understand matches nothing.
func constBehind(s string) string {
	const word = "const "
	for at := 0; ; {
		i := strings.Index(s[at:], word)
		if i < 0 {
			return s
		}
		at += i
		if before := strings.TrimRight(s[:at], " "); before == "" || !strings.ContainsRune("(,<", rune(before[len(before)-1])) {
			at += len(word) // it stands behind something already
			continue
		}
		begin := at + len(word)
		end := begin + typeEnd(s[begin:])
		s = s[:at] + strings.TrimRight(s[begin:end], " ") + " const" + s[end:]
	}
}

// typeEnd is where the pointer, the reference or the end behind a type's name is.
func typeEnd(s string) int {
	depth := 0
	for i, r := range s {
		switch {
		case r == '<':
			depth++
		case r == '>' && depth > 0:
			depth--
		case depth == 0 && strings.ContainsRune("*&,)>", r):
			return i
		}
	}
	return len(s)
}

// withoutResult is a demangled name without the type of the result, which only those
// of templates have.
func withoutResult(s string) string {
	depth, begin := 0, 0
	for i, r := range s {
		switch r {
		case '(':
			if depth == 0 {
				return s[begin:]
			}
			depth++
		case '<':
			depth++
		case '>', ')':
			depth--
		case ' ':
			if depth == 0 && !strings.HasSuffix(s[:i], "operator") {
				begin = i + 1
			}
		}
	}
	return s[begin:]
}

// lastIdentifier is what a mangled name must contain: the last identifier
// before the parameters.
func lastIdentifier(s string) string {
	s, _, _ = strings.Cut(s, "(")
	s, _, _ = strings.Cut(s, "<")
	i := strings.LastIndexFunc(s, func(r rune) bool { return !isIdent(r) })
	return s[i+1:]
}

func isIdent(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// sourceName is what the source calls a function whose symbol link-time optimisation has
// renamed, as gcc and clang do with static ones, or control-flow integrity has, which gives
// the name to an entry of a jump table: the code and its parameters are the same.
func sourceName(symbol string) string {
	if !strings.Contains(symbol, ".") {
		return symbol
	}
	s := strings.TrimSuffix(symbol, ".cfi")
	at := strings.LastIndexByte(s, '.')
	if at < 0 {
		return s
	}
	base, last := s[:at], s[at+1:]
	for _, renamed := range []string{".lto_priv", ".llvm"} {
		if b, ok := strings.CutSuffix(base, renamed); ok && isNumber(last, "0123456789") {
			return b
		}
	}
	if len(last) == 32 && isNumber(last, "0123456789abcdef") { // of the module, by clang's ThinLTO
		return base
	}
	return s
}

func isNumber(s, digits string) bool { return s != "" && strings.Trim(s, digits) == "" }

// related sorts the symbols derived from the base name into clones, which are
// called instead of the function, and parts of it.
func (t *tables) related(base string) (clones, parts []*binfile.Symbol) {
	stem := base + "."
	for i := range t.sym {
		s := &t.sym[i]
		rest, ok := strings.CutPrefix(s.Name, stem)
		if !ok || !s.IsFunc() && s.Type != elf.STT_NOTYPE {
			continue
		}
		switch {
		case rest == "cold" || strings.HasPrefix(rest, "cold."):
			parts = append(parts, s)
		case isClone(rest):
			clones = append(clones, s)
		}
	}
	return clones, parts
}

// cloneSuffixes are the names gcc and clang give to copies of a function.
var cloneSuffixes = []string{"isra", "constprop", "part", "specialized", "clone", "resolver", "avx2", "avx512f", "sse4_2", "arch_x86_64_v2", "arch_x86_64_v3", "arch_x86_64_v4", "default"}

func isClone(rest string) bool {
	first, _, _ := strings.Cut(rest, ".")
	return slices.Contains(cloneSuffixes, first)
}
