package locate

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// images starts a program and opens its images.
func images(t *testing.T, cmd *exec.Cmd) (process, *Set) {
	t.Helper()
	p := start(t, cmd)
	set, err := Images(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return p, set
}

func TestCopies(t *testing.T) {
	p, set := images(t, exec.Command(gcc(t, "copies", "-O1", "testdata/copies.c", "testdata/twin.c")))
	f := findOne(t, set, Query{Func: "work"})
	has := func(list []string, want ...string) bool {
		return len(list) == len(want) && !slices.ContainsFunc(want, func(w string) bool {
			return !slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, w+" at ") })
		})
	}
	if !has(f.Copies, "work.isra.0", "work.part.0") || !has(f.Parts, "work.cold") {
		t.Errorf("copies %q parts %q", f.Copies, f.Parts)
	}
	if f := findOne(t, set, Query{Func: "linked"}); f.Name != "linked.lto_priv.0" {
		t.Errorf("a function that LTO renamed is found as %s", f.Name)
	}
	_, err := set.Find(Query{Func: "gone"})
	var none *NotFound
	if !errors.As(err, &none) || !slices.Equal(none.Near, []string{"gone.constprop.1"}) {
		t.Errorf("a function of which only a clone is left: %v, want *NotFound that names the clone", err)
	}
	_, err = set.Find(Query{Func: "twin"})
	var several *Ambiguous
	if !errors.As(err, &several) || len(several.Candidates) != 2 {
		t.Fatalf("two static functions of one name: %v, want *Ambiguous", err)
	}
	if f := findOne(t, set, Query{Func: "copies.c:twin"}); f.Entry != p.addrs["twin"] {
		t.Errorf("copies.c:twin at %v, want %v", f.Entry, p.addrs["twin"])
	}
	if f := findOne(t, set, Query{Func: "twin.c:twin"}); f.Entry == p.addrs["twin"] {
		t.Error("twin.c:twin is that of copies.c")
	}
}

// TestRenamed finds functions by the names of the source where the linker's optimisation
// has given their code others.
func TestRenamed(t *testing.T) {
	p, set := images(t, exec.Command(gcc(t, "renamed", "-O1", "testdata/copies.c", "testdata/twin.c")))
	for _, name := range []string{"tabled", "second"} {
		if f := findOne(t, set, Query{Func: name}); f.Entry != p.addrs[name] || f.Size == 16 || !slices.Contains(f.Aliases, name+".cfi") {
			t.Errorf("the entry %s of a jump table is found at %v, %d bytes, also named %q, instead of its code at %v: %s", name, f.Entry, f.Size, f.Aliases, p.addrs[name], f.How)
		}
	}
	for name, symbol := range map[string]string{
		"untabled": "untabled.cfi", "thin": "thin.llvm.1234567890123", "thincfi": "thincfi.5ce7abedf230ae4894031067e31b5fed.cfi",
	} {
		if f := findOne(t, set, Query{Func: name}); f.Name != symbol || len(f.Copies) > 0 {
			t.Errorf("%s, which was renamed %s, is found as %s with the copies %q", name, symbol, f.Name, f.Copies)
		}
	}
}

func TestSourceName(t *testing.T) {
	for symbol, want := range map[string]string{
		"f": "f", "f.cfi": "f", "f.llvm.12": "f", "f.llvm.12.cfi": "f", "f.lto_priv.0": "f", "_ZN1a1bEv.llvm.7": "_ZN1a1bEv",
		"f.5ce7abedf230ae4894031067e31b5fed": "f", "f.isra.0": "f.isra.0", "f.llvm.": "f.llvm.", "main.run": "main.run", ".cfi": "", "f.isra.0.cfi": "f.isra.0",
	} {
		if got := sourceName(symbol); got != want {
			t.Errorf("%s is %s in the source, want %s", symbol, got, want)
		}
	}
}

func TestNear(t *testing.T) {
	_, set := images(t, exec.Command(gcc(t, "victim", "testdata/victim.c")))
	for wanted, near := range map[string]string{"hiden": "hidden", "show": "shown", "Hidden": "hidden"} {
		_, err := set.Find(Query{Exe: "victim", Func: wanted})
		var none *NotFound
		if !errors.As(err, &none) || !slices.Contains(none.Near, near) || len(none.Near) > nearMax {
			t.Errorf("%s: %v, want %s suggested", wanted, err, near)
		}
	}
	var none *NotFound
	_, err := set.Find(Query{Exe: "victim", Func: "strdup"})
	if !errors.As(err, &none) || !slices.Equal(none.Libraries, []string{"libc.so.6"}) {
		t.Errorf("%v, want libc.so.6 named as the library that has strdup", err)
	}
	_, err = set.Find(Query{Exe: "victim", Func: "hiden"})
	if !errors.As(err, &none) || len(none.Libraries) > 0 {
		t.Errorf("%v, want no library", err)
	}
	_, err = set.Find(Query{Lib: "libz.so.9", Func: "inflate"})
	var lib *NoLibrary
	if !errors.As(err, &lib) || !slices.Contains(lib.Mapped, "libc.so.6") {
		t.Errorf("%v, want *NoLibrary that lists libc.so.6", err)
	}
	if _, err := set.Find(Query{Exe: "redis-server", Func: "shown"}); !errors.Is(err, ErrOtherExe) {
		t.Errorf("%v, want ErrOtherExe", err)
	}
}

func TestVersionsAndNamespaces(t *testing.T) {
	lib := gcc(t, "libanswers.so.1", "-O1", "-shared", "-fPIC", "-Wl,-soname,libanswers.so.1",
		"-Wl,--version-script=testdata/answers.map", "testdata/answers.c")
	loader := gcc(t, "loader", "testdata/loader.c")
	p, set := images(t, exec.Command(loader, lib))
	const so = "libanswers.so.1"
	f := findOne(t, set, Query{Lib: so, Func: "answer"})
	if f.Entry != p.addrs["answer"] || len(f.Copies) != 1 || !strings.Contains(f.Copies[0], "answer@V1") {
		t.Errorf("answer at %v, want %v; copies %q, want the older version", f.Entry, p.addrs["answer"], f.Copies)
	}
	inMemory(t, p, f)
	if f := findOne(t, set, Query{Lib: so, Func: "answer@V1"}); f.Entry != p.addrs["old_answer"] {
		t.Errorf("answer@V1 at %v, want %v", f.Entry, p.addrs["old_answer"])
	}
	if _, err := set.Find(Query{Lib: so, Func: "answer@V3"}); err == nil {
		t.Error("a version that does not exist is found")
	}
	var indirect *Indirect
	if _, err := set.Find(Query{Lib: so, Func: "chosen"}); !errors.As(err, &indirect) {
		t.Errorf("an IFUNC nobody has bound: %v, want *Indirect", err)
	}

	p, set = images(t, exec.Command(loader, lib, "twice"))
	found, err := set.Find(Query{Lib: so, Func: "answer"})
	if err != nil || len(found) != 2 {
		t.Fatalf("a library loaded twice: %d functions, %v; want both", len(found), err)
	}
	for _, name := range []string{"answer", "second_answer"} {
		if !slices.ContainsFunc(found, func(f Function) bool { return f.Entry == p.addrs[name] }) {
			t.Errorf("%s at %v is not among %v and %v", name, p.addrs[name], found[0].Entry, found[1].Entry)
		}
	}
}

func TestCPlusPlusNames(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "names")
	if b, err := exec.Command("g++", "-O1", "-o", exe, "testdata/names.cc").CombinedOutput(); err != nil {
		t.Fatalf("g++: %v (is g++ installed? scripts/setup installs it)\n%s", err, b)
	}
	p, set := images(t, exec.Command(exe))
	for _, name := range []string{"shop::Cart::clear", "shop::Cart::clear()", "_ZN4shop4Cart5clearEv"} {
		if f := findOne(t, set, Query{Func: name}); f.Entry != p.addrs["clear"] {
			t.Errorf("%s at %v, want %v", name, f.Entry, p.addrs["clear"])
		}
	}
	if f := findOne(t, set, Query{Func: "shop::Cart::add(double)"}); !strings.Contains(f.How, "_ZN4shop4Cart3addEd") {
		t.Errorf("add(double) is found as %s", f.How)
	}
	if f := findOne(t, set, Query{Func: "shop::twice"}); !strings.Contains(f.How, "5twiceIiE") {
		t.Errorf("twice is found as %s", f.How)
	}
	var several *Ambiguous
	if _, err := set.Find(Query{Func: "shop::Cart::add"}); !errors.As(err, &several) || len(several.Candidates) != 2 {
		t.Errorf("an overloaded method: %v, want *Ambiguous", err)
	}
	if f := findOne(t, set, Query{Func: "shop::Cart::add(int, const std::string&)"}); !strings.Contains(f.How, "_ZN4shop4Cart3addEi") {
		t.Errorf("add(int, const std::string&) is found as %s", f.How)
	}
	var none *NotFound
	if _, err := set.Find(Query{Func: "shop::Crate::add"}); !errors.As(err, &none) || !slices.Contains(none.Near, "shop::Cart::add(double)") {
		t.Errorf("a method of another class: %v, want those of its name", err)
	}
	for wanted, near := range map[string]string{
		"cleer": "shop::Cart::clear()", "shop::Cart::cleer": "shop::Cart::clear()", "twise": "int shop::twice<int>(int)", "twice": "int shop::twice<int>(int)",
	} {
		if _, err := set.Find(Query{Func: wanted}); !errors.As(err, &none) || !slices.Contains(none.Near, near) {
			t.Errorf("%s: %v, want %s suggested", wanted, err, near)
		}
	}
}

func TestMangledIdentifier(t *testing.T) {
	for name, want := range map[string]string{
		"_Z11mysql_parseP3THDPcjP12Parser_state":          "mysql_parse",
		"_ZN4AnyP3Uri5parseERK17HttpRequestMethodRK4SBuf": "parse",
		"_ZNK4shop4Cart5totalEv":                          "total",
		"_ZL5localv":                                      "local",
		"_ZN5hyper5proto6decode17h0123456789abcdefE":      "decode",
		"_ZN4shop5twiceIiEET_S1_":                         "twice",
		"_Znwm":                                           "",
		"_Z99short":                                       "",
		"_ZN99999999999999999999x":                        "",
		"_Z":                                              "",
		"main":                                            "",
	} {
		if got := mangledIdentifier(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// findOne finds what must be there exactly once.
func findOne(t *testing.T, set *Set, q Query) Function {
	t.Helper()
	found, err := set.Find(q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	if len(found) != 1 {
		t.Fatalf("%+v: %d functions", q, len(found))
	}
	return found[0]
}

func TestParseName(t *testing.T) {
	for s, want := range map[string]name{
		"strdup":                     {base: "strdup"},
		"strdup@GLIBC_2.2.5":         {base: "strdup", version: "GLIBC_2.2.5"},
		"memcpy@@GLIBC_2.14":         {base: "memcpy", version: "GLIBC_2.14"},
		"http.c:parse":               {source: "http.c", base: "parse"},
		"a::b":                       {base: "a::b"},
		"shop::Cart::add(int)":       {base: "shop::Cart::add(int)"},
		"server.(*client).process":   {base: "server.(*client).process"},
		"x.y/server.(*client).run":   {base: "x.y/server.(*client).run"},
		"operator new(unsigned int)": {base: "operator new(unsigned int)"},
		"":                           {},
		"@x":                         {base: "@x"},
		":x":                         {base: ":x"},
		"x:":                         {base: "x:"},
	} {
		want.whole = s
		if got := parseName(s); got != want {
			t.Errorf("%q: %+v, want %+v", s, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		limit int
		want  int
	}{
		{"", "", 3, 0}, {"abc", "abc", 3, 0}, {"abc", "abd", 3, 1}, {"abc", "ab", 3, 1},
		{"kitten", "sitting", 5, 3}, {"kitten", "sitting", 2, 3}, {"a", "abcdefgh", 3, 4},
	} {
		if got := distance(c.a, c.b, c.limit); got != c.want {
			t.Errorf("distance(%q, %q, %d) = %d, want %d", c.a, c.b, c.limit, got, c.want)
		}
		if got := distance(c.b, c.a, c.limit); got != c.want {
			t.Errorf("distance(%q, %q, %d) = %d, want %d", c.b, c.a, c.limit, got, c.want)
		}
	}
}
