package compile

import (
	"go/token"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// The form between SSA and bytecode: blocks of instructions over any number of
// registers. Inlining, layout of values and Go's run-time checks are done when
// it is built; what is left is to give registers.

// reg is a virtual register; 0 is none.
type reg int32

// Registers with a meaning of their own.
const (
	frameReg   reg = 1 // the address of the frame
	landingReg reg = 2 // the same where a fault or the end of fuel lands: always r1
	firstReg   reg = 3
)

// operand is a register, or a constant when r is 0.
type operand struct {
	r reg
	c int64
}

func (o operand) isConst() bool { return o.r == 0 }

// op is what an instruction does.
type op uint8

const (
	opMov        op = iota // dst = a
	opALU                  // dst = a alu b; alu is a bpf.Alu operation
	opExtend               // dst = low size bytes of a, sign- or zero-extended
	opSwap                 // dst = low size bytes of a, reversed
	opLoad                 // dst = size bytes at a+off, extended; target, rodata or symbol
	opFrameLoad            // dst = frame word at off
	opFrameStore           // frame word at off = a
	opStackAddr            // dst = r10 + a, or the address of slot
	opStackLoad            // dst = size bytes at slot+off, extended; a is an opStackAddr, or 0 for r10
	opStackStore           // size bytes at slot+off = b; a as above
	opSymbol               // dst = address of symbol off
	opRodata               // dst = address of rodata byte off
	opState                // dst = address of byte off of the prepatch's state
	opStore                // size bytes at a+off = b, of the state or the target
	opFetchAdd             // dst = the word at a+off, which b is added to at once, of the state
	opSwapWord             // dst = the word at a+off, which becomes b if it was args[0], of the state
	opCall                 // dst = helper off (args)
)

// insn is one instruction.
type insn struct {
	op     op
	alu    uint8 // bpf.Alu operation
	signed bool  // loads, opExtend: sign-extend; division: signed
	size   uint8 // bytes
	dst    reg
	a, b   operand
	off    int32
	base   reg // frame accesses: frameReg or landingReg
	slot   *slot
	args   []operand
	pos    token.Pos
}

// slot is a piece of the guard's stack.
type slot struct {
	size int64 // bytes, a multiple of 8
	at   int64 // offset from r10, set when registers are given
}

// uses calls f for each register read.
func (i *insn) uses(f func(*operand)) {
	for _, o := range []*operand{&i.a, &i.b} {
		if o.r != 0 {
			f(o)
		}
	}
	if i.op == opFrameLoad || i.op == opFrameStore {
		f(&operand{r: i.base})
	}
	for k := range i.args {
		if i.args[k].r != 0 {
			f(&i.args[k])
		}
	}
}

// pure reports whether i can go when its result is not used. Loads of the
// target cannot: they may fault.
func (i *insn) pure() bool {
	switch i.op {
	case opLoad, opFrameStore, opStackStore, opCall, opStore, opFetchAdd, opSwapWord:
		return false
	}
	return true
}

// end is how a block ends.
type end uint8

const (
	endNone   end = iota
	endJump       // to[0]
	endBranch     // a cond b: to[0], else to[1]
	endExit       // the guard ends with verdict
	endFault      // the guard ends as if a read had faulted
)

// block is a straight run of instructions.
type block struct {
	insns   []insn
	end     end
	cond    uint8 // bpf.Jmp operation
	a, b    operand
	to      [2]*block
	verdict bpf.Verdict
	pos     token.Pos // of the end
	id      int       // in layout order
	depth   int       // of loops around it
}

// succs returns the blocks that may follow.
func (b *block) succs() []*block {
	switch b.end {
	case endJump:
		return b.to[:1]
	case endBranch:
		return b.to[:2]
	}
	return nil
}

// endUses calls f for each register the end reads.
func (b *block) endUses(f func(*operand)) {
	switch b.end {
	case endBranch:
		for _, o := range []*operand{&b.a, &b.b} {
			if o.r != 0 {
				f(o)
			}
		}
	case endFault:
		f(&operand{r: frameReg})
	}
}
