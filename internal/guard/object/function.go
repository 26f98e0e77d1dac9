package object

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// functionSection holds the names that PIE_FUNCTION declares. The address of one is
// that of the function in the target.
const functionSection = ".rodata.pie_functions"

// symbol returns the index of the function in u.Symbols that i takes the address of.
func symbol(u *bpf.Unit, spec *ebpf.CollectionSpec, g source.Guard, i asm.Instruction) (int, error) {
	m := spec.Maps[functionSection]
	if m == nil || len(m.Contents) != 1 {
		return 0, errors.New("the names of functions cannot be read")
	}
	content, ok := m.Contents[0].Value.([]byte)
	offset := int64(uint64(i.Constant) >> 32)
	if !ok || offset < 0 || offset >= int64(len(content)) || offset > 0 && content[offset-1] != 0 {
		return 0, errors.New("the address of a PIE_FUNCTION is used for something else than pie_invoke")
	}
	name, _, terminated := bytes.Cut(content[offset:], []byte{0})
	switch {
	case !terminated || !printable(name):
		return 0, fmt.Errorf("the name of a function is %q", name)
	case g.ABI == source.GoInternal:
		return 0, errors.New("a guard of a Go function cannot call functions: their stacks and registers are the Go runtime's")
	case compile.Throws(string(name)):
		return 0, fmt.Errorf("%s is a C++ or Rust function, whose exceptions nothing would catch; call a function with C linkage that catches what it throws", name)
	}
	fn := bpf.Symbol{Name: string(name), Kind: bpf.SymbolFunc}
	at := slices.Index(u.Symbols, fn)
	if at < 0 {
		at = len(u.Symbols)
		u.Symbols = append(u.Symbols, fn)
	}
	return at, nil
}

// printable reports whether a name is one, and not only bytes.
func printable(name []byte) bool {
	return len(name) > 0 && len(name) < 1024 && !slices.ContainsFunc(name, func(b byte) bool { return b <= ' ' || b > '~' })
}
