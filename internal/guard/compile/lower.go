package compile

import (
	"fmt"
	"go/token"
	"go/types"
	"math"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Limits of one guard after inlining.
const (
	maxInsns  = 12_000 // in the intermediate form
	maxInline = 32     // functions inside one another
	callCost  = 4      // instructions that inlining a function counts as, if nothing is left of it
)

// lowerer builds the intermediate form of one guard.
type lowerer struct {
	m      *module
	cur    *block // where instructions go
	blocks []*block
	fault  *block // ends as a fault; shared
	sysv   bool   // calling convention of the guarded function

	library  bool     // what is lowered is libpie's own: errors are where it was called
	caps     bpf.Caps // what the file asks for
	rewrites uint16   // the argument words that SetArg changes
	base     reg      // how the frame is reached from here
	regs     reg      // the last one given
	most     map[reg]uint64
	symbols  []bpf.Symbol
	rodata   []byte
	texts    map[string]int32 // offsets in rodata
	chosen   chosen           // strings that are chosen when the guard runs
	slots    []*slot
	called   *slot // the block of bpf.HelperInvoke
	insns    int
	depth    int // of loops around the function being lowered
	pos      token.Pos
	err      *Error // the first; nothing counts after it
	active   []*ssa.Function
	mirrors  map[*types.Named]bool
}

func newLowerer(m *module) *lowerer {
	l := &lowerer{m: m, regs: firstReg - 1, base: frameReg, most: map[reg]uint64{}, texts: map[string]int32{}, chosen: newChosen(), mirrors: map[*types.Named]bool{}}
	l.cur = l.newBlock()
	return l
}

// value is what an SSA value has become. Most are scalars.
type value struct {
	parts    []operand // scalars in the order of leaves
	off      int64     // for a pointer into the target: to be added to parts[0], which was not yet checked for nil
	object   *object   // for a pointer to a state variable, or its words: parts is empty
	place    *place    // for a pointer to a local variable, or a slice of one: parts is empty
	text     *string   // for a constant string: parts is empty; other strings have two
	count    operand   // for a slice: how many elements it has, from place on
	room     operand   // for a slice: how many it can have
	verdict  *verdict  // for a libpie.Verdict: parts is empty
	result   *result   // for a libpie.Result: parts is empty
	tuple    []value   // for several results
	function *function // for a function value: parts is empty
}

func one(o operand) value { return value{parts: []operand{o}} }

// fail records the first error at the position being lowered.
func (l *lowerer) fail(instead, format string, args ...any) {
	if l.err == nil {
		l.err = &Error{Pos: l.m.place(l.pos), Msg: fmt.Sprintf(format, args...), Instead: instead}
	}
}

// at notes where what is lowered now stands in the prepatch.
func (l *lowerer) at(pos token.Pos) {
	if pos.IsValid() && !l.library {
		l.pos = pos
	}
}

func (l *lowerer) newBlock() *block {
	b := &block{depth: l.depth}
	l.blocks = append(l.blocks, b)
	if len(l.blocks) > maxInsns {
		l.tooLarge()
	}
	return b
}

func (l *lowerer) tooLarge() {
	l.fail("a guard is a short check; functions it calls are copied into it, each time", "the guard is too large")
}

func (l *lowerer) newReg() reg {
	l.regs++
	return l.regs
}

// emit appends i to the current block.
func (l *lowerer) emit(i insn) {
	if l.insns++; l.insns > maxInsns {
		l.tooLarge()
		return
	}
	i.pos = l.pos
	l.cur.insns = append(l.cur.insns, i)
}

// emitTo gives i a new register.
func (l *lowerer) emitTo(i insn) operand {
	i.dst = l.newReg()
	l.emit(i)
	return operand{r: i.dst}
}

// jump ends the current block; there is none until startBlock.
func (l *lowerer) jump(to *block) {
	l.cur.end, l.cur.to, l.cur.pos = endJump, [2]*block{to}, l.pos
}

func (l *lowerer) start(b *block) { l.cur = b }

// branch ends the current block on a comparison of 64-bit operands. A
// comparison of constants is decided here.
func (l *lowerer) branch(cond uint8, a, b operand, yes, no *block) {
	if taken, known := l.decide(cond, a, b); known {
		if !taken {
			yes = no
		}
		l.jump(yes)
		return
	}
	if a.isConst() {
		a, b, cond = b, a, mirrored[cond]
	}
	l.cur.end, l.cur.cond, l.cur.a, l.cur.b = endBranch, cond, a, b
	l.cur.to, l.cur.pos = [2]*block{yes, no}, l.pos
}

// faultIf ends the guard with its onfault where the comparison holds.
func (l *lowerer) faultIf(cond uint8, a, b operand) {
	if taken, known := l.decide(cond, a, b); known && !taken {
		return
	}
	next := l.newBlock()
	l.branch(cond, a, b, l.faultBlock(), next)
	l.start(next)
}

func (l *lowerer) faultBlock() *block {
	if l.fault == nil {
		l.fault = &block{end: endFault, pos: l.pos}
		l.blocks = append(l.blocks, l.fault)
	}
	return l.fault
}

// atMost returns what is known of o's unsigned value.
func (l *lowerer) atMost(o operand) uint64 {
	if o.isConst() {
		return uint64(o.c)
	}
	if n, ok := l.most[o.r]; ok {
		return n
	}
	return math.MaxUint64
}

// bound notes that o is at most n, unsigned: everywhere, and before it was noted, too.
// So o must be a new register, not one that other values of the guard are in.
func (l *lowerer) bound(o operand, n uint64) operand {
	if !o.isConst() && n < l.atMost(o) {
		l.most[o.r] = n
	}
	return o
}

// mov returns a new register that holds o.
func (l *lowerer) mov(o operand) operand { return l.emitTo(insn{op: opMov, a: o}) }

// inReg returns o in a register.
func (l *lowerer) inReg(o operand) operand {
	if o.isConst() {
		return l.mov(o)
	}
	return o
}

// copyTo sets the registers dst to src as if at once: a source may be a
// destination of another copy.
func (l *lowerer) copyTo(dst []reg, src []operand) {
	type pair struct {
		dst reg
		src operand
	}
	var left []pair
	for i, d := range dst {
		if src[i].r != d {
			left = append(left, pair{d, src[i]})
		}
	}
	for len(left) > 0 {
		ready := -1
		for i, p := range left {
			read := false
			for _, q := range left {
				read = read || q.src.r == p.dst
			}
			if !read {
				ready = i
				break
			}
		}
		if ready < 0 { // a cycle: free its first destination
			saved := l.mov(operand{r: left[0].dst})
			for i := range left {
				if left[i].src.r == left[0].dst {
					left[i].src = saved
				}
			}
			ready = 0
		}
		l.emit(insn{op: opMov, dst: left[ready].dst, a: left[ready].src})
		left = append(left[:ready], left[ready+1:]...)
	}
}
