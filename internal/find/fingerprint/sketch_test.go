package fingerprint

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestVersionNumbersInTexts(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"nginx/1.22.1", []string{"1.22.1"}},
		{"libcurl 7.88.1, with zlib 1.2.13", []string{"7.88.1", "1.2.13"}},
		{"this is version 5.1 of it", []string{"5.1"}},
		{"%5.2f", nil}, // a format
		{"0.5", nil},   // a number, or a table's bytes
		{"10", nil},    // no dot
		{"1.", nil},    // cut off
		{"a1.2.3.", []string{"1.2.3"}},
	} {
		var want []uint64
		for _, v := range c.want {
			want = append(want, hashBytes([]byte(v)))
		}
		if got := appendVersions(nil, []byte(c.text), isMessage([]byte(c.text))); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", c.text, got, c.want)
		}
	}
}

func TestSketchEstimatesWhatTextsHaveInCommon(t *testing.T) {
	words := func(from, to int) *Sketch {
		l := lowest{limit: 1 << hashBits}
		for i := from; i < to; i++ {
			l.add(mix(uint64(i)) & (1<<hashBits - 1))
		}
		l.settle()
		return &Sketch{Words: l.all}
	}
	for _, c := range []struct {
		a, b *Sketch
		want float64
	}{
		{words(0, 10000), words(0, 10000), 1},
		{words(0, 10000), words(1000, 10000), .9},
		{words(0, 100), words(50, 100), .5},
		{words(0, 10000), words(10000, 20000), 0},
		{words(0, sketchLeast-1), words(0, sketchLeast-1), 0}, // too few to tell
		{&Sketch{}, words(0, 100), 0},
	} {
		if got := c.a.common(c.b); got < c.want-.05 || got > c.want+.05 {
			t.Errorf("got %.3f, want %.2f", got, c.want)
		}
	}
}

// One source by other options is one source; one that says something else, or
// exports something else, is not.
func TestSameSource(t *testing.T) {
	var texts bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&texts, "puts(\"message number %d of this program, which says many things\");\n", i)
	}
	sketch := func(source string, flags ...string) *Sketch {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "say.c"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "say.so")
		run(t, "gcc", append(flags, "-shared", "-fPIC", "-s", "-o", out, filepath.Join(dir, "say.c"))...)
		m, err := Analyze(openFile(t, out))
		if err != nil {
			t.Fatal(err)
		}
		return m.sketch()
	}
	source := "#include <stdio.h>\nvoid say(void) { puts(\"say 1.2.3\");" + texts.String() + "}\n"
	first := sketch(source, "-O2")
	for _, c := range []struct {
		name, source, level string
		same                bool
	}{
		{"other options", source, "-Os", true},
		{"other version number", string(bytes.Replace([]byte(source), []byte("1.2.3"), []byte("1.2.4"), 1)), "-O2", false},
		{"exports more", source + "int more(int a) { return a * 3 + 1; }\n", "-O2", false},
		{"other texts", string(bytes.ReplaceAll([]byte(source), []byte("number"), []byte("no."))), "-O2", false},
		{"a compiler's version", string(bytes.Replace([]byte(source), []byte("1.2.3\""), []byte("1.2.3\"); puts(\"built by gcc 12.2.0\""), 1)), "-O2", true},
	} {
		if got := first.sameSource(sketch(c.source, c.level)); got != c.same {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// Compilers of two makers leave a little less in common; without a version number or
// exports that is not enough to tell one source.
func TestForeignSource(t *testing.T) {
	words := func(from, to int) []uint64 {
		l := lowest{limit: 1 << hashBits}
		for i := from; i < to; i++ {
			l.add(mix(uint64(i)) & (1<<hashBits - 1))
		}
		l.settle()
		return l.all
	}
	all := words(0, 400)
	for _, c := range []struct {
		name string
		a, b Sketch
		want bool
	}{
		{"a few texts cut otherwise", Sketch{Words: all, Versions: 1}, Sketch{Words: words(20, 400), Versions: 1}, true},
		{"exports only", Sketch{Words: all, Exports: 1}, Sketch{Words: words(20, 400), Exports: 1}, true},
		{"another version number", Sketch{Words: all, Versions: 1}, Sketch{Words: all, Versions: 2}, false},
		{"exports more", Sketch{Words: all, Exports: 1}, Sketch{Words: all, Exports: 2}, false},
		{"neither number nor exports", Sketch{Words: all}, Sketch{Words: all}, false},
		{"many other texts", Sketch{Words: all, Versions: 1}, Sketch{Words: words(100, 500), Versions: 1}, false},
		{"says nothing", Sketch{Versions: 1}, Sketch{Versions: 1}, false},
	} {
		if got := c.a.foreignSource(&c.b); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}
