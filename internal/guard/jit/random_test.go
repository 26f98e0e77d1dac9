package jit

import (
	"math/rand/v2"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// generator writes random guards that keep the contract of package bpf: r9 is
// the frame, r10 the stack, the others numbers. Every path ends.
type generator struct {
	*rand.Rand
	insns  []bpf.Insn
	loops  int
	target []uint64 // addresses to read at
	abi    ABI
	calls  []int   // local calls whose target is not known yet
	few    []uint8 // the only registers of a small guard; nil: all

	inCallee bool
}

const genRegs = 9 // r0 to r8

func (g *generator) emit(in ...bpf.Insn) { g.insns = append(g.insns, in...) }

// number returns constants that break things more often than others.
func (g *generator) number() int32 {
	odd := []int32{0, 1, -1, 2, 7, 8, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7fffffff, -0x80000000, 0xffff, 0x10000}
	if g.IntN(3) > 0 {
		return odd[g.IntN(len(odd))]
	}
	return int32(g.Uint32())
}

func (g *generator) wide(dst uint8, v uint64) {
	w := bpf.LoadImm64(dst, v)
	g.emit(w[0], w[1])
}

// small has a guard use a few registers and as many words of the stack, so that
// there is little of it around its body.
func (g *generator) small() {
	others := []uint8{2, 3, 4, 5, 6, 7, 8}
	g.Shuffle(len(others), func(i, k int) { others[i], others[k] = others[k], others[i] })
	g.few = append(others[:1+g.IntN(3)], bpf.R0) // r0 is what helpers and atomics answer in
}

// uses reports whether a guard has a register to compute with.
func (g *generator) uses(r uint8) bool {
	return r != bpf.R1 && (g.few == nil || slices.Contains(g.few, r))
}

// words is how many words of the stack a guard has.
func (g *generator) words() int {
	if g.few == nil {
		return 8
	}
	return len(g.few)
}

// word is the offset of one of them.
func (g *generator) word() int16 { return -8 * int16(1+g.IntN(g.words())) }

// reg returns a register to write: r0 to r8 but r1, which may be the frame.
func (g *generator) reg() uint8 {
	if g.few != nil {
		return g.few[g.IntN(len(g.few))]
	}
	for {
		if r := uint8(g.IntN(genRegs)); r != bpf.R1 {
			return r
		}
	}
}

// unit returns a whole guard.
func (g *generator) unit(size int) *bpf.Unit {
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R9, Src: bpf.R1})
	for r := uint8(0); r < genRegs; r++ {
		switch {
		case !g.uses(r):
		case g.IntN(3) == 0:
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: r, Imm: g.number()})
		case g.IntN(3) == 0:
			g.wide(r, g.Uint64())
		default:
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R1, Off: int16(8 * g.IntN(len(conventionOf(g.abi).args)))})
		}
	}
	for off := int16(-8 * g.words()); off < 0; off += 8 {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: g.reg(), Off: off})
	}
	g.body(size, 0)
	g.leave()
	return g.close()
}

// close ends a guard's code with its landings and the functions it calls.
func (g *generator) close() *bpf.Unit {
	u := &bpf.Unit{Name: "random", OnFault: len(g.insns), Caps: bpf.CapRewrite | bpf.CapWrite, Symbols: []bpf.Symbol{{Name: "f", Kind: bpf.SymbolFunc}}}
	g.landing(-77)
	u.OnFuel = len(g.insns)
	g.landing(-88)
	g.callees()
	u.Insns = g.insns
	switch g.IntN(6) {
	case 0:
		u.Fuel = uint32(g.IntN(20) + 1)
	case 1:
		u.Fuel = uint32(g.IntN(200) + 1)
	default:
		if g.few != nil { // all the fuel that there is takes long to interpret
			u.Fuel = 500
		}
	}
	u.State = stateSize
	if g.abi == SysV {
		u.Caps |= bpf.CapCall
		u.State += bpf.InsideSize
	}
	u.Rodata = []byte("a needle, and then some; \x00\x01\xff")
	return u
}

// landing rejects with a result of its own.
func (g *generator) landing(result int32) {
	g.emit(
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 2, Imm: result},
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: 2, Off: bpf.FrameResult},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 0, Imm: int32(bpf.Reject(1, 0))},
		bpf.Insn{Op: bpf.OpEXIT},
	)
}

// leave ends the guard: a reject with two words tells most about the registers.
func (g *generator) leave() {
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R1, Src: bpf.R9})
	if g.IntN(4) == 0 {
		g.emit(
			bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: g.reg(), Off: bpf.FrameCode},
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 0, Imm: int32(bpf.VerdictLog)},
			bpf.Insn{Op: bpf.OpEXIT},
		)
		return
	}
	if g.IntN(6) == 0 {
		g.rewrite()
		return
	}
	// One word mixes all registers, the other a few bytes of the stack.
	r, s := g.reg(), g.reg()
	for k := uint8(0); k < genRegs; k++ {
		if g.uses(k) && k != r {
			g.emit(
				bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMUL, Dst: r, Imm: 31},
				bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: r, Src: k},
			)
		}
	}
	g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: r, Off: bpf.FrameResult})
	g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: s, Src: bpf.R10, Off: g.word()})
	g.emit(
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: s, Off: bpf.FrameResult + 8},
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: s, Off: bpf.FrameErrno},
	)
	verdict := bpf.Reject(2, bpf.VerdictErrno|bpf.VerdictXMM0)
	if g.abi == GoInternal {
		verdict = bpf.Reject(bpf.FrameResults, bpf.VerdictErrno)
		for w := 2; w < bpf.FrameResults; w++ {
			g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: g.reg(), Off: bpf.FrameResult + 8*int16(w)})
		}
	} else {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: 1, Src: r, Off: bpf.FrameXMM0})
	}
	g.emit(
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 0, Imm: int32(verdict)},
		bpf.Insn{Op: bpf.OpEXIT},
	)
}

// rewrite ends the guard with other arguments: any registers, or other arguments.
func (g *generator) rewrite() {
	n := len(conventionOf(g.abi).args)
	mask := uint16(1 + g.IntN(1<<n-1))
	for i := range n {
		if mask&(1<<i) == 0 {
			continue
		}
		r := g.reg()
		if g.IntN(2) == 0 {
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R1, Off: int16(8 * g.IntN(n))})
		}
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R1, Src: r, Off: bpf.FrameResult + 8*int16(i)})
	}
	g.emit(
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 0, Imm: int32(bpf.Rewrite(mask))},
		bpf.Insn{Op: bpf.OpEXIT},
	)
}

// body writes n steps at a nesting depth.
func (g *generator) body(n, depth int) {
	for range n {
		switch k := g.IntN(20); {
		case k < 8:
			g.alu()
		case k < 9:
			[]func(){g.extend, g.rotate, g.chase}[g.IntN(3)]()
		case k < 12:
			g.stack()
		case k < 14:
			g.read()
		case k < 15:
			[]func(){g.helper, g.helper, g.ownMemory, g.call, g.state, g.state, g.write, g.write, g.invoke}[g.IntN(9)]()
		case k < 18 && depth < 3:
			g.branch(depth)
		case depth < 2 && g.loops < 3:
			g.loop(depth)
		}
	}
}

func (g *generator) alu() {
	ops := []uint8{
		bpf.AluADD, bpf.AluSUB, bpf.AluMUL, bpf.AluDIV, bpf.AluOR, bpf.AluAND, bpf.AluLSH, bpf.AluRSH,
		bpf.AluNEG, bpf.AluMOD, bpf.AluXOR, bpf.AluMOV, bpf.AluARSH, bpf.AluEND,
	}
	in := bpf.Insn{Op: bpf.ClassALU64 | ops[g.IntN(len(ops))], Dst: g.reg()}
	wide := g.IntN(2) == 0
	if !wide {
		in.Op = in.Op&^7 | bpf.ClassALU
	}
	switch in.Operation() {
	case bpf.AluNEG:
		g.emit(in)
		return
	case bpf.AluEND:
		in.Imm = []int32{16, 32, 64}[g.IntN(3)]
		if !wide && g.IntN(2) == 0 {
			in.Op |= bpf.SrcX
		}
		g.emit(in)
		return
	}
	if g.IntN(2) == 0 {
		in.Op |= bpf.SrcX
		in.Src = g.reg()
	} else {
		in.Imm = g.number()
	}
	switch o := in.Operation(); {
	case (o == bpf.AluDIV || o == bpf.AluMOD) && g.IntN(2) == 0:
		in.Off = 1
	case o == bpf.AluMOV && in.Op&bpf.SrcX != 0 && g.IntN(2) == 0:
		in.Off = []int16{8, 16, 32}[g.IntN(3)]
		if !wide && in.Off == 32 {
			in.Off = 16
		}
	case (o == bpf.AluLSH || o == bpf.AluRSH || o == bpf.AluARSH) && in.Op&bpf.SrcX == 0:
		in.Imm &= 63
		if !wide {
			in.Imm &= 31
		}
	}
	g.emit(in)
}

// extend shifts up and down again, as compilers extend, or extends and compares.
func (g *generator) extend() {
	r, n := g.reg(), []int32{32, 48, 56, 40}[g.IntN(4)]
	down := []uint8{bpf.AluRSH, bpf.AluARSH}[g.IntN(2)]
	switch g.IntN(3) {
	case 0:
		g.emit(
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluLSH, Dst: r, Imm: n},
			bpf.Insn{Op: bpf.ClassALU64 | down, Dst: r, Imm: n},
		)
		return
	case 1:
		g.emit(bpf.Insn{Op: bpf.ClassALU | bpf.AluMOV | bpf.SrcX, Dst: r, Src: g.reg()})
	default:
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: r, Src: g.reg(), Off: 32})
	}
	ops := []uint8{bpf.JmpSGT, bpf.JmpSGE, bpf.JmpSLT, bpf.JmpSLE, bpf.JmpGT, bpf.JmpLT}
	g.emit(
		bpf.Insn{Op: bpf.ClassJMP | ops[g.IntN(len(ops))], Dst: r, Imm: g.number(), Off: 1},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: g.reg(), Imm: 1},
	)
}

// rotate exchanges registers: around a loop that is a cycle of moves.
func (g *generator) rotate() {
	if g.few != nil {
		return
	}
	mov := func(dst, src uint8) bpf.Insn {
		return bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: dst, Src: src}
	}
	g.emit(mov(0, 2), mov(2, 3), mov(3, 4), mov(4, 0))
	if g.IntN(2) == 0 {
		g.emit(mov(0, 5), mov(5, 7), mov(7, 0))
	}
}

// call calls a function that callees writes.
func (g *generator) call() {
	if g.inCallee || g.few != nil {
		return
	}
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 1, Src: 8})
	g.calls = append(g.calls, len(g.insns))
	g.emit(bpf.Insn{Op: bpf.OpCALL, Src: bpf.CallLocal})
	g.renew()
}

// callees writes up to two functions of five numbers and leads the calls to them.
func (g *generator) callees() {
	g.inCallee = true
	for len(g.calls) > 0 {
		at, n := len(g.insns), 1+g.IntN(len(g.calls))
		for r := uint8(0); r <= 8; r++ {
			if r == 0 || r > 5 {
				g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: r, Src: uint8(1 + g.IntN(5))})
			}
		}
		for off := int16(-64); off < 0; off += 8 {
			g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: uint8(g.IntN(9)), Off: off})
		}
		g.body(4+g.IntN(8), 2)
		g.emit(bpf.Insn{Op: bpf.OpEXIT})
		for _, c := range g.calls[:n] {
			g.insns[c].Imm = int32(at - c - 1)
		}
		g.calls = g.calls[n:]
	}
}

// branch jumps over a few steps, or chooses between two courses.
func (g *generator) branch(depth int) {
	in := g.condition()
	at := len(g.insns)
	g.emit(in)
	g.body(1+g.IntN(4), depth+1)
	switch k := g.IntN(3); {
	case k == 0 && !g.inCallee: // a way out of its own
		g.leave()
		g.insns[at].Off = int16(len(g.insns) - at - 1)
	case k == 1:
		g.insns[at].Off = int16(len(g.insns) - at - 1)
	default:
		over := len(g.insns)
		g.emit(bpf.Insn{Op: bpf.OpJA})
		g.insns[at].Off = int16(len(g.insns) - at - 1)
		g.body(1+g.IntN(4), depth+1)
		g.insns[over].Off = int16(len(g.insns) - over - 1)
	}
}

// condition is a comparison whose target is not known yet.
func (g *generator) condition() bpf.Insn {
	ops := []uint8{
		bpf.JmpEQ, bpf.JmpGT, bpf.JmpGE, bpf.JmpSET, bpf.JmpNE, bpf.JmpSGT, bpf.JmpSGE, bpf.JmpLT, bpf.JmpLE,
		bpf.JmpSLT, bpf.JmpSLE,
	}
	in := bpf.Insn{Op: bpf.ClassJMP | ops[g.IntN(len(ops))], Dst: g.reg()}
	if g.IntN(2) == 0 {
		in.Op = in.Op&^7 | bpf.ClassJMP32
	}
	if g.IntN(2) == 0 {
		in.Op |= bpf.SrcX
		in.Src = g.reg()
	} else {
		in.Imm = g.number()
	}
	return in
}

// loop counts down on the stack, so that its end does not hang on the body.
func (g *generator) loop(depth int) {
	off := int16(-72 - 8*g.loops)
	g.loops++
	g.emit(bpf.Insn{Op: bpf.ClassST | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Off: off, Imm: int32(1 + g.IntN(12))})
	top := len(g.insns)
	g.body(1+g.IntN(5), depth+1)
	r := g.reg()
	back := bpf.Insn{Op: bpf.ClassJMP | bpf.JmpNE, Dst: r}
	g.emit(
		bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R10, Off: off},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluSUB, Dst: r, Imm: 1},
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: r, Off: off},
	)
	back.Off = int16(top - len(g.insns) - 1)
	g.emit(back)
}
