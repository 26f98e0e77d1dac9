package tracee

import (
	"bytes"
	"context"
	"debug/elf"
	"os"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A thread that nobody sees finds its way out of a frame by either gadget: it makes a call
// alone and is as it was.
func TestEitherGadgetHeals(t *testing.T) {
	v := startVictim(t, "alone")
	tr := newTracer(t)
	p := v.open()
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var all gadgets
	buf := make([]byte, 256<<10)
	for _, m := range maps {
		if isPrivateCode(m) {
			p.scan(m, buf, &all)
		}
	}
	if all.syscallRet == 0 || all.popRaxRet == 0 || all.sigreturn == 0 {
		t.Fatalf("the victim and its libraries have not all: %+v", all)
	}
	for name, g := range map[string]gadgets{
		"pop rax":      {syscallRet: all.syscallRet, popRaxRet: all.popRaxRet},
		"rt_sigreturn": {syscallRet: all.syscallRet, sigreturn: all.sigreturn},
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				p.gadgets = g
				if err := tr.Attach(context.Background(), p, mapAndAsk(besides(v.answer))); err != nil {
					t.Fatal(err)
				}
				if p.gadgets != g {
					t.Fatalf("%+v were used", p.gadgets)
				}
				if err := tr.Attach(context.Background(), p, unmap(besides(v.answer))); err != nil {
					t.Fatal(err)
				}
			}
			v.mustProgress()
		})
	}
}

// The dynamic linker alone has what a call takes, so that a program can be guarded before
// its libraries are there.
func TestTheDynamicLinkerHasGadgets(t *testing.T) {
	const linker = "/lib64/ld-linux-x86-64.so.2"
	f, err := elf.Open(linker)
	if err != nil {
		t.Fatalf("glibc's dynamic linker: %v", err)
	}
	defer f.Close()
	file, err := os.ReadFile(linker)
	if err != nil {
		t.Fatal(err)
	}
	var g gadgets
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD && s.Flags&elf.PF_X != 0 {
			code := file[s.Off : s.Off+s.Filesz]
			note(&g.syscallRet, code, codeSyscallRet, address.Addr(s.Vaddr))
			note(&g.sigreturn, code, codeSigreturn, address.Addr(s.Vaddr))
		}
	}
	if !g.complete() {
		t.Errorf("%s: %+v", linker, g)
	}
	if g.sigreturn != 0 && !bytes.HasSuffix(codeSigreturn, codeSyscallRet[:syscallInsnSize]) {
		t.Error("rt_sigreturn does not end with its system call")
	}
}
