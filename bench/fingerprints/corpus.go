package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pair is a set of questions: the functions of refs, looked for in bin.
type pair struct {
	from string // part of the corpus
	set  string
	refs []string
	bin  string
}

// parts are what corpus.sh fetches and builds.
var parts = []string{"release", "held", "fresh", "exam", "second", "source", "held-source", "fresh-source", "last-source"}

// key names the pair, wherever the corpus is.
func (p pair) key() string {
	k := p.from + " " + p.set + " " + label(p.bin)
	for _, r := range p.refs {
		k += " " + label(r)
	}
	return k
}

// label is the directory and the name of a file.
func label(path string) string { return filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path) }

// corpus lists the pairs of what corpus.sh fetched and built.
func corpus(dir string) ([]pair, error) {
	var out []pair
	for _, from := range parts {
		names, err := filepath.Glob(filepath.Join(dir, from, "*"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			pairs := releases
			if strings.HasSuffix(from, "source") {
				pairs = compiled
			}
			for _, p := range pairs(name) {
				p.from = from
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// compiled pairs the builds of one source.
func compiled(dir string) []pair {
	var out []pair
	for _, kind := range compilations {
		p := pair{set: kind.set, bin: filepath.Join(dir, kind.to)}
		for from := range strings.FieldsSeq(kind.from) {
			p.refs = append(p.refs, filepath.Join(dir, from))
		}
		if there(append(p.refs, p.bin)) {
			out = append(out, p)
		}
	}
	return out
}

// order is where a set stands in the table.
func order(key string) int {
	from, set, _ := strings.Cut(key, ": ")
	sets := []string{setPatch, setMinor, setRelease, setReleases}
	for _, c := range compilations {
		sets = append(sets, c.set)
	}
	n := slices.Index(sets, set)
	if n < 0 {
		n = len(sets)
	}
	return 100*slices.Index(parts, from) + n
}

// Sets of releases. What Debian's releases 11 to 14 (unstable) are built by is
// gcc 10, 12, 14 and 15.
const (
	setPatch    = "patch releases"
	setMinor    = "minor versions, same compiler"
	setRelease  = "next Debian release: other compiler, mostly other version"
	setReleases = "two Debian releases on"
	setSmall    = "small functions, all of these"
)

// fewest is the number of instructions from which on a function is not small.
const fewest = 20

var compilations = []struct{ set, from, to string }{
	{"gcc 12 to gcc 11, O2", "gcc12-O2", "gcc11-O2"},
	{"gcc 12 to gcc 13, O2", "gcc12-O2", "gcc13-O2"},
	{"gcc 12 to gcc 14, O2", "gcc12-O2", "gcc14-O2"},
	{"gcc 14 to gcc 11, O2", "gcc14-O2", "gcc11-O2"},
	{"clang 14 to clang 19, O2", "clang14-O2", "clang19-O2"},
	{"gcc O2 to O3", "gcc12-O2", "gcc12-O3"},
	{"gcc O2 to O1", "gcc12-O2", "gcc12-O1"},
	{"gcc O2 to Os", "gcc12-O2", "gcc12-Os"},
	{"gcc 12 to clang 14, O2", "gcc12-O2", "clang14-O2"},
	{"gcc O2 to O2 -flto", "gcc12-O2", "gcc12-O2-lto"},
	{"gcc O1+O2+O3+Os to gcc 11 O2", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os", "gcc11-O2"},
	{"gcc O1+O2+O3 to Os", "gcc12-O1 gcc12-O2 gcc12-O3", "gcc12-Os"},
	{"gcc O1+O2+O3+Os to clang 14 O2", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os", "clang14-O2"},
	{"gcc O1+O2+O3, clang 14 O2 to gcc Os", "gcc12-O1 gcc12-O2 gcc12-O3 clang14-O2", "gcc12-Os"},
	{"gcc O1+O2+O3, gcc 13 Os to gcc 12 Os", "gcc12-O1 gcc12-O2 gcc12-O3 gcc13-Os", "gcc12-Os"},
	{"gcc O1+O2+O3+Os, clang 14 O3+Os to clang 14 O2", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os clang14-O3 clang14-Os", "clang14-O2"},
	{"gcc O1+O2+O3+Os, clang 14 O2 to clang 19 O2", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os clang14-O2", "clang19-O2"},
}

// releases pairs the versions of one library: each with the next, both ways, and
// each Debian release with the one after the next.
func releases(dir string) []pair {
	files, err := filepath.Glob(filepath.Join(dir, "*~*"))
	if err != nil {
		return nil
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".part") })
	slices.SortFunc(files, compareVersions)
	var out []pair
	for i := 1; i < len(files); i++ {
		set := setOf(files[i-1], files[i])
		out = append(out, pair{set: set, refs: files[i-1 : i], bin: files[i]}, pair{set: set, refs: files[i : i+1], bin: files[i-1]})
	}
	for i := range files {
		for j := i + 2; j < len(files); j++ {
			if debian(files[j]) == debian(files[i])+2 && setOf(files[j-1], files[j]) == setRelease {
				out = append(out, pair{set: setReleases, refs: files[i : i+1], bin: files[j]})
				break
			}
		}
	}
	return out
}

func setOf(a, b string) string {
	switch {
	case debian(a) != debian(b):
		return setRelease
	case upstream(a) != upstream(b):
		return setMinor
	}
	return setPatch
}

// debian is the release in a file's name, 11 to 14.
func debian(path string) int {
	n, _, _ := strings.Cut(filepath.Base(path), "~")
	v, err := strconv.Atoi(n)
	if err != nil {
		return 0
	}
	return v
}

// upstream is the version without what Debian adds.
func upstream(path string) string {
	_, v, _ := strings.Cut(filepath.Base(path), "~")
	if i := strings.LastIndexByte(v, '-'); i > 0 {
		v = v[:i]
	}
	return v
}

// compareVersions compares file names with the numbers in them as numbers.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			n, m := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if len(n) != len(m) {
				return len(n) - len(m)
			}
			if c := strings.Compare(n, m); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

func there(files []string) bool {
	return !slices.ContainsFunc(files, func(f string) bool {
		_, err := os.Stat(f)
		return err != nil
	})
}
