package debuginfo

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
)

func gcc(t testing.TB, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	b, err := exec.Command("gcc", append([]string{"-o", out, "testdata/types.c"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v (is gcc installed? scripts/setup installs it)\n%s", err, b)
	}
	if b, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b []byte) *binfile.File {
	t.Helper()
	f, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
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
	i := slices.IndexFunc(syms, func(s binfile.Symbol) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no symbol %s", name)
	}
	return syms[i].Value
}

var builds = map[string][]string{
	"dwarf 5":    {"-O2", "-gdwarf-5"},
	"dwarf 4":    {"-O2", "-gdwarf-4"},
	"compressed": {"-O2", "-g", "-gz=zlib"},
	"O0":         {"-O0", "-g"},
}

func TestParams(t *testing.T) {
	for name, flags := range builds {
		t.Run(name, func(t *testing.T) {
			f := open(t, gcc(t, flags...))
			got, err := Params(f, vaddr(t, f, "parameters"))
			if err != nil {
				t.Fatal(err)
			}
			forget(got)
			want := []Param{
				{Name: "node", Type: Type{Name: "struct list_node *", Kind: Pointer, Size: 8, Points: "list_node"}},
				{Name: "text", Type: Type{Name: "char *", Kind: Pointer, Size: 8}},
				{Name: "small", Type: Type{Name: "unsigned char", Kind: Unsigned, Size: 1}},
				{Name: "c", Type: Type{Name: "color", Kind: Unsigned, Size: 4}},
				{Name: "ratio", Type: Type{Name: "double", Kind: Float, Size: 8}},
				{Name: "count", Type: Type{Name: "long int", Kind: Signed, Size: 8}},
				{Name: "any", Type: Type{Name: "void *", Kind: Pointer, Size: 8}},
				{Name: "by_value", Type: Type{Name: "anonymous_t", Kind: Other, Size: 16}},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
			got, err = Params(f, vaddr(t, f, "split"))
			forget(got)
			want = []Param{{Name: "text", Type: Type{Name: "char *", Kind: Pointer, Size: 8}}, {Name: "strict", Type: Type{Name: "_Bool", Kind: Unsigned, Size: 1, Bool: true}}, {Name: "limit", Type: Type{Name: "short int", Kind: Signed, Size: 2}}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("a function in two parts: %+v, %v\nwant %+v", got, err, want)
			}
			if got, err := Params(f, vaddr(t, f, "nothing")); err != nil || len(got) != 0 {
				t.Errorf("parameters of nothing(void): %v, %v", got, err)
			}
			if _, err := Params(f, vaddr(t, f, "_start")); !errors.Is(err, ErrNone) {
				t.Errorf("parameters of _start: %v, want ErrNone", err)
			}
		})
	}
	f := open(t, gcc(t, "-O2"))
	if _, err := Params(f, vaddr(t, f, "parameters")); !errors.Is(err, ErrNone) {
		t.Errorf("without -g: %v, want ErrNone", err)
	}
}

// forget drops where parameters stand, which no other package sees.
func forget(params []Param) {
	for k := range params {
		params[k].at = 0
	}
}

// A parameter that the compiler left out is told, so that nobody takes the next
// register for it; where it was kept it is there.
func TestAbsent(t *testing.T) {
	for _, flags := range [][]string{{"-O2", "-g"}, {"-O0", "-g"}} {
		f := open(t, gcc(t, flags...))
		syms, err := f.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(syms, func(s binfile.Symbol) bool { return strings.HasPrefix(s.Name, "trimmed") })
		params, err := Params(f, syms[at].Value)
		if err != nil || len(params) != 2 {
			t.Fatalf("%v: %+v, %v", flags, params, err)
		}
		if left := strings.Contains(syms[at].Name, "."); params[0].Absent != left || params[1].Absent != left {
			t.Errorf("%v: %s has %+v", flags, syms[at].Name, params)
		}
	}
}

func TestResult(t *testing.T) {
	for name, flags := range builds {
		t.Run(name, func(t *testing.T) {
			f := open(t, gcc(t, flags...))
			i, err := Open(f)
			if err != nil {
				t.Fatal(err)
			}
			for fn, want := range map[string]Type{
				"parameters": {Name: "long int", Kind: Signed, Size: 8},
				"nothing":    {Name: "int", Kind: Signed, Size: 4},
				"quiet":      {Name: "void", Kind: Void},
				"half":       {Name: "double", Kind: Float, Size: 8},
			} {
				if got, err := i.Result(vaddr(t, f, fn)); err != nil || got != want {
					t.Errorf("%s returns %+v, %v; want %+v", fn, got, err, want)
				}
			}
		})
	}
}

func TestCheckMirror(t *testing.T) {
	right := compile.Mirror{Name: "list_node", Size: 48, Fields: []compile.Field{
		{Name: "next", Offset: 0, Size: 8}, {Name: "port", Offset: 8, Size: 2}, {Name: "name", Offset: 10, Size: 15},
		{Name: "_", Offset: 25, Size: 7}, {Name: "weight", Offset: 32, Size: 8}, {Name: "last", Offset: 40, Size: 1},
	}}
	with := func(change func(*compile.Mirror)) compile.Mirror {
		m := right
		m.Fields = slices.Clone(right.Fields)
		change(&m)
		return m
	}
	for name, flags := range builds {
		t.Run(name, func(t *testing.T) {
			f := open(t, gcc(t, flags...))
			at := vaddr(t, f, "parameters")
			for _, c := range []struct {
				name   string
				mirror compile.Mirror
				wrong  string // in the *Mismatch; "" for right
			}{
				{"all fields", right, ""},
				{"names as Go writes them", with(func(m *compile.Mirror) { m.Name = "ListNode"; m.Fields[1].Name = "Port" }), ""},
				{"only the start", with(func(m *compile.Mirror) { m.Size = 16; m.Fields = m.Fields[:2] }), ""},
				{"anonymous struct", compile.Mirror{Name: "anonymous_t", Size: 16, Fields: []compile.Field{{Name: "first", Offset: 0, Size: 4}, {Name: "inner", Offset: 8, Size: 8}}}, ""},
				{"offset", with(func(m *compile.Mirror) { m.Fields[1].Offset = 12 }), "field port: at offset 12, in the program at 8"},
				{"size", with(func(m *compile.Mirror) { m.Fields[1].Size = 4 }), "field port: of 4 bytes, in the program of 2"},
				{"name", with(func(m *compile.Mirror) { m.Fields[1].Name = "prot" }), "field prot: the program's struct has no such"},
				{"bit-field", with(func(m *compile.Mirror) { m.Fields[3] = compile.Field{Name: "flag_a", Offset: 28, Size: 4} }), "field flag_a"},
				{"too large", with(func(m *compile.Mirror) { m.Size = 56 }), "the mirror has 56 bytes, the program's struct 48"},
			} {
				err := CheckMirror(f, at, c.mirror)
				var mismatch *Mismatch
				if c.wrong == "" && err != nil || c.wrong != "" && (!errors.As(err, &mismatch) || !strings.Contains(err.Error(), c.wrong)) {
					t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
				}
			}
			for _, name := range []string{"nosuch", "hidden"} {
				if err := CheckMirror(f, at, compile.Mirror{Name: name}); !errors.Is(err, ErrUnknownType) {
					t.Errorf("%s: %v, want ErrUnknownType", name, err)
				}
			}
		})
	}
}

func TestInlined(t *testing.T) {
	f := open(t, gcc(t, "-O2", "-g"))
	i, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	got, err := i.Inlined(vaddr(t, f, "inlined"))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v; want two places", got, err)
	}
	var in []string
	for _, c := range got {
		in = append(in, c.In)
		if !f.IsCode(c.At) {
			t.Errorf("%s: %v is not code", c.In, c.At)
		}
	}
	slices.Sort(in)
	if !slices.Equal(in, []string{"main", "parameters"}) {
		t.Errorf("inlined in %v", in)
	}
	if got, err := i.Inlined(vaddr(t, f, "nothing")); err != nil || len(got) != 0 {
		t.Errorf("a function that was not inlined: %v, %v", got, err)
	}
}

// ask puts every question; only time, memory and panics matter.
func ask(b []byte, at address.Vaddr) {
	f, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	if fn, err := At(f, at); err == nil {
		_, _ = fn.Params()
		_, _ = fn.Inlined()
		_ = fn.CheckMirror(compile.Mirror{Name: "list_node", Size: 8})
	}
	i, err := Open(f)
	if err != nil {
		return
	}
	_, _ = i.Params(at)
	_, _ = i.Inlined(at)
	_, _ = i.Result(at)
	for _, name := range []string{"list_node", "anonymous_t"} {
		if l, err := i.Layout(name, at); err == nil {
			_, _ = i.Flat(l)
		}
		if l, err := i.Layout(name, 0); err == nil {
			_, _ = i.Flat(l)
		}
	}
	_ = i.CheckMirror(at, compile.Mirror{Name: "list_node", Size: 8, Fields: []compile.Field{{Name: "name", Offset: 10, Size: 15}}})
	_ = i.CheckMirror(at, compile.Mirror{Name: "nosuch"})
}

// Damaged DWARF is read or refused. Bytes are changed where DWARF is.
func TestDamaged(t *testing.T) {
	b := gcc(t, "-O2", "-g")
	f := open(t, b)
	at := vaddr(t, f, "parameters")
	info, err := f.DebugSection(".debug_info", maxSection)
	if err != nil {
		t.Fatal(err)
	}
	abbrev, err := f.DebugSection(".debug_abbrev", maxSection)
	if err != nil {
		t.Fatal(err)
	}
	step := 5
	if os.Getenv("PIE_LONG_TESTS") != "" {
		step = 1
	}
	for _, part := range [][]byte{info, abbrev} {
		from := bytes.Index(b, part)
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			for k := from; k < from+len(part); k += step {
				c := slices.Clone(b)
				c[k] = v
				ask(c, at)
			}
		}
	}
}

// FuzzInfo mutates .debug_info and .debug_abbrev inside a whole file.
func FuzzInfo(f *testing.F) {
	b := gcc(f, "-O2", "-g")
	file := open(f, b)
	at := vaddr(f, file, "parameters")
	info, err := file.DebugSection(".debug_info", maxSection)
	if err != nil {
		f.Fatal(err)
	}
	abbrev, err := file.DebugSection(".debug_abbrev", maxSection)
	if err != nil {
		f.Fatal(err)
	}
	infoAt, abbrevAt := bytes.Index(b, info), bytes.Index(b, abbrev)
	f.Add(info, abbrev)
	f.Fuzz(func(_ *testing.T, i, a []byte) {
		c := slices.Clone(b)
		copy(c[infoAt:infoAt+len(info)], i)
		copy(c[abbrevAt:abbrevAt+len(abbrev)], a)
		ask(c, at)
	})
}

// TestAssembler: an assembler describes its functions with a type that says
// nothing. That is no description, and not a result that cannot be made up.
func TestAssembler(t *testing.T) {
	f := open(t, gcc(t, "testdata/assembler.s", "-g"))
	at := vaddr(t, f, "by_hand")
	if got, err := Params(f, at); !errors.Is(err, ErrNone) {
		t.Errorf("parameters of a function in assembler: %v, %v", got, err)
	}
	i, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := i.Result(at); !errors.Is(err, ErrNone) {
		t.Errorf("its result: %+v, %v", got, err)
	}
}

// Sections are bounded together: compressed ones cost an enemy little.
func TestAllSectionsAreBounded(t *testing.T) {
	for _, build := range []string{"dwarf 5", "compressed"} {
		f := open(t, gcc(t, builds[build]...))
		info, err := f.DebugSection(".debug_info", maxSection)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openWithin(f, uint64(len(info))); err == nil {
			t.Errorf("%s: more was read than .debug_info alone has", build)
		}
		if _, err := openWithin(f, 1<<20); err != nil {
			t.Errorf("%s: %v", build, err)
		}
	}
}
