package fingerprint

import (
	"bytes"
	"debug/elf"
)

// leavesWhole tells whether the module was compiled by a compiler that does not split
// functions into parts of their own (f.part): by clang, or by gcc when it does not optimize for
// speed. Clang saves rbp before the registers r12 to r15, gcc after them; gcc aligns
// functions only when it optimizes for speed. Of arm64 code it is not known.
func (m *Module) leavesWhole() bool {
	if m.Machine() != elf.EM_X86_64 {
		return false
	}
	if m.splits == nil {
		clang, gcc, aligned := 0, 0, 0
		for i := range m.funcs {
			if m.funcs[i].at%16 == 0 {
				aligned++
			}
			switch b := bytes.TrimPrefix(m.image.code(m.funcs[i].at, 8), endbr64); {
			case len(b) >= 3 && b[0] == pushRBP && isPush(b[1:]):
				clang++
			case isPush(b):
				gcc++
			}
		}
		splits := !(clang >= fewestSaves && 4*clang >= gcc || clang == 0 && 3*aligned <= len(m.funcs))
		m.splits = &splits
	}
	return !*m.splits
}

// fewestSaves is how many functions must save rbp first: one may be assembly.
const fewestSaves = 4

const pushRBP = 0x55

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// isPush recognizes push of r12 to r15.
func isPush(b []byte) bool { return len(b) >= 2 && b[0] == 0x41 && b[1] >= 0x54 && b[1] <= 0x57 }
