package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// op is what a value computes. Unless said otherwise args[0] and args[1] are
// its operands and the result is 64 bits; with width 4 operands are taken, and
// the result is, the low 32 bits, zero-extended.
type op uint8

const (
	opUndef  op = iota // nothing the program reads
	opConst            // imm
	opWide             // imm, in a register
	opArg              // argument word imm, as at entry
	opSP               // bpf.FrameSP
	opReturn           // bpf.FrameReturn
	opFrame            // the frame pointer itself: only a base, never computed with
	opStack            // r10 of the outermost function + imm
	opSymbol           // address of symbol imm
	opRodata           // address of rodata + imm
	opState            // address of the prepatch's state + imm
	opPhi              // args by block.preds

	opAdd
	opSub
	opMul
	opAnd
	opOr
	opXor
	opShl
	opShr
	opSar
	opDiv  // x/0 = 0
	opMod  // x%0 = x
	opSDiv // min/−1 = min
	opSMod // min%−1 = 0
	opNeg
	opZext  // low size bytes of args[0]
	opSext  // low size bytes of args[0], to width bytes
	opSwap  // low size bytes of args[0] reversed, the rest 0
	opHolds // 1 when args[0] imm args[1] of size bytes, imm a Jmp constant of package bpf; else 0

	opLoad      // size bytes at the sum of args and imm; sext: sign-extended; faults: of the target
	opStore     // args[1] to size bytes at args[0]+imm; faults: of the target
	opAtomic    // imm2 on size bytes at args[0]+imm with args[1]; args[2] is r0 of cmpxchg
	opHelper    // helper imm on args; faults: reads memory
	opThread    // who the thread is, bpf.HelperThread
	opStackUsed // bytes of stack in use, bpf.HelperStackUsed
	opFuel      // imm units of fuel
	opPlausible // faults when the sum of args and imm cannot be an address of the user half
)

// value is one SSA value, or an effect without a result.
type value struct {
	op     op
	width  uint8 // 4 or 8
	size   uint8 // memory or extension size in bytes
	sext   bool
	faults bool
	looked bool // opLoad: an opPlausible asked for its address
	shared bool // opStore, opAtomic: of the state, which others use at the same time
	imm    int64
	imm2   int32
	args   []*value
	insn   int // bytecode index, for errors
	block  *block

	fwd  *value // the value this one was replaced by
	uses int
	pos  int // allocation position
	loc  location
	temp []amd64.Reg // scratch registers, by demandOf
}

// terminator is how a block ends.
type terminator uint8

const (
	termJump   terminator = iota // to succs[0]
	termBranch                   // to succs[0] when args[0] cond args[1], else to succs[1]
	termExit                     // with exit.verdict
	termFault                    // a read that always faults
)

// block is a basic block. succs and preds never name the fault and fuel exits.
type block struct {
	values []*value // phis first
	term   terminator
	cond   uint8 // Jmp constant of package bpf
	width  uint8
	args   []*value // operands of the branch
	exit   *exit
	succs  []*block
	preds  []*block

	id      int  // index in function.blocks
	cold    bool // cannot reach a pass
	dropped bool
	framed  bool
	pos     int // position of the first value
	end     int // position of the terminator
	insn    int
}

// exit is what a verdict takes with it.
type exit struct {
	verdict *value
	words   []*value
	xmm0    *value
	errno   *value
	code    *value
}

// values lists everything the exit reads.
func (e *exit) values() []**value {
	vs := []**value{&e.verdict}
	for i := range e.words {
		vs = append(vs, &e.words[i])
	}
	for _, p := range []**value{&e.xmm0, &e.errno, &e.code} {
		if *p != nil {
			vs = append(vs, p)
		}
	}
	return vs
}

// function is a guard in SSA form.
type function struct {
	blocks  []*block // in emission order once ordered
	entry   *block
	onFault *block // nil when nothing can fault
	onFuel  *block // nil when nothing burns fuel
	fuel    uint32
	stack   int // bytes of bytecode stack, local calls included
}

// find returns the value that stands for v.
func (v *value) find() *value {
	for v.fwd != nil {
		if v.fwd.fwd != nil {
			v.fwd = v.fwd.fwd
		}
		v = v.fwd
	}
	return v
}

// acts reports whether v changes the target: writes its memory, or calls a
// function of it.
func (v *value) acts() bool {
	h := bpf.Helper(v.imm)
	return v.op == opStore && v.faults || v.op == opHelper && (h == bpf.HelperZero || h == bpf.HelperInvoke)
}

// isConst reports whether v is a known number.
func (v *value) isConst() bool { return v.op == opConst }

// effect reports whether v must stay though nothing reads it.
func (v *value) effect() bool {
	switch v.op {
	case opStore, opAtomic, opFuel, opPlausible:
		return true
	case opHelper:
		return v.faults
	case opLoad, opStackUsed:
		return v.faults
	}
	return false
}

// placed reports whether v is computed where it stands and needs a location.
// The others are constants that each use writes out for itself.
func (v *value) placed() bool {
	switch v.op {
	case opUndef, opConst, opFrame, opStore, opFuel, opPlausible:
		return false
	}
	return true
}

// values counts the values of all blocks.
func (f *function) values() int {
	n := 0
	for _, b := range f.blocks {
		n += len(b.values)
	}
	return n
}

// linkPreds recomputes predecessors from successors.
func (f *function) linkPreds() {
	for _, b := range f.blocks {
		b.preds = b.preds[:0]
	}
	for _, b := range f.blocks {
		for _, s := range b.succs {
			s.preds = append(s.preds, b)
		}
	}
}

// mayFault reports whether a read in b can fault.
func (b *block) mayFault() bool {
	return b.term == termFault || slices.ContainsFunc(b.values, func(v *value) bool { return v.faults })
}

// mayBurn reports whether fuel can end in b.
func (b *block) mayBurn() bool { return slices.ContainsFunc(b.values, (*value).burns) }

// roots lists the blocks that are entered from outside.
func (f *function) roots() []*block {
	roots := []*block{f.entry}
	for _, b := range []*block{f.onFault, f.onFuel} {
		if b != nil {
			roots = append(roots, b)
		}
	}
	return roots
}
