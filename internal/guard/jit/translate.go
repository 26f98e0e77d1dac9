package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// straight translates one instruction that neither jumps nor ends the guard.
func (lo *lowerer) straight(fr *frame, b *block, i int) error {
	in := lo.u.Insns[i]
	dst := fr.regs + int(in.Dst)
	switch {
	case in.IsLDDW():
		return lo.wide(fr, b, i)
	case in.IsALU():
		v, err := lo.alu(fr, b, in, i)
		lo.out[b][dst] = v
		return err
	case in.IsLoad():
		v, err := lo.load(fr, b, in, i)
		lo.out[b][dst] = v
		return err
	case in.IsStore():
		return lo.store(fr, b, in, i)
	case in.IsHelperCall():
		return lo.helper(fr, b, in, i)
	}
	return placeError(lo.u, i, "opcode", ErrUnsupported)
}

// wide translates the 64-bit immediate load at i.
func (lo *lowerer) wide(fr *frame, b *block, i int) error {
	in := lo.u.Insns[i]
	if i+1 >= len(lo.u.Insns) {
		return placeError(lo.u, i, "second slot is missing", ErrUnsupported)
	}
	v := &value{width: 8, insn: i}
	switch in.Src {
	case 0:
		v.op, v.imm = opConst, int64(bpf.Imm64(in, lo.u.Insns[i+1]))
	case bpf.PseudoSymbol:
		v.op, v.imm = opSymbol, int64(in.Imm)
	case bpf.PseudoRodata:
		v.op, v.imm = opRodata, int64(in.Imm)
	case bpf.PseudoState:
		v.op, v.imm = opState, int64(in.Imm)
	default:
		return placeError(lo.u, i, "kind of 64-bit immediate", ErrUnsupported)
	}
	lo.out[b][fr.regs+int(in.Dst)] = lo.emit(b, v)
	return nil
}

// operand returns the second operand of an arithmetic instruction or jump.
func (lo *lowerer) operand(fr *frame, b *block, in bpf.Insn, i int) *value {
	if in.Op&bpf.SrcX != 0 {
		return lo.read(b, fr.regs+int(in.Src))
	}
	return lo.emit(b, &value{op: opConst, width: 8, imm: int64(in.Imm), insn: i})
}

var aluOps = map[uint8]op{
	bpf.AluADD: opAdd, bpf.AluSUB: opSub, bpf.AluMUL: opMul, bpf.AluAND: opAnd, bpf.AluOR: opOr,
	bpf.AluXOR: opXor, bpf.AluLSH: opShl, bpf.AluRSH: opShr, bpf.AluARSH: opSar,
}

// alu translates arithmetic; the result is a value that stands for Dst.
func (lo *lowerer) alu(fr *frame, b *block, in bpf.Insn, i int) (*value, error) {
	v := &value{width: 8, insn: i}
	if in.Class() == bpf.ClassALU {
		v.width = 4
	}
	dst := func() *value { return lo.read(b, fr.regs+int(in.Dst)) }
	switch o := in.Operation(); o {
	case bpf.AluMOV:
		return lo.move(fr, b, in, v), nil
	case bpf.AluEND:
		return lo.swap(b, in, v, dst()), nil
	case bpf.AluNEG:
		v.op, v.args = opNeg, []*value{dst()}
	case bpf.AluDIV, bpf.AluMOD:
		v.op = opDiv
		if o == bpf.AluMOD {
			v.op = opMod
		}
		if in.Off == 1 {
			v.op += opSDiv - opDiv
		}
		v.args = []*value{dst(), lo.operand(fr, b, in, i)}
	default:
		known := false
		if v.op, known = aluOps[o]; !known {
			return nil, placeError(lo.u, i, "arithmetic", ErrUnsupported)
		}
		v.args = []*value{dst(), lo.operand(fr, b, in, i)}
	}
	return lo.emit(b, v), nil
}

func (lo *lowerer) move(fr *frame, b *block, in bpf.Insn, v *value) *value {
	src := lo.operand(fr, b, in, v.insn)
	switch {
	case in.Op&bpf.SrcX != 0 && lo.p.Same(v.insn):
		return src
	case in.Off != 0:
		v.op, v.size = opSext, uint8(in.Off/8)
	case v.width == 4:
		v.op, v.size, v.width = opZext, 4, 8
	default:
		return src
	}
	v.args = []*value{src}
	return lo.emit(b, v)
}

// swap translates to_le, to_be (class ALU) and bswap (class ALU64).
func (lo *lowerer) swap(b *block, in bpf.Insn, v, src *value) *value {
	v.width, v.size, v.args = 8, uint8(in.Imm/8), []*value{src}
	v.op = opSwap
	if in.Class() == bpf.ClassALU && in.Op&bpf.SrcX == 0 { // to little endian
		if v.size == 8 {
			return src
		}
		v.op = opZext
	}
	return lo.emit(b, v)
}

// load translates LDX. A word of the frame is a value of its own.
func (lo *lowerer) load(fr *frame, b *block, in bpf.Insn, i int) (*value, error) {
	v := &value{width: 8, insn: i}
	if a := lo.p.Access(i); a.Region == verify.RegionFrame {
		switch {
		case a.Offset == bpf.FrameSP:
			v.op = opSP
		case a.Offset == bpf.FrameReturn:
			v.op = opReturn
		case a.Offset >= bpf.FrameArg && a.Offset < bpf.FrameArg+8*bpf.FrameArgs && a.Offset%8 == 0:
			v.op, v.imm = opArg, int64(a.Offset-bpf.FrameArg)/8
		default:
			return nil, placeError(lo.u, i, "frame load", ErrUnsupported)
		}
		return lo.emit(b, v), nil
	}
	v.op, v.size, v.imm = opLoad, uint8(in.Width()), int64(in.Off)
	v.sext = in.Mode() == bpf.ModeMEMSX
	v.faults = lo.p.FaultPoint(i)
	v.args = []*value{lo.read(b, fr.regs+int(in.Src))}
	return lo.emit(b, v), nil
}

// store translates ST, STX and atomics. Words of the frame are variables.
func (lo *lowerer) store(fr *frame, b *block, in bpf.Insn, i int) error {
	var val *value
	if in.Class() == bpf.ClassST {
		val = lo.emit(b, &value{op: opConst, width: 8, imm: int64(in.Imm), insn: i})
	} else {
		val = lo.read(b, fr.regs+int(in.Src))
	}
	a := lo.p.Access(i)
	if a.Region == verify.RegionFrame {
		num, ok := frameVar(a.Offset)
		if !ok || in.IsAtomic() {
			return placeError(lo.u, i, "frame store", ErrUnsupported)
		}
		lo.out[b][num] = val
		return nil
	}
	target := a.Region == verify.RegionTarget
	if a.Region != verify.RegionStack && a.Region != verify.RegionState && (!target || in.IsAtomic()) {
		return placeError(lo.u, i, "store outside the guard's stack and state", ErrUnsupported)
	}
	v := &value{
		op: opStore, width: 8, size: uint8(in.Width()), imm: int64(in.Off), insn: i, faults: target, shared: a.Region == verify.RegionState,
		args: []*value{lo.read(b, fr.regs+int(in.Dst)), val},
	}
	if !in.IsAtomic() {
		lo.emit(b, v)
		return nil
	}
	v.op, v.imm2 = opAtomic, in.Imm
	if in.Imm == bpf.AtomicCMPXCHG {
		v.args = append(v.args, lo.read(b, fr.regs+bpf.R0))
		lo.out[b][fr.regs+bpf.R0] = v
	} else if in.Imm&bpf.AtomicFetch != 0 {
		lo.out[b][fr.regs+int(in.Src)] = v
	}
	lo.emit(b, v)
	return nil
}

// frameVar returns the variable behind a write-only word of the frame.
func frameVar(off int) (int, bool) {
	switch {
	case off == bpf.FrameXMM0:
		return varXMM0, true
	case off == bpf.FrameErrno:
		return varErrno, true
	case off == bpf.FrameCode:
		return varCode, true
	case off >= bpf.FrameResult && off < bpf.FrameResult+8*bpf.FrameResults && off%8 == 0:
		return varWord0 + (off-bpf.FrameResult)/8, true
	}
	return 0, false
}

// helperArgs is how many arguments each helper takes.
var helperArgs = map[bpf.Helper]int{
	bpf.HelperCount: 3, bpf.HelperIndex: 3, bpf.HelperStrLen: 2, bpf.HelperFind: 4, bpf.HelperEqual: 4,
	bpf.HelperTid: 0, bpf.HelperNow: 0, bpf.HelperZero: 2, bpf.HelperInvoke: 2,
}

func (lo *lowerer) helper(fr *frame, b *block, in bpf.Insn, i int) error {
	switch bpf.Helper(in.Imm) {
	case bpf.HelperStackUsed:
		lo.out[b][fr.regs+bpf.R0] = lo.emit(b, &value{op: opStackUsed, width: 8, insn: i, faults: true})
		return nil
	case bpf.HelperThread:
		lo.out[b][fr.regs+bpf.R0] = lo.emit(b, &value{op: opThread, width: 8, insn: i})
		return nil
	}
	n, ok := helperArgs[bpf.Helper(in.Imm)]
	if !ok {
		return placeError(lo.u, i, "helper", ErrUnsupported)
	}
	v := &value{op: opHelper, width: 8, imm: int64(in.Imm), insn: i, faults: n > 0}
	for k := range n {
		v.args = append(v.args, lo.read(b, fr.regs+bpf.R1+k))
	}
	lo.out[b][fr.regs+bpf.R0] = lo.emit(b, v)
	return nil
}
