package locate

import (
	"bytes"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// throughJumpTable moves a candidate to its code where it is an entry of a jump table, as
// clang's control-flow integrity makes them (-fsanitize=cfi-icall): the name is the entry's,
// that of the code has .cfi behind it, and calls whose target the compiler knows go to the
// code. A guard in front of the entry would see the calls by pointer alone.
func throughJumpTable(f *binfile.File, c candidate) candidate {
	text := make([]byte, min(c.size, maxTableEntry))
	if f.ReadVaddr(text, c.vaddr) != nil {
		return c
	}
	if v, ok := tableTarget(text, c.vaddr); ok && f.IsCode(v) {
		c.entry, c.vaddr, c.size = c.vaddr, v, 0
	}
	return c
}

// maxTableEntry is endbr64, a jump, and what fills it up to 16 bytes.
const maxTableEntry = 16

// tableTarget returns where an entry of a jump table leads. Its symbol says that it is as
// large as the whole table, wherever in it the entry stands. Nothing else is a jump with
// three int3 behind it and within it.
func tableTarget(text []byte, at address.Vaddr) (address.Vaddr, bool) {
	endbr64, filled := []byte{0xf3, 0x0f, 0x1e, 0xfa}, []byte{0xcc, 0xcc, 0xcc}
	const jmp, jmpSize = 0xe9, 5
	jump := bytes.TrimPrefix(text, endbr64)
	if len(jump) < jmpSize || jump[0] != jmp || !bytes.HasPrefix(jump[jmpSize:], filled) {
		return 0, false
	}
	in, err := amd64.Decode(jump, address.Addr(at)+address.Addr(len(text)-len(jump)))
	return address.Vaddr(in.Target), err == nil
}
