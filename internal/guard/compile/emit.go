package compile

import (
	"go/token"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// emitter writes the instructions of a guard whose registers have colours.
type emitter struct {
	l      *lowerer
	order  []*block
	color  []int8
	insns  []bpf.Insn
	pos    []bpf.Pos
	start  []int // of each block, by id
	jumps  []jump
	at     bpf.Pos
	places map[token.Pos]bpf.Pos
}

// jump is a jump whose distance is not known yet.
type jump struct {
	insn int
	to   *block
}

func (e *emitter) unit(onFault, onFuel *block) *bpf.Unit {
	e.places = map[token.Pos]bpf.Pos{}
	e.dropEmpty()
	e.start = make([]int, len(e.order))
	for i, b := range e.order {
		b.id = i
		e.start[i] = len(e.insns)
		if i == 0 {
			e.move(e.colorOf(frameReg), bpf.R1)
		}
		for k := range b.insns {
			e.setPos(b.insns[k].pos)
			e.insn(&b.insns[k])
		}
		e.setPos(b.pos)
		var next *block
		if i+1 < len(e.order) {
			next = e.order[i+1]
		}
		e.end(b, next)
	}
	for _, j := range e.jumps {
		e.insns[j.insn].Off = int16(e.start[j.to.id] - j.insn - 1)
	}
	return &bpf.Unit{Insns: e.insns, Pos: e.pos, Symbols: e.l.symbols, Rodata: e.l.rodata,
		OnFault: e.start[onFault.id], OnFuel: e.start[onFuel.id]}
}

// dropEmpty removes blocks that only jump, now that moves within one machine
// register are none.
func (e *emitter) dropEmpty() {
	empty := func(b *block) bool {
		for i := range b.insns {
			if m := &b.insns[i]; m.op != opMov || m.a.isConst() || e.colorOf(m.dst) != e.colorOf(m.a.r) {
				return false
			}
		}
		return b.end == endJump && b != e.order[0] && b.to[0] != b
	}
	var kept []*block
	for _, b := range e.order {
		for i := range b.succs() {
			for range len(e.order) {
				if !empty(b.to[i]) {
					break
				}
				b.to[i] = b.to[i].to[0]
			}
		}
		if !empty(b) {
			kept = append(kept, b)
		}
	}
	// A ring of empty blocks is an endless loop, and stays one.
	if ring := e.ring(kept); ring == nil {
		e.order = kept
	}
}

// ring returns a target of kept blocks that is not kept.
func (e *emitter) ring(kept []*block) *block {
	in := map[*block]bool{}
	for _, b := range kept {
		in[b] = true
	}
	for _, b := range kept {
		for _, s := range b.succs() {
			if !in[s] {
				return s
			}
		}
	}
	return nil
}

func (e *emitter) setPos(p token.Pos) {
	at, ok := e.places[p]
	if !ok {
		at = e.l.m.place(p)
		e.places[p] = at
	}
	e.at = at
}

// colorOf returns the machine register of r. The frame's is r1 if nobody reads it.
func (e *emitter) colorOf(r reg) uint8 {
	if c := e.color[r]; c >= 0 {
		return uint8(c)
	}
	return bpf.R1
}

func (e *emitter) put(i bpf.Insn) {
	e.insns = append(e.insns, i)
	e.pos = append(e.pos, e.at)
}

func (e *emitter) move(dst, src uint8) {
	if dst != src {
		e.put(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: dst, Src: src})
	}
}

// load sets dst to a constant.
func (e *emitter) load(dst uint8, c int64) {
	if int64(int32(c)) == c {
		e.put(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: dst, Imm: int32(c)})
		return
	}
	e.wide(dst, 0, c)
}

func (e *emitter) wide(dst, pseudo uint8, c int64) {
	e.put(bpf.Insn{Op: bpf.OpLDDW, Dst: dst, Src: pseudo, Imm: int32(c)})
	e.put(bpf.Insn{Imm: int32(c >> 32)})
}

// set makes dst hold o.
func (e *emitter) set(dst uint8, o operand) {
	if o.isConst() {
		e.load(dst, o.c)
	} else {
		e.move(dst, e.colorOf(o.r))
	}
}

// alu emits dst = dst op o.
func (e *emitter) alu(op, dst uint8, o operand, off int16) {
	if o.isConst() {
		e.put(bpf.Insn{Op: bpf.ClassALU64 | op, Dst: dst, Off: off, Imm: int32(o.c)})
	} else {
		e.put(bpf.Insn{Op: bpf.ClassALU64 | op | bpf.SrcX, Dst: dst, Src: e.colorOf(o.r), Off: off})
	}
}

func (e *emitter) insn(i *insn) {
	var dst uint8
	if i.dst != 0 {
		dst = e.colorOf(i.dst)
	}
	switch i.op {
	case opMov:
		e.set(dst, i.a)
	case opALU:
		e.arithmetic(i, dst)
	case opExtend:
		e.extend(i, dst)
	case opSwap:
		e.move(dst, e.colorOf(i.a.r))
		e.put(bpf.Insn{Op: bpf.ClassALU | bpf.AluEND | bpf.SrcX, Dst: dst, Imm: int32(i.size) * 8})
	case opLoad:
		e.put(bpf.Insn{Op: loadOp(i), Dst: dst, Src: e.colorOf(i.a.r), Off: int16(i.off)})
	case opFrameLoad:
		e.put(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: dst, Src: e.colorOf(i.base), Off: int16(i.off)})
	case opFrameStore:
		e.put(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW, Dst: e.colorOf(i.base), Src: e.colorOf(i.a.r), Off: int16(i.off)})
	case opStackAddr:
		e.stackAddr(i, dst)
	case opStackLoad:
		e.put(bpf.Insn{Op: loadOp(i), Dst: dst, Src: e.stackBase(i), Off: int16(i.slot.at) + int16(i.off)})
	case opStackStore:
		e.stackStore(i)
	case opSymbol:
		e.wide(dst, bpf.PseudoSymbol, int64(i.off))
	case opRodata:
		e.wide(dst, bpf.PseudoRodata, int64(i.off))
	case opState:
		e.wide(dst, bpf.PseudoState, int64(i.off))
	case opStore, opFetchAdd, opSwapWord:
		e.memory(i, dst)
	case opCall:
		e.call(i, dst)
	}
}

func (e *emitter) arithmetic(i *insn, dst uint8) {
	off := int16(0)
	if i.signed && (i.alu == bpf.AluDIV || i.alu == bpf.AluMOD) {
		off = 1
	}
	a, b := i.a, i.b
	if !b.isConst() && commutes(i.alu) && e.colorOf(b.r) == dst {
		a, b = b, a
	}
	e.set(dst, a)
	e.alu(i.alu, dst, b, off)
}

func (e *emitter) extend(i *insn, dst uint8) {
	src := e.colorOf(i.a.r)
	switch {
	case i.signed:
		e.put(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: dst, Src: src, Off: int16(i.size) * 8})
	case i.size == 4:
		e.put(bpf.Insn{Op: bpf.ClassALU | bpf.AluMOV | bpf.SrcX, Dst: dst, Src: src})
	default:
		e.move(dst, src)
		e.put(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: dst, Imm: 1<<(8*i.size) - 1})
	}
}

var sizes = map[uint8]uint8{1: bpf.SizeB, 2: bpf.SizeH, 4: bpf.SizeW, 8: bpf.SizeDW}

func loadOp(i *insn) uint8 {
	if i.signed && i.size < 8 {
		return bpf.ClassLDX | bpf.ModeMEMSX | sizes[i.size]
	}
	return bpf.ClassLDX | bpf.ModeMEM | sizes[i.size]
}

func (e *emitter) stackAddr(i *insn, dst uint8) {
	if i.slot != nil {
		e.move(dst, bpf.R10)
		e.alu(bpf.AluADD, dst, operand{c: i.slot.at}, 0)
		return
	}
	if e.colorOf(i.a.r) == dst {
		e.put(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: dst, Src: bpf.R10})
		return
	}
	e.move(dst, bpf.R10)
	e.alu(bpf.AluADD, dst, i.a, 0)
}

// stackBase is the register a stack access starts from.
func (e *emitter) stackBase(i *insn) uint8 {
	if i.a.isConst() {
		return bpf.R10
	}
	return e.colorOf(i.a.r)
}

func (e *emitter) stackStore(i *insn) {
	out := bpf.Insn{Dst: e.stackBase(i), Off: int16(i.slot.at) + int16(i.off)}
	if i.b.isConst() {
		out.Op, out.Imm = bpf.ClassST|bpf.ModeMEM|sizes[i.size], int32(i.b.c)
	} else {
		out.Op, out.Src = bpf.ClassSTX|bpf.ModeMEM|sizes[i.size], e.colorOf(i.b.r)
	}
	e.put(out)
}

// call moves the arguments to r1–r5 as if at once, and calls.
func (e *emitter) call(i *insn, dst uint8) {
	var moved [6]bool
	for range i.args {
		progress := false
		for k := range i.args {
			if to := uint8(bpf.R1 + k); !moved[k] && !e.awaited(i.args, moved, to, k) {
				e.set(to, i.args[k])
				moved[k], progress = true, true
			}
		}
		if !progress {
			break
		}
	}
	// What is left are cycles within r1–r5; then nothing is in r0 any more.
	for k := range i.args {
		if moved[k] {
			continue
		}
		e.move(bpf.R0, uint8(bpf.R1+k))
		hole := k
		for {
			src := e.colorOf(i.args[hole].r)
			moved[hole] = true
			if src == uint8(bpf.R1+k) {
				e.move(uint8(bpf.R1+hole), bpf.R0)
				break
			}
			e.move(uint8(bpf.R1+hole), src)
			hole = int(src) - bpf.R1
		}
	}
	e.put(bpf.Insn{Op: bpf.OpCALL, Imm: i.off})
	e.move(dst, bpf.R0)
}

// awaited reports whether an argument other than k that was not moved yet is in to.
func (e *emitter) awaited(args []operand, moved [6]bool, to uint8, k int) bool {
	for n, a := range args {
		if n != k && !moved[n] && !a.isConst() && e.colorOf(a.r) == to {
			return true
		}
	}
	return false
}

// end leaves b; next is the block that follows in memory.
func (e *emitter) end(b, next *block) {
	switch b.end {
	case endJump:
		e.jumpTo(b.to[0], next)
	case endBranch:
		cond, yes, no := b.cond, b.to[0], b.to[1]
		if yes == next {
			cond, yes, no = negated[cond], no, yes
		}
		out := bpf.Insn{Op: bpf.ClassJMP | cond, Dst: e.colorOf(b.a.r)}
		if b.b.isConst() {
			out.Imm = int32(b.b.c)
		} else {
			out.Op |= bpf.SrcX
			out.Src = e.colorOf(b.b.r)
		}
		e.jumps = append(e.jumps, jump{len(e.insns), yes})
		e.put(out)
		e.jumpTo(no, next)
	case endExit:
		e.load(bpf.R0, int64(b.verdict))
		e.put(bpf.Insn{Op: bpf.OpEXIT})
	case endFault:
		// A read of address 0 faults everywhere, and is counted as a fault.
		// What follows is the landing, which wants the frame in r1.
		e.move(bpf.R1, e.colorOf(frameReg))
		e.load(bpf.R0, 0)
		e.put(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeB, Dst: bpf.R0, Src: bpf.R0})
	}
}

func (e *emitter) jumpTo(to, next *block) {
	if to == next {
		return
	}
	e.jumps = append(e.jumps, jump{len(e.insns), to})
	e.put(bpf.Insn{Op: bpf.OpJA})
}
