package fingerprint

import (
	"debug/elf"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// machine is what reading code takes of one kind of processor. Features of the
// code of two machines have nothing in common but texts, imports and constants, so
// functions are compared within one machine only.
type machine interface {
	// read adds what the instructions at r.at tell; false when not all could be read.
	read(r *bodyReader) bool
	// calls appends the functions of the file that function i calls or jumps to.
	calls(m *Module, s *starts, i int, out []int32) []int32
	// stub returns the slot through which a PLT entry at v jumps, which has this code: stubSize
	// bytes, if there are as many.
	stub(code []byte, v address.Vaddr) (slot address.Vaddr, ok bool)
	// isPLT recognizes the first entry of a lazy PLT, which has no slot of its own.
	isPLT(code []byte) bool
	// arguments is the feature of the argument registers that function i reads.
	arguments(m *Module, i int) Feature
	// named tells whether a relocation makes the dynamic linker put the address of its
	// symbol at a place, and whether that place is a slot for calls.
	named(relocation uint32) (name, slot bool)
	// relative tells whether a relocation makes it put an address of the file there.
	relative(relocation uint32) bool
	// takes returns functions of the file whose address function i takes.
	takes(m *Module, s *starts, i int) []int32
}

func machineOf(m elf.Machine) machine {
	if m == elf.EM_AARCH64 {
		return arm64Machine{}
	}
	return amd64Machine{}
}

// Machine is what the module's code is for: elf.EM_X86_64 or elf.EM_AARCH64.
func (m *Module) Machine() elf.Machine { return m.file.Machine() }

// comparable tells whether a fingerprint is of the machine that the module is for.
func (m *Module) comparable(fp *Fingerprint) bool {
	return !slices.ContainsFunc(fp.References, func(r Reference) bool { return r.arm64() != (m.Machine() == elf.EM_AARCH64) })
}

// arm64 tells whether a reference was made from arm64 code. Its features of arguments
// say so.
func (r *Reference) arm64() bool {
	return slices.ContainsFunc(r.Target.Features, func(f Rated) bool { return f.Kind() == KindArguments && f.hash()&isArm64 != 0 })
}

// stubSize is the most bytes of a PLT entry that are looked at.
const stubSize = 24

// stub returns the name that a PLT entry at v jumps to, or "".
func (im *image) stub(v address.Vaddr) string {
	slot, ok := im.slot(v)
	if !ok {
		return ""
	}
	return im.names[slot]
}

// slot returns the slot through which a PLT entry at v jumps.
func (im *image) slot(v address.Vaddr) (address.Vaddr, bool) {
	s := im.segment(v)
	if s == nil || s.flags&elf.PF_X == 0 {
		return 0, false
	}
	return im.machine.stub(s.bytes(v, stubSize), v)
}

// through returns the function of the file that a PLT entry at v leads to, or 0.
func (im *image) through(v address.Vaddr) address.Vaddr {
	if len(im.own) == 0 {
		return 0
	}
	slot, ok := im.slot(v)
	if !ok {
		return 0
	}
	return im.own[slot]
}
