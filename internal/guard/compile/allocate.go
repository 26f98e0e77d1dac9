package compile

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Registers are given by colouring the interference graph: registers that are
// live together get different colours, r0 to r9. Those that live across a helper
// call get r6 to r9. When colours run out, the register that is cheapest to keep
// elsewhere is spilled: recomputed before each use if it is a constant or a word
// of the frame, kept on the stack otherwise; then all starts again.

const colors = bpf.R10

// maxRounds bounds how often spilling starts again.
const maxRounds = 64

type colouring struct {
	n      int // registers
	edges  []bitset
	degree []int
	forbid []uint16 // colours a register cannot have
	near   [][]reg  // registers whose colour it would like to share
	hint   []int8   // a colour it would like, −1 for none
	weight []float64
	used   bitset
}

// assign returns the colour of each register.
func (l *lowerer) assign(order []*block) ([]int8, *Error) {
	fixed := newBitset(int(l.regs) + 1) // made by spilling: not to be spilled again
	for range maxRounds {
		n := int(l.regs) + 1
		out := liveness(order, n)
		sweep(order, out, n)
		c := interference(order, out, n)
		grown := newBitset(n)
		grown.copyFrom(fixed)
		fixed = grown
		color, spilled := c.colour(fixed)
		if len(spilled) == 0 {
			return color, l.placeSlots(order)
		}
		for _, r := range spilled {
			l.spill(order, r, &fixed)
		}
	}
	return nil, &Error{Pos: l.m.place(order[0].pos), Msg: "the guard needs too many values at once", Instead: "check one thing after the other"}
}

func interference(order []*block, out []bitset, n int) *colouring {
	c := &colouring{n: n, edges: make([]bitset, n), degree: make([]int, n), forbid: make([]uint16, n),
		near: make([][]reg, n), hint: make([]int8, n), weight: make([]float64, n), used: newBitset(n)}
	for i := range c.hint {
		c.hint[i] = -1
	}
	live := newBitset(n)
	for id, b := range order {
		live.copyFrom(out[id])
		cost := math.Pow(8, float64(min(b.depth, 6)))
		b.endUses(func(o *operand) { live.add(o.r); c.weight[o.r] += cost; c.used.add(o.r) })
		for k := len(b.insns) - 1; k >= 0; k-- {
			c.insn(&b.insns[k], live, cost)
		}
	}
	// The frame is in r1 at the entry, landingReg always.
	c.hint[frameReg] = bpf.R1
	c.forbid[landingReg] = ^uint16(1 << bpf.R1)
	return c
}

// insn adds the edges of one instruction; live is what is live behind it, and
// becomes what is before it.
func (c *colouring) insn(i *insn, live bitset, cost float64) {
	if i.dst != 0 {
		c.used.add(i.dst)
		c.weight[i.dst] += cost
		live.each(func(r reg) {
			if r != i.dst && (i.op != opMov || r != i.a.r) {
				c.edge(i.dst, r)
			}
		})
		live.remove(i.dst)
		// dst is written before b is read.
		if i.op == opALU && !commutes(i.alu) && i.b.r != 0 && i.b.r != i.a.r {
			c.edge(i.dst, i.b.r)
		}
		if i.op == opALU && i.a.isConst() && i.b.r != 0 {
			c.edge(i.dst, i.b.r)
		}
		if i.a.r != 0 && (i.op == opMov || i.op == opALU || i.op == opExtend || i.op == opSwap) {
			c.near[i.dst] = append(c.near[i.dst], i.a.r)
			c.near[i.a.r] = append(c.near[i.a.r], i.dst)
		}
	}
	switch i.op {
	case opFetchAdd: // dst is written before a is read
		c.edge(i.dst, i.a.r)
	case opSwapWord: // r0 holds what is expected, then what was there
		live.each(func(r reg) { c.forbid[r] |= 1 << bpf.R0 })
		c.hint[i.dst] = bpf.R0
		for _, o := range []operand{i.a, i.b} {
			c.forbid[o.r] |= 1 << bpf.R0 // of no register, where o is a constant
		}
	}
	if i.op == opCall {
		live.each(func(r reg) { c.forbid[r] |= 1<<(bpf.R5+1) - 1 })
		c.hint[i.dst] = bpf.R0
		for k, a := range i.args {
			if a.r != 0 && c.hint[a.r] < 0 {
				c.hint[a.r] = int8(bpf.R1 + k)
			}
		}
	}
	i.uses(func(o *operand) { live.add(o.r); c.weight[o.r] += cost; c.used.add(o.r) })
}

func commutes(alu uint8) bool {
	switch alu {
	case bpf.AluADD, bpf.AluMUL, bpf.AluAND, bpf.AluOR, bpf.AluXOR:
		return true
	}
	return false
}

func (c *colouring) edge(a, b reg) {
	if a == b {
		return
	}
	for _, p := range [2][2]reg{{a, b}, {b, a}} {
		if c.edges[p[0]] == nil {
			c.edges[p[0]] = newBitset(c.n)
		}
		if !c.edges[p[0]].has(p[1]) {
			c.edges[p[0]].add(p[1])
			c.degree[p[0]]++
		}
	}
}

// colour colours every register that is used, or says which to spill.
func (c *colouring) colour(fixed bitset) (color []int8, spilled []reg) {
	stack := c.simplify(fixed)
	color = make([]int8, c.n)
	for i := range color {
		color[i] = -1
	}
	for k := len(stack) - 1; k >= 0; k-- {
		r := stack[k]
		taken := c.forbid[r]
		if c.edges[r] != nil {
			c.edges[r].each(func(o reg) {
				if color[o] >= 0 {
					taken |= 1 << color[o]
				}
			})
		}
		if color[r] = c.pick(r, taken, color); color[r] < 0 {
			spilled = append(spilled, r)
		}
	}
	return color, spilled
}

// simplify orders the registers: the last is coloured first. One with fewer
// neighbours than colours can always be coloured after them.
func (c *colouring) simplify(fixed bitset) []reg {
	degree := append([]int(nil), c.degree...)
	left := newBitset(c.n)
	left.copyFrom(c.used)
	var stack, easy []reg
	count := 0
	left.each(func(r reg) {
		count++
		if degree[r] < c.room(r) {
			easy = append(easy, r)
		}
	})
	for count > 0 {
		var r reg
		for len(easy) > 0 && r == 0 {
			if last := easy[len(easy)-1]; left.has(last) {
				r = last
			}
			easy = easy[:len(easy)-1]
		}
		if r == 0 {
			r = c.cheapest(left, degree, fixed)
		}
		left.remove(r)
		count--
		stack = append(stack, r)
		if c.edges[r] == nil {
			continue
		}
		c.edges[r].each(func(o reg) {
			if degree[o]--; left.has(o) && degree[o] == c.room(o)-1 {
				easy = append(easy, o)
			}
		})
	}
	return stack
}

// room is how many colours r can have.
func (c *colouring) room(r reg) int {
	n := 0
	for k := range colors {
		if c.forbid[r]&(1<<k) == 0 {
			n++
		}
	}
	return n
}

// cheapest picks what to spill: little used, in the way of many.
func (c *colouring) cheapest(left bitset, degree []int, fixed bitset) reg {
	best, cost := reg(0), math.Inf(1)
	left.each(func(r reg) {
		w := c.weight[r] / float64(degree[r]+1)
		if r == frameReg || r == landingReg || fixed.has(r) {
			w += 1e12
		}
		if best == 0 || w < cost {
			best, cost = r, w
		}
	})
	return best
}

// pick chooses a colour outside taken: one that saves a copy if there is one.
func (c *colouring) pick(r reg, taken uint16, color []int8) int8 {
	free := func(k int8) bool { return k >= 0 && taken&(1<<k) == 0 }
	if free(c.hint[r]) {
		return c.hint[r]
	}
	for _, o := range c.near[r] {
		if free(color[o]) {
			return color[o]
		}
	}
	for _, k := range []int8{bpf.R0, bpf.R2, bpf.R3, bpf.R4, bpf.R5, bpf.R1, bpf.R6, bpf.R7, bpf.R8, bpf.R9} {
		if free(k) {
			return k
		}
	}
	return -1
}
