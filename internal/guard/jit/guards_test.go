package jit

import (
	"encoding/binary"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	compiler "github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
	"github.com/patch-integration-engine/pie/prepatches"
)

// Guards that people wrote, as machine code and in the interpreter: those of CVEs, of the
// catalogue, and those that use every construct. Memory is made for them: structures that
// point to one another, and the words they look for.

// A written guard is one that a person wrote, compiled.
type written struct {
	name string
	p    *verify.Program
	abi  ABI
}

// writtenGuards compiles all of them.
func writtenGuards(t *testing.T) (all []written) {
	t.Helper()
	root := os.DirFS("..")
	for _, from := range []struct {
		files   fs.FS
		pattern string
	}{{root, "cves/testdata/*.go"}, {prepatches.Files, "*/*/guard.go"}} {
		names, err := fs.Glob(from.files, from.pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%d guards like %s: %v", len(names), from.pattern, err)
		}
		for _, name := range names {
			files := textsOf(t, from.files, name)
			p, err := source.ParseFiles(files)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, compiled(t, name, p, files)...)
		}
	}
	names, err := fs.Glob(root, "compile/internal/corpus/guards_*.go")
	if err != nil {
		t.Fatal(err)
	}
	files, whole := textsOf(t, root, names...), &source.Prepatch{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p, err := source.Parse(name, files[name])
		if err != nil {
			t.Fatal(err)
		}
		whole.Guards, whole.Caps = append(whole.Guards, p.Guards...), append(whole.Caps, p.Caps...)
	}
	return append(all, compiled(t, "corpus", whole, files)...)
}

func textsOf(t *testing.T, from fs.FS, names ...string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name[strings.LastIndexByte(name, '/')+1:]] = text
	}
	return files
}

func compiled(t *testing.T, name string, src *source.Prepatch, files map[string][]byte) (all []written) {
	t.Helper()
	c, err := compiler.Compile(src, files)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, g := range c.Guards {
		p, err := verify.Verify(g.Unit)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		abi := SysV
		if g.ABI == source.GoInternal {
			abi = GoInternal
		}
		all = append(all, written{name + " " + g.Name, p, abi})
	}
	return all
}

// furnished is memory as programs have it: words that point into it, small numbers,
// pieces of text, among them the guard's own constants.
func furnished(r *rand.Rand, rodata []byte) []byte {
	texts := []string{"GET /a/../b HTTP/1.1\r\n", "AAAA", "%n%s%x", "../", "\x00", "\xff\xff\xff\xff", "\xc0\x80\xe2\x82\xac", "a=b;c=d,", "\x02\x04\x30\x82", string(rodata)}
	b := make([]byte, dataLen)
	for i := 0; i < len(b); i += 8 {
		switch k := r.IntN(20); {
		case k < 7:
			binary.LittleEndian.PutUint64(b[i:], uint64(dataAt)+8*uint64(r.IntN(dataLen/8)))
		case k < 12:
			binary.LittleEndian.PutUint32(b[i:], uint32(r.IntN(40)))
			binary.LittleEndian.PutUint32(b[i+4:], uint32(oddNumber(r)))
		case k < 16:
			text := texts[r.IntN(len(texts))]
			for k := i; k < len(b) && k < i+8*(1+r.IntN(12)); k++ {
				if len(text) > 0 {
					b[k] = text[(k-i)%len(text)]
				}
			}
		case k < 18:
			binary.LittleEndian.PutUint64(b[i:], oddNumber(r))
		}
	}
	return b
}

// oddNumber is a number near a power of two, or any.
func oddNumber(r *rand.Rand) uint64 {
	if r.IntN(3) == 0 {
		return uint64(int64(r.Uint64()) >> r.IntN(64))
	}
	return uint64(1)<<r.IntN(64) + uint64(r.IntN(5)) - 2
}

// argue gives a call arguments as programs pass them.
func (x *trial) argue(r *rand.Rand) {
	for _, reg := range conventionOf(x.s.ABI).args {
		v := &x.in.GPR[reg]
		switch k := r.IntN(10); {
		case k < 5:
			*v = uint64(dataAt) + 8*uint64(r.IntN(dataLen/8))
		case k < 6:
			*v = uint64(dataAt) + uint64(r.IntN(dataLen))
		case k < 8:
			*v = uint64(r.IntN(100)) | r.Uint64()<<32*uint64(r.IntN(2))
		case k < 9:
			*v = oddNumber(r)
		}
	}
	if x.s.ABI == GoInternal {
		x.in.GPR[amd64.R14] = uint64(gAt)
	}
}

// TestWrittenGuards runs the guards that people wrote, and what verification accepts
// of changed forms of them.
func TestWrittenGuards(t *testing.T) {
	seed := *diffSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("first seed %d", seed)
	guards := slices.DeleteFunc(writtenGuards(t), func(w written) bool { return w.p.Unit().Caps&bpf.CapExit != 0 }) // the test process would end
	d := newDifferential(t, seed)
	d.m.mapAt(farStateAt, bpf.MaxState+0x1000, protRead|protWrite, 0)
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && d.agree(); seed++ {
		w := guards[seed%uint64(len(guards))]
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 3)), abi: w.abi}
		d.renew(furnished(g.Rand, w.p.Unit().Rodata))
		d.random++
		d.verified++
		d.calling(w.p, g, seed, 16)
		for range perRound {
			u := w.p.Unit()
			change(g.Rand, u)
			d.tried++
			if p, err := verify.Verify(u); err == nil {
				d.changed++
				d.calling(p, g, seed, 4)
			}
		}
	}
	d.finish(t)
}

// calling calls a guard n times, at one site.
func (d *differential) calling(p program, g *generator, seed uint64, n int) {
	x := d.place(p, g, seed)
	for ; x != nil && n > 0 && d.agree(); n-- {
		call := *x
		call.enter(g)
		call.argue(g.Rand)
		d.call(&call)
	}
}
