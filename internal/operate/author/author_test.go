package author

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// program builds a source of testdata and opens what came of it.
func program(t testing.TB, compiler string, args ...string) *binfile.File {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if b, err := exec.Command(compiler, append(args, "-o", out)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v (scripts/setup installs compilers)\n%s", compiler, err, b)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	f, err := binfile.Open(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func vaddr(t testing.TB, f *binfile.File, name string) address.Vaddr {
	t.Helper()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(syms, func(s binfile.Symbol) bool { return strings.Contains(s.Name, name) })
	if at < 0 {
		t.Fatalf("no symbol %s", name)
	}
	return syms[at].Value
}

// mirrorsOf compiles a guard that takes every mirror, and returns what the
// compiler makes of them.
func mirrorsOf(t *testing.T, text []byte) []compile.Mirror {
	t.Helper()
	var params []string
	for k, m := range regexp.MustCompile(`(?m)^type (\w+) struct`).FindAllSubmatch(text, -1) {
		params = append(params, string(rune('a'+k))+"0 *"+string(m[1]))
	}
	guard := "// Package prepatch is a test.\npackage prepatch\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id TEST-1\n\n" + string(text) +
		"\n//pie:guard exe=x func=f onfault=pass onfuel=pass\nfunc G(c *libpie.Call, " + strings.Join(params, ", ") + ") libpie.Verdict { return libpie.Pass() }\n"
	files := map[string][]byte{"guard.go": []byte(guard)}
	src, err := source.ParseFiles(files)
	if err != nil {
		t.Fatalf("%v\n%s", err, guard)
	}
	p, err := compile.Compile(src, files)
	if err != nil {
		t.Fatalf("%v\n%s", err, guard)
	}
	return p.Guards[0].Mirrors
}

// What is written lies in memory as the program's structs do, down to every
// field: the check that insertion makes finds nothing.
func TestMirrorsAgree(t *testing.T) {
	for _, c := range []struct {
		name, compiler string
		args           []string
		near           string
		wanted         []string
		fields         []string // that must be there, as Go has them
	}{
		{"C", "gcc", []string{"-g", "-O1", "testdata/shapes.c"}, "use", []string{"shapes", "node", "packed", "outer_t"},
			[]string{"next *node", "small int8", "flags uint32", "text [16]int8", "grid [3][4]uint16", "inner shapesInner", "onlyInFirst int32", "number [4]byte", "deep [2]outerTDeep", "keyType int32"}},
		{"DWARF 4", "gcc", []string{"-gdwarf-4", "-O2", "testdata/shapes.c"}, "use", []string{"shapes", "node", "packed", "outer_t", "tail"},
			[]string{"sign int32", "Left out: second (at 64), bits (bits 0 to 2 from byte 72), more (bits 3 to 9 from byte 72), flexible (from"}},
		{"enums, unions", "gcc", []string{"-g", "testdata/shapes.c"}, "use", []string{"tail", "union variant:number"},
			[]string{"sign int32", "size uint32", "signs [2]int32", "number int32", "// Left out: items (from 32 on)."}},
		{"enums of clang", "clang-16", []string{"-g", "testdata/shapes.c"}, "use", []string{"tail"}, []string{"sign int32", "size uint32", "signs [2]int32"}},
		{"some fields", "gcc", []string{"-g", "testdata/shapes.c"}, "use", []string{"shapes:grid,next", "packed:number"}, []string{"grid [3][4]uint16", "next libpie.Addr"}},
		{"C++", "g++", []string{"-g", "-O1", "testdata/shapes.cc"}, "6handle", []string{"Request", "srv::Session"},
			[]string{"id int32", "name String", "request *request", "open bool"}},
		{"parts of C++", "g++", []string{"-g", "-O1", "testdata/shapes.cc"}, "6handle", []string{"srv::Box<short,3>", "srv::Session::Nested", "std::vector<int, std::allocator<int>>:_M_impl"},
			[]string{"type box struct", "values [3]int16", "depth int64", "type vector struct"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := program(t, c.compiler, c.args...)
			info, err := debuginfo.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			text, err := Mirrors(info, vaddr(t, f, c.near), c.wanted)
			if err != nil {
				t.Fatal(err)
			}
			plain := regexp.MustCompile(`[ \t]+`).ReplaceAllString(string(text), " ")
			for _, field := range c.fields {
				if !strings.Contains(plain, field) {
					t.Errorf("no %q in\n%s", field, text)
				}
			}
			for _, m := range mirrorsOf(t, text) {
				err := info.CheckMirror(vaddr(t, f, c.near), m)
				var mismatch *debuginfo.Mismatch
				if errors.As(err, &mismatch) {
					t.Errorf("%v\n%s", err, text)
				}
			}
		})
	}
}

func TestMirrorsRefused(t *testing.T) {
	f := program(t, "gcc", "-g", "testdata/shapes.c")
	info, err := debuginfo.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for wanted, says := range map[string]string{
		"nosuch": "no such struct", "shapes:nosuch": `no field "nosuch"; it has small`, "shapes:bits": "is a bit-field", "hidden": "no such struct",
	} {
		if _, err := Mirrors(info, 0, []string{wanted}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", wanted, err, says)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"list_node": "listNode", "__pad": "pad", "type": "Type", "len": "Len", "_": "", "9lives": "_9lives", "__0": "_0", "a b": "", "URL": "uRL", "x$y": "", "": "",
		"\x1b[31m": "", "a\nb": "",
	} {
		if got := identifier(in); got != want {
			t.Errorf("identifier(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"std::vector<int, std::allocator<int> >": "vector", "server.client": "client", "github.com/x/y.Z": "z", "basic_string<char>": "basicString", "main.Request[int32]": "request", "(u8, u64)": "", "[]int": "",
	} {
		if got := typeName(in); got != want {
			t.Errorf("typeName(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"strdup": "strdup", "memcpy@@GLIBC_2.14": "memcpy", "_ZNK3srv3Req6handleEid": "handle", "_Z6handlei": "handle", "_Z99x": "", "_RNvCs1234_7mycrate3foo": "foo", "_RINvCs1234_7mycrate3foolE": "foo", "_R": "", "github.com/x/server.(*client).processPub": "processPub",
		"_ZN99999999999999999999x": "", "_ZN3a": "",
	} {
		if got := shortName(in); got != want {
			t.Errorf("shortName(%q) = %q, want %q", in, got, want)
		}
	}
	if got := comment("a\x1b[31m\nb" + strings.Repeat("é", 100)); strings.ContainsAny(got, "\x1b\n") || len(got) > 90 {
		t.Errorf("comment: %q", got)
	}
}

// For every function of the program the guard that is written compiles.
func TestNewCompiles(t *testing.T) {
	for name, f := range map[string]*binfile.File{
		"C":   program(t, "gcc", "-g", "-O1", "testdata/shapes.c"),
		"C++": program(t, "g++", "-g", "-O1", "testdata/shapes.cc"),
	} {
		info, err := debuginfo.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		syms, err := f.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		for _, s := range syms {
			params, err := info.Params(s.Value)
			if err != nil {
				continue
			}
			result, err := info.Result(s.Value)
			if err != nil {
				t.Fatal(err)
			}
			results := []debuginfo.Type{result}
			if result.Kind == debuginfo.Void {
				results = nil
			}
			guard, test, err := New(info, Function{Exe: "x", Func: s.Name, Vaddr: s.Value, Params: params, Results: results})
			if result.Kind == debuginfo.Other || result.Size > 8 {
				if err == nil {
					t.Errorf("%s returns %s and is not refused", s.Name, result.Name)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				continue
			}
			files := map[string][]byte{"guard.go": guard}
			src, err := source.ParseFiles(files)
			if err == nil {
				_, err = compile.Compile(src, files)
			}
			if err != nil || len(test) == 0 {
				t.Errorf("%s: %v\n%s", s.Name, err, guard)
			}
			written++
		}
		if written < 3 {
			t.Errorf("%s: %d guards", name, written)
		}
	}
}

// The version that tests are built as is that of this module.
func TestGoVersion(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil || !strings.Contains(string(mod), "\ngo "+Go+"\n") {
		t.Errorf("go.mod is not of go %s: %v", Go, err)
	}
}

// Whatever debug information calls things, Go comes out of it.
func FuzzNames(f *testing.F) {
	f.Add("list_node", "x\n//pie:id EVIL", "char *")
	f.Fuzz(func(t *testing.T, fn, param, typ string) {
		_, _, err := New(nil, Function{Exe: "x", Func: "f", ID: "X-1", Params: []debuginfo.Param{
			{Name: param, Type: debuginfo.Type{Name: typ, Kind: debuginfo.Pointer, Size: 8}},
			{Name: fn, Type: debuginfo.Type{Name: typ, Kind: debuginfo.Other, Size: 24}},
		}, Results: []debuginfo.Type{{Name: typ, Kind: debuginfo.Signed, Size: 4}}})
		if err != nil {
			t.Fatal(err)
		}
		if n := identifier(fn); n != "" && !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`).MatchString(n) {
			t.Errorf("identifier(%q) = %q", fn, n)
		}
	})
}

// FuzzMirrors mutates debug information inside a whole file: what comes out is
// Go, or an error.
func FuzzMirrors(f *testing.F) {
	out := filepath.Join(f.TempDir(), "out")
	if b, err := exec.Command("gcc", "-g", "-o", out, "testdata/shapes.c").CombinedOutput(); err != nil {
		f.Fatalf("gcc: %v (scripts/setup installs it)\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		f.Fatal(err)
	}
	file, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	at := vaddr(f, file, "use")
	info, err := file.DebugSection(".debug_info", 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	from := bytes.Index(b, info)
	f.Add(uint16(0), byte(0), uint16(9), byte(0xff))
	f.Fuzz(func(t *testing.T, where uint16, what byte, where2 uint16, what2 byte) {
		c := slices.Clone(b)
		c[from+int(where)%len(info)], c[from+int(where2)%len(info)] = what, what2
		file, err := binfile.Open(bytes.NewReader(c), int64(len(c)))
		if err != nil {
			return
		}
		info, err := debuginfo.Open(file)
		if err != nil {
			return
		}
		for _, wanted := range []string{"shapes", "node", "packed", "outer_t"} {
			if text, err := Mirrors(info, at, []string{wanted}); err == nil && len(text) > 1<<20 {
				t.Errorf("%d bytes of Go", len(text))
			}
		}
		params, err := info.Params(at)
		if err != nil {
			return
		}
		if _, _, err := New(info, Function{Exe: "x", Func: "use", ID: "X-1", Vaddr: at, Params: params}); err != nil {
			t.Errorf("parameters that were read make no guard: %v", err)
		}
	})
}

// Of a Go function the list ends where the words do that a guard sees, and an id is no
// longer than one may be.
func TestNewFits(t *testing.T) {
	word := debuginfo.Type{Name: "int", Kind: debuginfo.Signed, Size: 8}
	text := debuginfo.Type{Name: "string", Struct: "string", Size: 16}
	var params []debuginfo.Param
	for _, p := range []debuginfo.Type{text, text, text, text, word, word} {
		params = append(params, debuginfo.Param{Name: "p", Type: p})
	}
	guard, _, err := New(nil, Function{Exe: "x", Func: "main." + strings.Repeat("long", 20), Go: true, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"arg3 libpie.GoString, arg4 int64) libpie.Verdict", "// arg5 and what is behind it are not in the nine words"} {
		if !strings.Contains(string(guard), strings.ReplaceAll(want, "arg5", "p")) {
			t.Errorf("no %q in\n%s", want, guard)
		}
	}
	if _, err := source.ParseFiles(map[string][]byte{"guard.go": guard}); err != nil {
		t.Error(err)
	}
}
