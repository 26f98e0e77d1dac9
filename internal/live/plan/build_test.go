package plan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// program assembles and verifies a guard.
func program(t *testing.T, text string) *verify.Program {
	t.Helper()
	insns, err := bpf.Assemble(text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.Verify(&bpf.Unit{Name: "Guard", Insns: insns, OnFault: len(insns) - 2, OnFuel: len(insns) - 2})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rejectNull rejects a NULL first argument with NULL.
const rejectNull = `
	ldxdw %r2, [%r1+0]
	jne %r2, 0, +3
	stdw [%r1+128], 0
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit`

// libcFunction reads one function of libc as if it were mapped at bias.
func libcFunction(t *testing.T, name string, bias address.Bias) (Function, arena.Range, address.Off) {
	t.Helper()
	file, size := openFile(t, library(t, "libc.so.6"))
	syms, err := file.DynSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range syms {
		if s.Name != name {
			continue
		}
		text := make([]byte, s.Size+64)
		if err := file.ReadVaddr(text, s.Value); err != nil {
			t.Fatal(err)
		}
		off, _ := file.Off(s.Value)
		image := arena.Range{Start: address.Vaddr(0).Addr(bias), End: address.Vaddr(size + 1<<20).Addr(bias).Page()}
		return Function{Name: name, Entry: s.Value.Addr(bias), Size: s.Size, Text: text}, image, off
	}
	t.Fatalf("libc has no %s", name)
	return Function{}, arena.Range{}, 0
}

func space(image arena.Range) *arena.Space {
	info := arena.Info{Build: "test", Creator: 1, TSCHz: 1e9, Created: time.Unix(0, 0)}
	return arena.NewSpace(nil, []arena.Range{image}, info)
}

func TestBuildStrdup(t *testing.T) {
	f, image, off := libcFunction(t, "strdup", 0x7f1234500000)
	in := Input{ID: "test", Build: "test", Space: space(image), Guards: []GuardInput{{
		Name: "Strdup", Program: program(t, rejectNull), Function: f, Mapped: image, EntryOff: off,
	}}}
	p, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	g := p.Guards()[0]
	t.Logf("\n%s", p.Describe())
	if len(g.Patch) != jumpLen || g.Patch[0] != 0xe9 || !bytes.Equal(g.Original, f.Text[g.Site-f.Entry:][:jumpLen]) {
		t.Errorf("patch % x over % x", g.Patch, g.Original)
	}
	if g.SiteOff != off+address.Off(g.Site-f.Entry) {
		t.Errorf("site at file offset %v, function at %v", g.SiteOff, off)
	}
	if !strings.Contains(p.Describe(), "jmp") {
		t.Errorf("nothing described:\n%s", p.Describe())
	}
}

// passAll is a guard that only passes.
const passAll = `
	mov %r0, 0
	exit
	mov %r0, 0
	exit`

// function places made-up code in a made-up image.
func function(t *testing.T, code string) (Function, arena.Range) {
	t.Helper()
	text := unhex(t, code)
	f := Function{Name: "f", Entry: testEntry, Size: uint64(len(text)), Text: append(text, make([]byte, 16)...)}
	return f, arena.Range{Start: testEntry.Page(), End: testEntry.Page().Add(1 << 20)}
}

func (in Input) with(t *testing.T, name string, f Function, image arena.Range) Input {
	t.Helper()
	in.Guards = append(in.Guards[:len(in.Guards):len(in.Guards)], GuardInput{Name: name, Program: program(t, passAll), Function: f, Mapped: image})
	return in
}

func TestGuardsOfOneSite(t *testing.T) {
	f, image := function(t, "53/48 89 fb/48 89 f0/5b/c3")
	in := Input{ID: "a", Build: "test", Space: space(image)}.with(t, "A", f, image).with(t, "B", f, image)
	p, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	a, b := p.Guards()[0], p.Guards()[1]
	if a.Site != b.Site || !bytes.Equal(a.Original, b.Original) {
		t.Errorf("sites %v and %v", a.Site, b.Site)
	}
	if a.Place.Code == b.Place.Code || a.Place.Control == b.Place.Control || bytes.Equal(a.Patch, b.Patch) {
		t.Error("two guards in one place")
	}
	other := Input{ID: "b", Hash: [32]byte{1}, Build: "another", Space: in.Space}.with(t, "A", f, image)
	p, err = Build(other)
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Guards()[0]; c.Site != a.Site || c.Place.Code == a.Place.Code {
		t.Errorf("another prepatch's site at %v, code at %v", c.Site, c.Place.Code)
	}
}

// afterOf is where g's copy of the displaced instructions is.
func afterOf(g Guard) address.Addr { return g.Place.Code.Add(int64(g.Code.Link + jit.LinkSize)) }

func TestMoves(t *testing.T) {
	f, image := function(t, "53/48 89 fb/48 89 f0/5b/c3") // site: mov (3 bytes), mov (3 bytes)
	p, err := Build(Input{Build: "test", Space: space(image)}.with(t, "A", f, image))
	if err != nil {
		t.Fatal(err)
	}
	g := p.Guards()[0]
	if after := afterOf(g); len(g.Moves) != 1 || g.Moves[0] != (Move{From: g.Site + 3, To: after + 3}) {
		t.Errorf("moves %v, site %v, copies at %v", g.Moves, g.Site, after)
	}
}

func TestOverlap(t *testing.T) {
	f, image := function(t, "53/48 89 fb/48 89 f0/48 89 d1/31 c0/5b/c3")
	in := Input{Build: "test", Space: space(image)}.with(t, "A", f, image)
	if _, err := Build(in); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{-1, 0, 3, 4} { // of an older jump, from the site
		ar := in.Space.Arenas()[0]
		for i := range ar.Guards {
			if ar.Guards[i].State != arena.Free {
				ar.Guards[i].Site = testEntry.Add(1 + at)
				ar.Guards[i].Original = f.Text[1+at:][:jumpLen]
			}
		}
		_, err := Build(in)
		var r *Refusal
		if at == 0 {
			if err != nil {
				t.Errorf("same site: %v", err)
			}
		} else if !errors.As(err, &r) || r.Code != SiteOverlap {
			t.Errorf("jump at site%+d: %v", at, err)
		}
	}
}

func TestBuildRefusals(t *testing.T) {
	f, image := function(t, "53/48 89 fb/48 89 f0/5b/c3")
	var r *Refusal
	full := Input{Build: "test", Space: space(image)}
	for range arena.MaxGuards + 1 {
		full = full.with(t, "A", f, image)
	}
	for n := range full.Guards {
		full.Guards[n].Name += string(rune('a' + n))
	}
	if _, err := Build(full); !errors.As(err, &r) || r.Code != ArenaFull {
		t.Errorf("too many guards: %v", err)
	}
	everything := arena.Range{Start: 0, End: 1 << 40}
	none := Input{Build: "test", Space: arena.NewSpace(nil, []arena.Range{everything}, arena.Info{})}.with(t, "A", f, image)
	if _, err := Build(none); !errors.As(err, &r) || r.Code != SiteRange {
		t.Errorf("no room: %v", err)
	}
	bad := Input{Build: "test", Space: space(image)}.with(t, "A", f, image)
	bad.Guards[0].Program = program(t, strings.Replace(rejectNull, "%r1+0", "%r1+64", 1)) // argument word 8
	if _, err := Build(bad); !errors.As(err, &r) || r.Code != GuardPlace {
		t.Errorf("argument word 8 under SysV: %v", err)
	}
}

// TestMovedCall looks at what runs behind the guard of a function that begins with a call.
func TestMovedCall(t *testing.T) {
	f, image := function(t, "53/e8 10 00 00 00/5b/c3")
	p, err := Build(Input{Build: "test", Space: space(image)}.with(t, "A", f, image))
	if err != nil {
		t.Fatal(err)
	}
	g := p.Guards()[0]
	ret := binary.LittleEndian.Uint64(g.Code.Bytes[g.Code.End-8:])
	if address.Addr(ret) != testEntry+6 {
		t.Errorf("return address %#x in % x", ret, g.Code.Bytes)
	}
	if !strings.Contains(p.Describe(), "original return address") {
		t.Errorf("described as\n%s", p.Describe())
	}
}

func TestUnusualResult(t *testing.T) {
	for _, c := range []struct {
		name, code string
		warned     bool
	}{
		{"returns 0 or -1", "53/48 89 fb/85 ff/74 04/31 c0/5b/c3/83 c8 ff/5b/c3", false},
		{"returns 1 or 2", "53/48 89 fb/85 ff/74 07/b8 01 00 00 00/5b/c3/b8 02 00 00 00/5b/c3", true},
		{"returns what it computes", "53/48 89 fb/89 f8/5b/c3", false},
	} {
		f, image := function(t, c.code)
		in := Input{Build: "test", Space: space(image)}.with(t, "A", f, image)
		in.Guards[0].Program = program(t, rejectNull)
		p, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if w := p.Guards()[0].Where.Warnings; (len(w) > 0) != c.warned {
			t.Errorf("%s: %q", c.name, w)
		}
	}
}
