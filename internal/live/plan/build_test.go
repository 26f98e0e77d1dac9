package plan

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
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
	f, err := os.Open(library(t, "libc.so.6"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := binfile.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
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
		image := arena.Range{Start: address.Vaddr(0).Addr(bias), End: address.Vaddr(info.Size() + 1<<20).Addr(bias).Page()}
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
