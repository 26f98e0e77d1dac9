package compile

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// name is argument k, the constant name of something in the target.
func (s *site) symbolName(k int) string {
	name := s.textArg(k)
	if name == "" && s.err == nil {
		s.fail("write the name as the symbol table has it", "the name for %s is empty", s.name)
	}
	return name
}

// global is the address of the variable that argument k names.
func (s *site) global(k int) operand {
	return s.emitTo(insn{op: opSymbol, off: s.symbol(bpf.Symbol{Name: s.symbolName(k), Kind: bpf.SymbolData})})
}

// globalOf lowers GlobalOf: the address is the pointer.
func globalOf(s *site) value {
	if !s.canRead(s.fn.TypeArgs()[0]) {
		return value{}
	}
	return one(s.global(1))
}

// calledFrom lowers CalledFrom: start < return address ≤ end, by one unsigned
// comparison of distances from the function's first byte.
func calledFrom(s *site) value {
	name := s.symbolName(1)
	at := func(kind bpf.SymbolKind) operand {
		return s.emitTo(insn{op: opSymbol, off: s.symbol(bpf.Symbol{Name: name, Kind: kind})})
	}
	start := at(bpf.SymbolFunc)
	last := s.alu(bpf.AluSUB, s.frame(bpf.FrameReturn), operand{c: 1})
	r := s.newReg()
	yes, no, done := s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(bpf.JmpLT, s.alu(bpf.AluSUB, last, start), s.alu(bpf.AluSUB, at(bpf.SymbolFuncEnd), start), yes, no)
	return one(s.outcome(r, yes, no, done))
}
