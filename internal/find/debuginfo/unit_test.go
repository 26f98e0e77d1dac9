package debuginfo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
)

// What one unit says of a function is what the whole file says, for every function of
// programs built in different ways, where the file can be read by units and where not.
func TestOneUnitSaysWhatAllSay(t *testing.T) {
	for name, b := range map[string]struct {
		flags []string
		alone bool // units are read by themselves
	}{
		"dwarf 5":      {[]string{"-O2", "-gdwarf-5"}, true},
		"dwarf 4":      {[]string{"-O2", "-gdwarf-4"}, true},
		"dwarf 3":      {[]string{"-O2", "-gdwarf-3", "-gstrict-dwarf"}, true},
		"O0":           {[]string{"-O0", "-g"}, true},
		"compressed":   {[]string{"-O2", "-g", "-gz=zlib"}, false},
		"64-bit DWARF": {[]string{"-O2", "-g", "-gdwarf64"}, false},
		"type units":   {[]string{"-O2", "-gdwarf-5", "-fdebug-types-section"}, false},
		"lto":          {[]string{"-O2", "-g", "-flto"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, gcc(t, append(b.flags, "testdata/second.c")...))
			if n := compareUnits(t, f); n < 8 {
				t.Errorf("only %d functions were compared", n)
			}
			v := vaddr(t, f, "twice")
			if fn, err := At(f, v); err != nil || fn.alone != b.alone {
				t.Errorf("read by itself: %v, %v; want %v", fn.alone, err, b.alone)
			}
		})
	}
}

// The same of C++, whose methods refer to their declarations.
func TestOneUnitOfCPlusPlus(t *testing.T) {
	dir := t.TempDir()
	src, out := filepath.Join(dir, "m.cc"), filepath.Join(dir, "m")
	text := `
#include <string>
namespace shop {
struct Item { std::string name; double price; int count() const; long add(const Item &, unsigned short); };
int Item::count() const { return (int)name.size(); }
long Item::add(const Item &o, unsigned short n) { return o.count() * n + count(); }
}
int main(int n, char **v) { shop::Item a{v[0], 1}, b{v[0], 2}; return (int)a.add(b, (unsigned short)n) & 1; }
`
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("g++", "-O1", "-g", "-o", out, src).CombinedOutput(); err != nil {
		t.Fatalf("g++: %v (is it installed? scripts/setup installs it)\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if n := compareUnits(t, open(t, b)); n < 3 {
		t.Errorf("only %d functions were compared", n)
	}
}

// compareUnits compares all that is said of each function of f, and counts those of which
// anything is.
func compareUnits(t *testing.T, f *binfile.File) (described int) {
	t.Helper()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range syms {
		if !s.IsFunc() {
			continue
		}
		one, err1 := At(f, s.Value)
		i, err2 := Open(f)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		whole := &Function{i, f, s.Value, false}
		got, want := says(one), says(whole)
		if got != want {
			t.Errorf("%s: one unit says\n%s\nthe whole file\n%s", s.Name, got, want)
		}
		if _, err := whole.Result(); err == nil {
			described++
		}
	}
	return described
}

// says is all that is said of a function, and of structs that it and another unit have.
func says(fn *Function) string {
	params, err1 := fn.Params()
	forget(params)
	result, err2 := fn.Result()
	copies, err3 := fn.Inlined()
	out := fmt.Sprintf("%+v %v\n%+v %v\n%+v %v", params, err1, result, err2, copies, err3)
	for _, name := range []string{"list_node", "pair", "Item", "nosuch"} {
		out += fmt.Sprintf("\n%v", fn.CheckMirror(compile.Mirror{Name: name, Size: 1 << 20}))
	}
	return out
}

// Tables of an enemy: whatever they say, the answer is none or a unit, never a crash.
func FuzzUnit(f *testing.F) {
	file := open(f, gcc(f, "-O2", "-g", "testdata/second.c"))
	aranges, err := file.DebugSection(".debug_aranges", maxSection)
	if err != nil {
		f.Fatal(err)
	}
	abbrev, err := file.DebugSection(".debug_abbrev", maxSection)
	if err != nil {
		f.Fatal(err)
	}
	v := vaddr(f, file, "twice")
	off, ok := unitOf(aranges, v)
	if !ok {
		f.Fatal("twice is in no unit")
	}
	unit, err := readUnit(file, off)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(aranges, unit, abbrev, uint64(v))
	f.Fuzz(func(_ *testing.T, aranges, unit, abbrev []byte, v uint64) {
		_, _ = unitOf(aranges, address.Vaddr(v))
		_ = standsAlone(unit, abbrev)
	})
}
