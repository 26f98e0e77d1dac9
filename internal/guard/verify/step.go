package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// step changes s as the instruction at pc does and says where control goes.
func (a *analysis) step(ctx *context, pc int, s *state) (outcome, *Error) {
	i := a.unit.Insns[pc]
	var err *Error
	goesOn := true
	switch i.Class() {
	case bpf.ClassALU, bpf.ClassALU64:
		err = a.alu(pc, s, i)
	case bpf.ClassLD:
		a.wide(pc, s, i)
	case bpf.ClassLDX:
		goesOn, err = a.load(ctx, pc, s, i)
	case bpf.ClassST, bpf.ClassSTX:
		err = a.store(ctx, pc, s, i)
	default:
		return a.jump(ctx, pc, s, i)
	}
	if err != nil || !goesOn {
		return outcome{}, err
	}
	a.seen[pc].through = true
	return outcome{pc: i.Next(pc), s: s}, nil
}

// read returns a register that holds something on every path.
func (a *analysis) read(pc int, s *state, reg uint8) (value, *Error) {
	v := s.regs[reg]
	switch v.kind {
	case kindUninit:
		return v, refuse(pc, ReasonUninitRegister, "uses r%d, which has no value on some path to here; set it on every path", reg)
	case kindMixed:
		return v, refuse(pc, ReasonMixedRegister, "uses r%d, which is an address on one path to here and something else on another", reg)
	}
	return v, nil
}

// operand is the second operand of arithmetic and comparisons.
func (a *analysis) operand(pc int, s *state, i bpf.Insn) (value, *Error) {
	if i.Op&bpf.SrcX != 0 {
		return a.read(pc, s, i.Src)
	}
	return constant(uint64(int64(i.Imm))), nil
}

// copied returns s's register src as a value for another place, linked to it.
func (a *analysis) copied(s *state, src uint8) value {
	a.link(&s.regs[src])
	return s.regs[src]
}

func (a *analysis) alu(pc int, s *state, i bpf.Insn) *Error {
	op := i.Operation()
	src := value{kind: kindScalar}
	var err *Error
	if op != bpf.AluNEG && op != bpf.AluEND {
		if src, err = a.operand(pc, s, i); err != nil {
			return err
		}
	}
	if op == bpf.AluMOV {
		return a.move(pc, s, i, src)
	}
	dst, err := a.read(pc, s, i.Dst)
	if err != nil {
		return err
	}
	if dst.pointer() || src.pointer() || dst.kind == kindSymbol || src.kind == kindSymbol {
		s.regs[i.Dst], err = addressALU(pc, i, dst, src)
		return err
	}
	if i.Op&bpf.SrcX != 0 && i.Dst == i.Src && (op == bpf.AluXOR || op == bpf.AluSUB) {
		s.regs[i.Dst] = constant(0)
		return nil
	}
	s.regs[i.Dst] = computed(i, dst, src)
	return nil
}

// computed is arithmetic with numbers. Sums with a constant keep the link.
func computed(i bpf.Insn, dst, src value) value {
	num := scalar.ALU(i, dst.num, src.num)
	c, known := src.num.Const()
	switch op := i.Operation(); {
	case op == bpf.AluADD && exactSum(i, dst, src, 1):
		return dst.plus(src, num)
	case op == bpf.AluSUB && known && exactSum(i, dst, src, -1):
		return dst.minus(c, num)
	}
	return number(num)
}

// move is MOV in all its forms. A form that changes nothing keeps the link.
func (a *analysis) move(pc int, s *state, i bpf.Insn, src value) *Error {
	if i.Op&bpf.SrcX == 0 {
		s.regs[i.Dst] = number(scalar.ALU(i, scalar.Const(0), src.num))
		return nil
	}
	if i.Class() == bpf.ClassALU64 && i.Off == 0 {
		s.regs[i.Dst] = a.copied(s, i.Src)
		return nil
	}
	if src.pointer() {
		return refuse(pc, ReasonPointerALU, "takes a part of %v", src.kind)
	}
	num := scalar.ALU(i, scalar.Const(0), src.asNumber().num)
	if src.kind == kindScalar && num == src.num {
		s.regs[i.Dst] = a.copied(s, i.Src)
		return nil
	}
	s.regs[i.Dst] = number(num)
	return nil
}

// addressALU is arithmetic with an address: adding and subtracting numbers, and
// the distance of two addresses in the same memory. The address of a symbol is
// a number of the target once anything else is done to it.
func addressALU(pc int, i bpf.Insn, dst, src value) (value, *Error) {
	op := i.Operation()
	wide := i.Class() == bpf.ClassALU64
	if !dst.pointer() && !src.pointer() {
		if wide && dst.kind == kindSymbol && src.kind == kindScalar && (op == bpf.AluADD || op == bpf.AluSUB) {
			dst.num = scalar.ALU(i, dst.num, src.num)
			return dst, nil
		}
		return number(scalar.ALU(i, dst.asNumber().num, src.asNumber().num)), nil
	}
	switch {
	case !wide:
	case op == bpf.AluADD && !src.pointer():
		return dst.plus(src.asNumber(), scalar.ALU(i, dst.num, src.asNumber().num)), nil
	case op == bpf.AluADD && !dst.pointer():
		return src.plus(dst.asNumber(), scalar.ALU(i, dst.asNumber().num, src.num)), nil
	case op == bpf.AluSUB && !src.pointer():
		difference := scalar.ALU(i, dst.num, src.asNumber().num)
		if c, ok := src.asNumber().num.Const(); ok {
			return dst.minus(c, difference), nil
		}
		return value{kind: dst.kind, base: dst.base, num: difference}, nil
	case op == bpf.AluSUB && dst.sameBase(src) && dst.kind != kindFrame:
		return number(scalar.ALU(i, dst.num, src.num)), nil
	}
	return value{}, refuse(pc, ReasonPointerALU, "computes with %v and %v; an address of the guard's own memory can only be moved by a number", dst.kind, src.kind)
}

// wide loads a 64-bit immediate.
func (a *analysis) wide(pc int, s *state, i bpf.Insn) {
	v := bpf.Imm64(i, a.unit.Insns[pc+1])
	switch i.Src {
	case bpf.PseudoSymbol:
		s.regs[i.Dst] = value{kind: kindSymbol, base: int32(v), num: scalar.Const(0)}
	case bpf.PseudoRodata:
		s.regs[i.Dst] = value{kind: kindRodata, num: scalar.Const(v)}
	case bpf.PseudoState:
		s.regs[i.Dst] = value{kind: kindState, num: scalar.Const(v)}
	default:
		s.regs[i.Dst] = constant(v)
	}
}
