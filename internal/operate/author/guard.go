package author

import (
	"cmp"
	"fmt"
	"go/format"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
)

// Function is what a guard is written for.
type Function struct {
	Exe, Lib, Func string // as in //pie:guard; one of Exe and Lib may be empty
	ID             string // of the prepatch
	Go             bool
	Vaddr          address.Vaddr
	Params         []debuginfo.Param
	Results        []debuginfo.Type // of C none or one
}

// maxDemangled bounds what a name may become when it is read: as a power of two.
const maxDemangled = 12

// maxID is how long the id of a prepatch may be.
const maxID = 47

// maxMirror bounds the structs that are mirrored without being asked for, in bytes.
const maxMirror = 1024

// New writes a prepatch and its test for f: a guard that has the function's
// parameters and lets every call through, and a test that says so. info may be nil.
func New(info *debuginfo.Info, f Function) (guard, test []byte, err error) {
	if !f.Go && len(f.Results) > 0 && !oneWord(f.Results[0]) {
		return nil, nil, fmt.Errorf("%s returns %s by value, which a guard cannot make up: guard the function that calls it", f.Func, cmp.Or(comment(f.Results[0].Name), "a struct"))
	}
	w := &writer{f: f, name: cmp.Or(exported(typeName(shortName(f.Func))), "Guard"), mirrors: newMirrors(info, f.Vaddr)}
	w.mirrors.taken["attack"] = true
	w.f.ID = cmp.Or(f.ID, "LOCAL-"+cmp.Or(typeName(shortName(f.Func)), "guard"))
	w.f.ID = w.f.ID[:min(len(w.f.ID), maxID)]
	w.params(info != nil)
	if guard, err = format.Source([]byte(w.guard())); err != nil {
		return nil, nil, fmt.Errorf("the guard for %s: %w", f.Func, err)
	}
	if test, err = format.Source([]byte(w.test())); err != nil {
		return nil, nil, fmt.Errorf("the test for %s: %w", f.Func, err)
	}
	return guard, test, nil
}

// oneWord reports whether a result of this type fits the register it is given in.
func oneWord(t debuginfo.Type) bool {
	return t.Kind != debuginfo.Other && slices.Contains([]int64{1, 2, 4, 8}, t.Size)
}

// shortName is the part of a symbol that a person would call the function by.
func shortName(symbol string) string {
	symbol, _, _ = strings.Cut(symbol, "@")
	if rest, ok := strings.CutPrefix(symbol, "_ZN"); ok {
		return lastOfMangled(rest)
	}
	if rest, ok := strings.CutPrefix(symbol, "_Z"); ok && rest != "" {
		return firstOfMangled(rest)
	}
	if strings.HasPrefix(symbol, "_R") {
		return lastOfRust(symbol)
	}
	return symbol[strings.LastIndexAny(symbol, "./)")+1:]
}

// lastOfMangled is the last of the names that follow each other behind their
// lengths in a mangled name (Itanium C++ ABI, 5.1).
func lastOfMangled(s string) string {
	last := ""
	for s = strings.TrimLeft(s, "KVrO"); s != ""; {
		digits := 0
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(s[:digits])
		if err != nil || n < 1 || n > len(s)-digits {
			break
		}
		last, s = s[digits:digits+n], s[digits+n:]
	}
	return last
}

// firstOfMangled is the name that a mangled one begins with, which stands in no namespace.
func firstOfMangled(s string) string {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.Atoi(s[:digits])
	if err != nil || n < 1 || n > len(s)-digits {
		return ""
	}
	return s[digits : digits+n]
}

// lastOfRust is the last name of a mangled one of Rust: <T as path>::name, as it is read.
func lastOfRust(symbol string) string {
	s, err := demangle.ToString(symbol, demangle.NoTemplateParams, demangle.MaxLength(maxDemangled))
	if err != nil {
		return ""
	}
	for strings.HasSuffix(s, ">") { // ::<T>
		cut := strings.LastIndex(s, "::<")
		if cut < 0 {
			return ""
		}
		s = s[:cut]
	}
	return s[strings.LastIndexAny(s, ":>")+1:]
}

// writer writes one guard.
type writer struct {
	f       Function
	name    string
	mirrors *mirrors
	list    []param
	words   int      // of the call, that the list takes
	left    []string // what was left out of the list, and why
}

// goWords is how many argument words of a Go function travel in registers.
const goWords = 9

// param is a parameter of the guard.
type param struct {
	name, goType string
	usual        string // an argument of the test
}

// words is how many words of the call the parameter takes.
func (p param) words() int {
	switch p.goType {
	case "libpie.GoString", "libpie.GoInterface":
		return 2
	case "libpie.GoSlice":
		return 3
	}
	return 1
}

// params makes the guard's parameters of the function's, up to the first whose
// place is not known.
func (w *writer) params(mirror bool) {
	used := map[string]bool{"c": true, "attack": true, "libpie": true}
	for i, p := range w.f.Params {
		name := parameterName(p.Name)
		if name == "" || used[name] || w.mirrors.taken[name] {
			name = fmt.Sprintf("arg%d", i)
		}
		used[name] = true
		if p.Absent {
			w.left = append(w.left, fmt.Sprintf("%s was left out by the compiler: what is behind it may be passed elsewhere, see libpie.Arg", name))
			return
		}
		q, ok := w.param(p.Type, mirror)
		if !ok {
			w.left = append(w.left, fmt.Sprintf("%s is %s by value: what is behind it depends on how it is passed, see libpie.Arg", cmp.Or(parameterName(p.Name), name), cmp.Or(comment(p.Type.Name), "a struct")))
			return
		}
		if q.goType == "" {
			w.left = append(w.left, fmt.Sprintf("%s is a %s, which travels in a vector register: guards do not see it", cmp.Or(parameterName(p.Name), name), cmp.Or(comment(p.Type.Name), "floating-point number")))
			continue
		}
		if w.words += q.words(); w.f.Go && w.words > goWords {
			w.left = append(w.left, fmt.Sprintf("%s and what is behind it are not in the nine words that a guard sees of a Go function", cmp.Or(parameterName(p.Name), name)))
			return
		}
		q.name = name
		w.list = append(w.list, q)
	}
}

func (w *writer) param(t debuginfo.Type, mirror bool) (param, bool) {
	switch {
	case t.Kind == debuginfo.Pointer:
		return w.pointer(t, mirror), true
	case t.Bool && t.Size == 1:
		return param{goType: "bool", usual: "false"}, true
	case t.Kind == debuginfo.Float && t.Size <= 8:
		return param{}, true
	case t.Struct == "string":
		return param{goType: "libpie.GoString", usual: `p.GoString("usual")`}, true
	case strings.HasPrefix(t.Struct, "[]"):
		return param{goType: "libpie.GoSlice", usual: `p.GoSlice([]byte("usual"))`}, true
	case t.Struct == "runtime.iface" || t.Struct == "runtime.eface":
		return param{goType: "libpie.GoInterface", usual: "libpie.GoInterface{}"}, true
	case !slices.Contains([]int64{1, 2, 4, 8}, t.Size):
		return param{}, false
	case t.Kind == debuginfo.Signed:
		return integer(fmt.Sprintf("int%d", 8*t.Size)), true
	case t.Kind == debuginfo.Unsigned:
		return integer(fmt.Sprintf("uint%d", 8*t.Size)), true
	}
	return param{}, false
}

func integer(goType string) param { return param{goType: goType, usual: goType + "(1)"} }

// pointer is a pointer to a mirror where the struct is known and not too large,
// else an address.
func (w *writer) pointer(t debuginfo.Type, mirror bool) param {
	if strings.HasPrefix(t.Name, "char ") {
		return param{goType: "libpie.Addr", usual: `p.CString("usual")`}
	}
	unknown := param{goType: "libpie.Addr", usual: "p.Bytes(make([]byte, 64))"}
	if !mirror || t.Points == "" {
		return unknown
	}
	l, err := w.mirrors.info.Layout(t.Points, w.f.Vaddr)
	if err != nil || l.Size < 1 || l.Size > maxMirror || l.Union {
		return unknown
	}
	m := w.mirrors
	texts, done := len(m.texts), maps.Clone(m.done)
	written, ok := m.done[l.At]
	if !ok {
		if written, err = m.write(m.name(t.Points), l, nil, 0); err != nil {
			m.texts, m.done = m.texts[:texts], done
			delete(m.names, t.Points)
			return unknown
		}
	}
	return param{goType: "*" + written.text, usual: "&" + written.text + "{}"}
}

// verdict is the Go expression of a rejection, and what it makes of the call.
func (w *writer) verdict() (text, does string) {
	if w.f.Go {
		return w.goVerdict()
	}
	if len(w.f.Results) == 0 {
		return "libpie.RejectVoid()", "returns at once"
	}
	switch r := w.f.Results[0]; {
	case r.Kind == debuginfo.Pointer:
		return "libpie.RejectPtr(0)", "returns NULL"
	case r.Kind == debuginfo.Float:
		return "libpie.RejectFloat(0)", "returns 0"
	case r.Bool:
		return "libpie.Reject(false)", "returns false"
	case r.Kind == debuginfo.Signed:
		return fmt.Sprintf("libpie.Reject(int%d(-1))", 8*r.Size), "returns -1"
	default:
		return fmt.Sprintf("libpie.Reject(uint%d(0))", 8*r.Size), "returns 0"
	}
}

// goVerdict is that of a Go function: zero values, and io.EOF for an error at
// the end. Results that do not travel in general registers leave a Log.
func (w *writer) goVerdict() (text, does string) {
	if len(w.f.Results) == 0 {
		return "libpie.RejectVoid()", "returns at once"
	}
	var words []string
	for k, r := range w.f.Results {
		n := 1
		switch {
		case r.Struct == "runtime.iface" && k == len(w.f.Results)-1:
			words = append(words, `libpie.GoVar("io.EOF")`)
			continue
		case r.Struct == "runtime.iface", r.Struct == "runtime.eface", r.Struct == "string":
			n = 2
		case strings.HasPrefix(r.Struct, "[]"):
			n = 3
		case r.Kind == debuginfo.Float || r.Kind == debuginfo.Other || r.Kind == debuginfo.Void:
			return "libpie.Log(1)", "is logged; libpie.RejectGo makes it fail"
		}
		words = append(words, slices.Repeat([]string{"libpie.Word(0)"}, n)...)
	}
	if len(words) > 8 {
		return "libpie.Log(1)", "is logged; it returns more than a guard can"
	}
	return "libpie.RejectGo(" + strings.Join(words, ", ") + ")", "returns zero values, and io.EOF as its error"
}

func (w *writer) guard() string {
	var b strings.Builder
	verdict, does := w.verdict()
	fmt.Fprintf(&b, "// Package prepatch guards %s (%s).\npackage prepatch\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id %s\n\n", comment(cmp.Or(w.f.Exe, w.f.Lib)), w.f.ID, w.f.ID)
	for _, text := range w.mirrors.texts {
		b.WriteString(text + "\n")
	}
	fmt.Fprintf(&b, "// %s stands in front of %s: a call that is an attack %s.\n", w.name, comment(w.f.Func), does)
	for _, line := range w.left {
		fmt.Fprintf(&b, "// %s.\n", line)
	}
	b.WriteString("//\n//pie:guard")
	for _, key := range []struct{ name, value string }{{"exe", w.f.Exe}, {"lib", w.f.Lib}, {"func", w.f.Func}} {
		if key.value != "" {
			fmt.Fprintf(&b, " %s=%s", key.name, quoted(key.value))
		}
	}
	b.WriteString(" onfault=pass onfuel=pass\n")
	list, args := "c *libpie.Call", "c"
	for _, p := range w.list {
		list += fmt.Sprintf(", %s %s", p.name, p.goType)
		args += ", " + p.name
	}
	fmt.Fprintf(&b, "func %s(%s) libpie.Verdict {\n\tif attack(%s) {\n\t\treturn %s\n\t}\n\treturn libpie.Pass()\n}\n\n", w.name, list, args, verdict)
	fmt.Fprintf(&b, "// attack tells which calls are refused: none yet.\nfunc attack(%s) bool {\n\treturn false\n}\n", list)
	return b.String()
}

func (w *writer) test() string {
	var b strings.Builder
	imports := "\"testing\"\n\n"
	args := "Run(" + w.name
	for _, p := range w.list {
		if strings.HasPrefix(p.usual, "libpie.") {
			imports = "\"testing\"\n\n\t\"github.com/patch-integration-engine/pie/libpie\"\n"
		}
		args += ", " + p.usual
	}
	fmt.Fprintf(&b, "package prepatch\n\nimport (\n\t%s\t\"github.com/patch-integration-engine/pie/libpie/libpietest\"\n)\n\n", imports)
	fmt.Fprintf(&b, "// A usual call goes on.\nfunc Test%s(t *testing.T) {\n\tp := libpietest.New(t)\n\tif r := p.%s); !r.Passed() {\n\t\tt.Errorf(\"a usual call: %%v\", r)\n\t}\n}\n", w.name, args)
	return b.String()
}

// quoted puts a directive's value in quotes where it needs them.
func quoted(value string) string {
	if strings.ContainsAny(value, " \t\"") {
		return strconv.Quote(value)
	}
	return value
}
