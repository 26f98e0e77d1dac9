package compile

import (
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// addInside makes room at the end of the state for what bpf.HelperInvoke keeps
// there.
func (m *module) addInside(p *source.Prepatch) []*Error {
	if !slices.Contains(p.Caps, "call") {
		return nil
	}
	if p.Shared {
		return []*Error{{Pos: p.At["shared"], Msg: "//pie:shared and //pie:cap call exclude each other: which threads are in a call is each process's own", Instead: "leave one of them out"}}
	}
	size := max(m.stateSize, bpf.StateFirst) + bpf.InsideSize
	if size > bpf.MaxState {
		return []*Error{{Pos: p.At["cap"], Msg: "the prepatch has too much state for //pie:cap call, which needs 4 KiB of it", Instead: "keep fewer keys"}}
	}
	m.stateSize = size
	return nil
}

// invoke lowers Invoke.
func invoke(s *site) value {
	name := s.symbolName(1)
	args := s.args[2].tuple
	switch {
	case s.err != nil:
		return value{}
	case s.caps&bpf.CapCall == 0:
		s.fail("add //pie:cap call to the file, which the operator will be shown", "the guard calls a function of the program without having asked for it")
	case !s.sysv:
		s.fail("look at the memory that the function would look at", "a guard of a Go function cannot call functions: their stacks and registers are the Go runtime's")
	case len(args) > bpf.InvokeArgs:
		s.fail("", "a guard passes at most %d words to a function", bpf.InvokeArgs)
	case Throws(name):
		s.fail("call a function with C linkage that catches what it throws", "%s is a C++ or Rust function, whose exceptions nothing would catch", name)
	}
	if s.err != nil {
		return value{}
	}
	s.m.used |= bpf.CapCall
	if s.called == nil {
		s.called = s.newSlot(bpf.InvokeSize)
	}
	for i := range bpf.InvokeArgs {
		arg := constant0
		if i < len(args) {
			if args[i].result == nil || args[i].result.goVar != "" {
				s.fail("c.Invoke(\"f\", libpie.Word(a))", "each argument of Invoke is written as libpie.Word(…) in the call itself")
				return value{}
			}
			arg = args[i].result.word
		}
		s.emit(insn{op: opStackStore, slot: s.called, off: int32(8 * i), size: 8, b: arg})
	}
	fn := s.emitTo(insn{op: opSymbol, off: s.symbol(bpf.Symbol{Name: name, Kind: bpf.SymbolFunc})})
	word := s.helper(bpf.HelperInvoke, fn, s.emitTo(insn{op: opStackAddr, slot: s.called}))
	load := func(off int32, t leaf) operand {
		return s.emitTo(insn{op: opStackLoad, slot: s.called, off: off, size: t.size, signed: t.signed})
	}
	return value{parts: []operand{word, load(bpf.InvokeXMM0, leaf{size: 8}), load(bpf.InvokeErrno, leaf{size: 4, signed: true})}}
}

// Throws reports whether a function's name says that it may end by an exception.
func Throws(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R")
}
