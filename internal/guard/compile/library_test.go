package compile

import (
	"go/types"
	"testing"
)

// Every function of libpie is an instruction to the compiler, or for tests alone.
func TestLibraryIsKnown(t *testing.T) {
	forTests := map[string]bool{"NewCall": true, "Verdict.Outcome": true, "TableSize": true}
	lib, err := library()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	check := func(f *types.Func, name string) {
		if !f.Exported() {
			return
		}
		seen[name] = true
		if known := intrinsics[name] != nil; known == forTests[name] {
			t.Errorf("%s: known to the compiler: %v, for tests alone: %v", name, known, forTests[name])
		}
	}
	for _, name := range lib.Scope().Names() {
		switch obj := lib.Scope().Lookup(name).(type) {
		case *types.Func:
			check(obj, name)
		case *types.TypeName:
			named, ok := obj.Type().(*types.Named)
			if !ok || types.IsInterface(named) {
				continue
			}
			for m := range named.Methods() {
				check(m, name+"."+m.Name())
			}
		}
	}
	for name := range intrinsics {
		if !seen[name] {
			t.Errorf("%s is no function of libpie", name)
		}
	}
}

// What the compiler lays out is what the go compiler does.
func TestSizesAgreeWithGo(t *testing.T) {
	m, errs := load(corpusFiles(t))
	if errs != nil {
		t.Fatal(join(errs))
	}
	for _, name := range m.pkg.Scope().Names() {
		obj, ok := m.pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok || parameterized(obj.Type()) {
			continue
		}
		if got, want := m.sizes.Sizeof(obj.Type()), gc.Sizeof(obj.Type()); got != want {
			t.Errorf("%s has %d bytes, want %d", name, got, want)
		}
		if st, ok := obj.Type().Underlying().(*types.Struct); ok {
			got, want := m.sizes.Offsetsof(structFields(st)), gc.Offsetsof(structFields(st))
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s, field %d: at %d, want %d", name, i, got[i], want[i])
				}
			}
		}
	}
}
