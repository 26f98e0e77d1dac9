package detours

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is one that can be built in many ways, with work whose output is always
// the same. Paths are below the folder of sources; those with @ are in testdata.
type program struct {
	name    string
	sources []string // patterns
	without []string // of these, files that are no part of it
	flags   []string
	libs    []string
	cxx     bool
	work    []work
}

// work is one start of a program.
type work struct {
	args  []string
	stdin string
}

var programs = []program{
	{
		name: "bzip2", sources: []string{"bzip2/blocksort.c", "bzip2/huffman.c", "bzip2/crctable.c", "bzip2/randtable.c", "bzip2/compress.c", "bzip2/decompress.c", "bzip2/bzlib.c", "bzip2/bzip2.c"},
		work: []work{
			{args: []string{"-c", "-9"}, stdin: "bzip2/manual.ps"}, {args: []string{"-c", "-1", "-vvv"}, stdin: "bzip2/sample3.ref"},
			{args: []string{"-dc"}, stdin: "bzip2/sample1.bz2"}, {args: []string{"-dcs"}, stdin: "bzip2/sample2.bz2"},
			{args: []string{"-tvv"}, stdin: "bzip2/sample3.bz2"}, {args: []string{"-d"}, stdin: "bzip2/sample1.ref"}, {args: []string{"--help"}}, {args: []string{"/nonexistent"}},
		},
	},
	{
		name: "lua", sources: []string{"lua5.4/src/*.c"}, without: []string{"luac.c", "ltests.c"},
		flags: []string{"-DLUA_USE_POSIX", "-Dluai_makeseed(L)=0x5eed"}, libs: []string{"-lm"},
		work: []work{{args: []string{"@work.lua"}}, {args: []string{"-e", "print(1+1)", "-i"}, stdin: "bzip2/words0"}, {args: []string{"-v", "-x"}}},
	},
	{
		name: "crypto", sources: []string{"@crypto.c"}, libs: []string{"-lcrypto", "-lz", "-ldl", "-lpthread"},
		work: []work{{}},
	},
	{
		name: "tcc", sources: []string{"tcc/tcc.c"}, libs: []string{"-lm", "-ldl", "-lpthread"},
		flags: []string{"-DONE_SOURCE=1", "-DTCC_TARGET_X86_64", "-DCONFIG_TCC_STATIC", "-Itcc"},
		work: []work{
			{args: []string{"-c", "-g", "-DONE_SOURCE=1", "-DTCC_TARGET_X86_64", "-Itcc", "-Itcc/include", "-I/usr/include/x86_64-linux-gnu", "-o", "tcc.o", "tcc/tcc.c"}},
			{args: []string{"-E", "-Ibzip2", "-Itcc/include", "-I/usr/include/x86_64-linux-gnu", "bzip2/bzlib.c"}},
			{args: []string{"-c", "-b", "-Itcc/include", "-I/usr/include/x86_64-linux-gnu", "-o", "sort.o", "bzip2/blocksort.c"}},
			{args: []string{"-c", "-o", "x.o", "bzip2/words0"}}, {args: []string{"-vv", "-print-search-dirs"}},
		},
	},
	{
		name: "sqlite", sources: []string{"sqlite/sqlite3-binding.c", "@sqlite.c"}, libs: []string{"-lm", "-ldl", "-lpthread"},
		flags: []string{"-Isqlite", "-DSQLITE_ENABLE_FTS5", "-DSQLITE_ENABLE_RTREE", "-DSQLITE_ENABLE_UPDATE_DELETE_LIMIT=0"},
		work:  []work{{args: []string{"data"}, stdin: "@work.sql"}},
	},
	{
		name: "duktape", sources: []string{"duktape/src/duktape.c", "duktape/examples/cmdline/duk_cmdline.c", "duktape/extras/print-alert/duk_print_alert.c", "duktape/extras/console/duk_console.c"},
		flags: []string{"-Iduktape/src", "-Iduktape/examples/cmdline", "-Iduktape/extras/print-alert", "-DDUK_CMDLINE_PRINTALERT_SUPPORT"}, libs: []string{"-lm"},
		work: []work{{args: []string{"@work.js"}}},
	},
	{
		name: "jsoncpp", sources: []string{"libjsoncpp/src/lib_json/*.cpp", "libjsoncpp/src/test_lib_json/*.cpp"}, cxx: true,
		flags: []string{"-Ilibjsoncpp/include", "-std=c++17"},
		work:  []work{{}},
	},
}

// way is how a program is built.
type way struct{ compiler, flags string }

func (w way) String() string { return strings.TrimSpace(w.compiler + " " + w.flags) }

// Each level of each compiler, and what changes the entries of functions.
var ways = []way{
	{"gcc", "-O0"}, {"gcc", "-O1"}, {"gcc", "-O2"}, {"gcc", "-O3"}, {"gcc", "-Os"},
	{"gcc", "-O2 -fcf-protection=full"}, {"gcc", "-O0 -fcf-protection=full"}, {"gcc", "-O2 -pg"}, {"gcc", "-O2 -pg -mfentry"},
	{"gcc", "-O2 -fpatchable-function-entry=16,2"}, {"gcc", "-O1 -fpatchable-function-entry=3"},
	{"gcc", "-O2 -fno-omit-frame-pointer"}, {"gcc", "-O0 -fomit-frame-pointer"},
	{"gcc", "-O2 -static-pie -fPIE"}, {"gcc", "-O2 -fstack-protector-all -fstack-clash-protection"}, {"gcc", "-O3 -march=x86-64-v2 -funroll-loops"},
	{"clang", "-O0"}, {"clang", "-O1"}, {"clang", "-O2"}, {"clang", "-O3"}, {"clang", "-Os"}, {"clang", "-Oz"},
	{"clang", "-O2 -fcf-protection=full"}, {"clang", "-O2 -pg"}, {"clang", "-O2 -fpatchable-function-entry=16"},
	{"clang", "-O2 -fno-omit-frame-pointer"}, {"clang", "-O2 -static-pie -fPIE"}, {"clang", "-O1 -mno-red-zone -fstack-protector-all"},
}

// sources is the folder of all sources, fetched when it is not there yet.
func sources(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "pie-test")
	}
	cmd := exec.Command("../e2e/servers.sh", "sources")
	cmd.Env = append(os.Environ(), "PIE_TEST_CACHE="+cache)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("test/e2e/servers.sh sources: %v\n%s", err, out)
	}
	return filepath.Join(cache, "servers", "sources")
}

// place makes a path of the table a path of this machine.
func place(t testing.TB, root, path string) string {
	t.Helper()
	if ours, ok := strings.CutPrefix(path, "@"); ok {
		abs, err := filepath.Abs(filepath.Join("testdata", ours))
		if err != nil {
			t.Fatal(err)
		}
		return abs
	}
	return filepath.Join(root, path)
}

// build compiles a program statically, so that all of libc that it uses is in it.
// It lies at 1 GiB: there must be room below it for as many guards.
func (p program) build(t testing.TB, w way) string {
	t.Helper()
	root := sources(t)
	exe := filepath.Join(t.TempDir(), p.name)
	args := append([]string{"-w", "-o", exe}, strings.Fields(w.flags)...)
	if !strings.Contains(w.flags, "-static-pie") {
		args = append(args, "-static", "-no-pie", "-Wl,-Ttext-segment=0x40000000")
	}
	args = append(args, p.flags...)
	for _, pattern := range p.sources {
		files, err := filepath.Glob(place(t, root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources %s: %v", pattern, err)
		}
		for _, f := range files {
			if !slices.Contains(p.without, filepath.Base(f)) {
				args = append(args, f)
			}
		}
	}
	compiler := map[string]string{"gcc": "gcc", "clang": "clang-14"}[w.compiler]
	if p.cxx {
		compiler = map[string]string{"gcc": "g++", "clang": "clang++-14"}[w.compiler]
	}
	cmd := exec.Command(compiler, append(args, p.libs...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: scripts/setup installs what is missing\n%s", cmd.Args, err, out)
	}
	return exe
}

// result is all that a program's work left: what it printed, how it ended, and the
// files that it wrote.
type result []string

func (a result) differs(b result) string {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("start %d:\n%s", i, firstDifference(a[i], b[i]))
		}
	}
	return ""
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range as {
		if i >= len(bs) || as[i] != bs[i] {
			return fmt.Sprintf("line %d: %.300q\n  instead of %.300q", i+1, strings.Join(bs[min(i, len(bs)):min(i+3, len(bs))], "\n"), strings.Join(as[i:min(i+3, len(as))], "\n"))
		}
	}
	return "more lines"
}

// do does all the work of p with exe. each prepares a start and looks at it after.
func (p program) do(t testing.TB, exe string, prepare, after func(*run)) result {
	t.Helper()
	root := sources(t)
	var all result
	for _, w := range p.work {
		dir := filepath.Join(filepath.Dir(exe), "work") // one name each time: debug information holds it
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r := &run{dir: dir, argv: []string{exe}}
		for _, a := range w.args {
			r.argv = append(r.argv, argument(t, root, a))
		}
		if w.stdin != "" {
			r.stdin = place(t, root, w.stdin)
		}
		prepare(r)
		r.do(t)
		after(r)
		all = append(all, strings.ReplaceAll(string(r.output)+"\n"+r.ended+"\n"+filesIn(t, dir), dir, "DIR"))
		os.RemoveAll(dir)
	}
	return all
}

// argument puts the path of a source file in place.
func argument(t testing.TB, root, a string) string {
	t.Helper()
	if strings.HasPrefix(a, "@") || !strings.HasPrefix(a, "-") && fileExists(filepath.Join(root, a)) {
		return place(t, root, a)
	}
	if dir, ok := strings.CutPrefix(a, "-I"); ok && !filepath.IsAbs(dir) {
		return "-I" + place(t, root, dir)
	}
	return a
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// filesIn is every file in dir; what -pg writes counts time.
func filesIn(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "gmon.out" {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s: %q\n", d.Name(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
