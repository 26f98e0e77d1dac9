package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Variables of the bytecode: the registers of each inlined function, and the
// words of the frame that are only written.
const (
	varWord0 = iota                           // result words
	varXMM0  = varWord0 + bpf.FrameResults    //
	varErrno = varXMM0 + 1                    //
	varCode  = varErrno + 1                   //
	varRegs  = varCode + 1                    // r0 of the outermost function
	maxSlots = 1 << 16                        // bytecode instructions after inlining
	maxDepth = 8                              // nesting of local calls, as in the kernel
	tailSize = 8                              // instructions of an exit that are copied to each way in
	numVars  = varRegs + maxDepth*bpf.NumRegs // bound of variable numbers
)

// lowerer turns bytecode into SSA form in two steps. First each block is
// translated by itself; reading a variable the block has not written leaves a
// phi without arguments. Then those phis take their arguments from the ends of
// the preceding blocks, which may leave further ones there (after Braun et al.,
// Simple and Efficient Construction of SSA Form, 2013, with every block sealed
// late).
type lowerer struct {
	p      program
	u      *bpf.Unit
	f      *function
	slots  int
	out    map[*block]map[int]*value // variables at a block's end
	open   []openPhi
	roots  map[*block]bool
	reads  exitReads
	starts []bool // by instruction: a jump leads here
}

// openPhi is a phi whose arguments are not known yet.
type openPhi struct {
	v   *value
	b   *block
	num int
}

// exitReads is what at least one verdict takes with it.
type exitReads struct {
	words       int
	xmm0, errno bool
}

// frame is one inlined function.
type frame struct {
	depth  int
	regs   int // variable number of its r0
	base   int64
	blocks map[int]*block
	ret    *block // where its exit goes; nil for the outermost function
}

func lower(p program) (*function, error) {
	u := p.Unit()
	lo := &lowerer{
		p: p, u: u, f: &function{fuel: u.Fuel},
		out: map[*block]map[int]*value{}, roots: map[*block]bool{},
	}
	if lo.f.fuel == 0 {
		lo.f.fuel = bpf.FuelDefault
	}
	for _, v := range p.Verdicts() {
		words, xmm0, errno, _ := carried(v)
		lo.reads.words = max(lo.reads.words, words)
		lo.reads.xmm0 = lo.reads.xmm0 || xmm0
		lo.reads.errno = lo.reads.errno || errno
	}
	if lo.reads.words > bpf.FrameResults {
		return nil, placeError(u, -1, "", ErrResult)
	}
	outer := &frame{regs: varRegs, blocks: map[int]*block{}}
	for _, r := range []struct {
		at   int
		root **block
	}{{0, &lo.f.entry}, {u.OnFault, &lo.f.onFault}, {u.OnFuel, &lo.f.onFuel}} {
		b := lo.newBlock()
		lo.roots[b] = true
		*r.root = b
		to, err := lo.at(outer, r.at)
		if err != nil {
			return nil, err
		}
		b.succs = []*block{to}
	}
	lo.f.linkPreds()
	lo.resolve()
	return lo.f, nil
}

func (lo *lowerer) newBlock() *block {
	b := &block{insn: -1}
	lo.f.blocks = append(lo.f.blocks, b)
	lo.out[b] = map[int]*value{}
	return b
}

// at returns the block that starts at instruction i of fr, translating it when
// it is new. A short way out is translated afresh for each caller, so that every
// exit knows its verdict.
func (lo *lowerer) at(fr *frame, i int) (*block, error) {
	if b := fr.blocks[i]; b != nil {
		return b, nil
	}
	b := lo.newBlock()
	if fr.ret != nil || !lo.isExitTail(i) {
		fr.blocks[i] = b
	}
	return b, lo.translate(fr, b, i)
}

// isExitTail reports whether a few moves and frame stores lead from i to EXIT.
func (lo *lowerer) isExitTail(i int) bool {
	for n := 0; n < tailSize && i < len(lo.u.Insns); n++ {
		in := lo.u.Insns[i]
		switch {
		case in.Op == bpf.OpEXIT:
			return true
		case in.IsLDDW(), in.IsALU() && in.Operation() == bpf.AluMOV:
		case in.IsStore() && lo.p.Access(i).Region == verify.RegionFrame:
		default:
			return false
		}
		i = in.Next(i)
	}
	return false
}

// translate fills b from instruction i to the end of its basic block.
func (lo *lowerer) translate(fr *frame, b *block, i int) error {
	for start := i; ; {
		if lo.slots++; lo.slots > maxSlots {
			return placeError(lo.u, i, "local calls make the guard too large", ErrUnsupported)
		}
		if i < 0 || i >= len(lo.u.Insns) {
			return placeError(lo.u, i, "control leaves the program", ErrUnsupported)
		}
		if i != start && lo.isTarget(i) {
			return lo.jump(fr, b, i)
		}
		in := lo.u.Insns[i]
		b.insn = i
		switch {
		case in.Op == bpf.OpEXIT:
			lo.exit(fr, b)
			return nil
		case in.IsLocalCall():
			return lo.call(fr, b, i)
		case in.Op == bpf.OpJA, in.Op == bpf.OpJA32:
			return lo.backJump(fr, b, i)
		case in.IsConditional():
			return lo.branch(fr, b, i)
		}
		if err := lo.straight(fr, b, i); err != nil {
			return err
		}
		i = in.Next(i)
	}
}

// isTarget reports whether some jump, call or exit block leads to i.
func (lo *lowerer) isTarget(i int) bool { return lo.leaders()[i] }

// jump ends b with a jump to instruction i.
func (lo *lowerer) jump(fr *frame, b *block, i int) error {
	to, err := lo.at(fr, i)
	b.succs = []*block{to}
	return err
}

// backJump ends b with the unconditional jump at i, paying fuel when due.
func (lo *lowerer) backJump(fr *frame, b *block, i int) error {
	t, _ := lo.u.Insns[i].Target(i)
	lo.burn(b, i)
	return lo.jump(fr, b, t)
}

// burn adds the price of taking the jump at i.
func (lo *lowerer) burn(b *block, i int) {
	if n := lo.p.Fuel(i); n > 0 && lo.u.Insns[i].IsBackEdge(i) {
		lo.emit(b, &value{op: opFuel, imm: int64(n), insn: i})
	}
}

// branch ends b with the conditional jump at i.
func (lo *lowerer) branch(fr *frame, b *block, i int) error {
	in := lo.u.Insns[i]
	t, _ := in.Target(i)
	falls, jumps := lo.p.Ways(i)
	switch {
	case t == i+1:
		return lo.jump(fr, b, t)
	case !jumps:
		return lo.jump(fr, b, i+1)
	case !falls:
		return lo.backJump(fr, b, i)
	}
	b.term, b.cond, b.width = termBranch, in.Operation(), 8
	if in.Class() == bpf.ClassJMP32 {
		b.width = 4
	}
	b.args = []*value{lo.read(b, fr.regs+int(in.Dst)), lo.operand(fr, b, in, i)}
	// Both ways get a block of their own: no edge leaves a branch for a join.
	taken, fall := lo.newBlock(), lo.newBlock()
	b.succs = []*block{taken, fall}
	taken.insn, fall.insn = i, i
	lo.burn(taken, i)
	if err := lo.jump(fr, taken, t); err != nil {
		return err
	}
	return lo.jump(fr, fall, i+1)
}

// call inlines the local call at i.
func (lo *lowerer) call(fr *frame, b *block, i int) error {
	if fr.depth+1 >= maxDepth {
		return placeError(lo.u, i, "local calls nest too deep", ErrUnsupported)
	}
	after := lo.newBlock()
	callee := &frame{
		depth: fr.depth + 1, regs: fr.regs + bpf.NumRegs, base: fr.base - int64(lo.p.StackOf(i)),
		blocks: map[int]*block{}, ret: after,
	}
	for r := bpf.R1; r <= bpf.R5; r++ {
		lo.out[b][callee.regs+r] = lo.read(b, fr.regs+r)
	}
	lo.out[b][callee.regs+bpf.R10] = lo.emit(b, &value{op: opStack, width: 8, imm: callee.base, insn: i})
	t, _ := lo.u.Insns[i].Target(i)
	if err := lo.jump(callee, b, t); err != nil {
		return err
	}
	lo.out[after][fr.regs+bpf.R0] = lo.read(after, callee.regs+bpf.R0)
	after.insn = i
	return lo.translate(fr, after, i+1)
}

// exit ends b with the function's exit.
func (lo *lowerer) exit(fr *frame, b *block) {
	if fr.ret != nil {
		b.succs = []*block{fr.ret}
		return
	}
	e := &exit{verdict: lo.read(b, fr.regs+bpf.R0), code: lo.read(b, varCode)}
	for i := range lo.reads.words {
		e.words = append(e.words, lo.read(b, varWord0+i))
	}
	if lo.reads.xmm0 {
		e.xmm0 = lo.read(b, varXMM0)
	}
	if lo.reads.errno {
		e.errno = lo.read(b, varErrno)
	}
	b.term, b.exit = termExit, e
}

// emit appends v to b.
func (lo *lowerer) emit(b *block, v *value) *value {
	v.block = b
	b.values = append(b.values, v)
	return v
}

// read returns variable num at the current end of b.
func (lo *lowerer) read(b *block, num int) *value {
	if v := lo.out[b][num]; v != nil {
		return v
	}
	phi := &value{op: opPhi, width: 8, block: b, insn: b.insn}
	b.values = append([]*value{phi}, b.values...)
	lo.out[b][num] = phi
	lo.open = append(lo.open, openPhi{phi, b, num})
	return phi
}

// resolve gives every open phi its arguments, then drops those that join
// nothing.
func (lo *lowerer) resolve() {
	var phis []*value
	for len(lo.open) > 0 {
		o := lo.open[len(lo.open)-1]
		lo.open = lo.open[:len(lo.open)-1]
		if lo.roots[o.b] {
			*o.v = initial(o.num, o.b)
			continue
		}
		phis = append(phis, o.v)
		for _, p := range o.b.preds {
			o.v.args = append(o.v.args, lo.read(p, o.num))
		}
	}
	dropTrivialPhis(phis)
	for _, b := range lo.f.blocks {
		b.rewrite()
	}
}

// initial is what variable num holds when a root block is entered.
func initial(num int, b *block) value {
	v := value{op: opUndef, width: 8, block: b}
	switch num {
	case varCode:
		v.op = opConst
	case varRegs + bpf.R1:
		v.op = opFrame
	case varRegs + bpf.R10:
		v.op = opStack
	}
	return v
}

// leaders returns which instructions start a basic block.
func (lo *lowerer) leaders() []bool {
	if lo.starts != nil {
		return lo.starts
	}
	lo.starts = make([]bool, len(lo.u.Insns)+1)
	for i := 0; i < len(lo.u.Insns); i = lo.u.Insns[i].Next(i) {
		if t, ok := lo.u.Insns[i].Target(i); ok && t >= 0 && t < len(lo.starts) {
			lo.starts[t] = true
		}
	}
	return lo.starts
}
