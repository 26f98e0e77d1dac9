package locate

import (
	"bytes"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// throughJumpTable moves f to its code where f is an entry of a jump table, as clang's
// control-flow integrity makes them (-fsanitize=cfi-icall): the name is the entry's, that
// of the code has .cfi behind it, and calls whose target the compiler knows go to the code.
// A guard in front of the entry would see the calls by pointer alone.
func throughJumpTable(f *Function) error {
	v, ok := tableTarget(f.Text[:f.Size], f.Vaddr)
	if !ok || !f.Image.File.IsCode(v) {
		return nil
	}
	f.How += fmt.Sprintf(", an entry of a jump table at %v that leads here", f.Vaddr)
	f.Vaddr, f.Entry = v, v.Addr(f.Image.Bias)
	return setText(f, 0)
}

// tableTarget returns where an entry of a jump table leads. Nothing else is a jump that is
// filled up, within what its symbol says is its size, with int3.
func tableTarget(text []byte, at address.Vaddr) (address.Vaddr, bool) {
	endbr64 := []byte{0xf3, 0x0f, 0x1e, 0xfa}
	const jmp, jmpSize, int3 = 0xe9, 5, 0xcc
	jump := bytes.TrimPrefix(text, endbr64)
	if len(text) != 8 && len(text) != 12 && len(text) != 16 || len(jump) <= jmpSize || jump[0] != jmp {
		return 0, false
	}
	for _, b := range jump[jmpSize:] {
		if b != int3 {
			return 0, false
		}
	}
	in, err := amd64.Decode(jump, address.Addr(at)+address.Addr(len(text)-len(jump)))
	return address.Vaddr(in.Target), err == nil
}
