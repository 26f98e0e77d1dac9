package verify

import (
	"math/rand/v2"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A generator writes random programs that are right more often than chance
// would have it: registers are mostly initialised, loops mostly count, accesses
// mostly hit. What is left to chance is what the verifier must judge.
type generator struct {
	r     *rand.Rand
	insns []bpf.Insn
	// plain leaves out what the kernel does not have: the target, its symbols,
	// constants and helpers, and loops without end.
	plain bool
}

func (g *generator) emit(i ...bpf.Insn) { g.insns = append(g.insns, i...) }

func (g *generator) reg() uint8 { return uint8(g.r.IntN(10)) }

// imm is a small number, or an edge.
func (g *generator) imm() int32 {
	switch g.r.IntN(4) {
	case 0:
		return int32(g.r.Uint32())
	case 1:
		return int32(1)<<g.r.IntN(32) - int32(g.r.IntN(2))
	}
	return int32(g.r.IntN(64)) - 8
}

var aluOps = []uint8{bpf.AluADD, bpf.AluSUB, bpf.AluMUL, bpf.AluDIV, bpf.AluOR, bpf.AluAND, bpf.AluLSH, bpf.AluRSH,
	bpf.AluNEG, bpf.AluMOD, bpf.AluXOR, bpf.AluMOV, bpf.AluARSH, bpf.AluMOV, bpf.AluADD, bpf.AluAND, bpf.AluEND}

func (g *generator) alu() {
	i := bpf.Insn{Op: aluOps[g.r.IntN(len(aluOps))], Dst: g.reg()}
	i.Op |= []uint8{bpf.ClassALU, bpf.ClassALU64}[g.r.IntN(2)]
	switch {
	case i.Operation() == bpf.AluNEG:
	case i.Operation() == bpf.AluEND:
		i.Imm = 16 << g.r.IntN(3)
	case g.r.IntN(2) == 0:
		i.Op |= bpf.SrcX
		i.Src = g.reg()
		if i.Operation() == bpf.AluMOV && g.r.IntN(3) == 0 {
			i.Off = 8 << g.r.IntN(3)
		}
		if i.Operation() == bpf.AluADD && g.r.IntN(8) == 0 {
			i.Src = bpf.R10
		}
	default:
		i.Imm = g.imm()
		if op := i.Operation(); op == bpf.AluLSH || op == bpf.AluRSH || op == bpf.AluARSH {
			i.Imm = int32(g.r.IntN(32))
		}
	}
	if op := i.Operation(); (op == bpf.AluDIV || op == bpf.AluMOD) && g.r.IntN(2) == 0 {
		i.Off = 1
	}
	g.emit(i)
}

// sizes by chance; whole words most often.
func (g *generator) size() uint8 {
	return []uint8{bpf.SizeDW, bpf.SizeDW, bpf.SizeDW, bpf.SizeW, bpf.SizeH, bpf.SizeB}[g.r.IntN(6)]
}

// near is an offset on a small stack, mostly aligned, so that accesses meet.
func (g *generator) near() int16 {
	off := -8 * int16(1+g.r.IntN(5))
	if g.r.IntN(4) == 0 {
		off += int16(g.r.IntN(8))
	}
	return off
}

// state is an access to the prepatch's state, mostly a good one.
func (g *generator) state() {
	x, p := g.reg(), g.reg()
	mask := int32(7)
	if g.r.IntN(6) == 0 {
		mask = g.imm()
	}
	base := bpf.LoadImm64(p, uint64(8*g.r.IntN(9)))
	base[0].Src = bpf.PseudoState
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: x, Imm: mask},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluLSH, Dst: x, Imm: 3 - int32(g.r.IntN(16)/15)})
	g.emit(base[:]...)
	if g.r.IntN(4) > 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: p, Src: x})
	}
	i := bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeDW, Dst: p, Src: g.reg(), Off: 8 * int16(g.r.IntN(8)-1)}
	switch g.r.IntN(4) {
	case 0:
		i.Op, i.Dst, i.Src = bpf.ClassLDX|bpf.ModeMEM|bpf.SizeDW, g.reg(), p
	case 1:
		i.Op = bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW
	default:
		i.Imm = []int32{bpf.AtomicADD, bpf.AtomicADD | bpf.AtomicFetch, bpf.AtomicXCHG, bpf.AtomicCMPXCHG, bpf.AtomicOR}[g.r.IntN(5)]
	}
	g.emit(i)
	if g.r.IntN(2) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: p, Imm: g.imm()})
	}
}

func (g *generator) memory() {
	if !g.plain && g.r.IntN(6) == 0 {
		g.state()
		return
	}
	switch g.r.IntN(11) {
	case 9: // anywhere
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | g.size(), Dst: g.reg(), Src: g.reg(), Off: g.near()})
	case 10:
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | g.size(), Dst: g.reg(), Src: g.reg(), Off: g.near()})
	case 0: // an argument
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: g.reg(), Src: bpf.R1, Off: 8 * int16(g.r.IntN(11))})
	case 1: // the target, mostly
		if g.plain {
			return
		}
		i := bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | g.size(), Dst: g.reg(), Src: g.reg(), Off: int16(g.r.IntN(16))}
		if g.r.IntN(4) == 0 {
			i.Op = bpf.ClassSTX | bpf.ModeMEM | g.size()
		}
		g.emit(i)
	case 2:
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEMSX | []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW}[g.r.IntN(3)], Dst: g.reg(), Src: bpf.R10, Off: g.near()})
	case 3, 4:
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | g.size(), Dst: bpf.R10, Src: g.reg(), Off: g.near()})
	case 5:
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | g.size(), Dst: g.reg(), Src: bpf.R10, Off: g.near()})
	case 6:
		g.emit(bpf.Insn{Op: bpf.ClassST | bpf.ModeMEM | g.size(), Dst: bpf.R10, Off: g.near(), Imm: g.imm()})
	case 7: // the stack at a masked index
		x, p := g.reg(), g.reg()
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: x, Imm: int32(g.r.IntN(32))},
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: p, Src: bpf.R10},
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: p, Src: x},
			bpf.Insn{Op: []uint8{bpf.ClassSTX, bpf.ClassLDX}[g.r.IntN(2)] | bpf.ModeMEM | g.size(), Dst: p, Src: p, Off: g.near() - 24})
		last := &g.insns[len(g.insns)-1]
		if last.Class() == bpf.ClassSTX {
			last.Src = x
		} else {
			last.Dst = g.reg()
		}
	case 8:
		op := []int32{bpf.AtomicADD, bpf.AtomicXCHG, bpf.AtomicCMPXCHG, bpf.AtomicXOR | bpf.AtomicFetch}[g.r.IntN(4)]
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | []uint8{bpf.SizeW, bpf.SizeDW}[g.r.IntN(2)], Dst: bpf.R10, Src: g.reg(), Off: -8 * int16(1+g.r.IntN(5)), Imm: op})
	}
}

var jumpOps = []uint8{bpf.JmpEQ, bpf.JmpGT, bpf.JmpGE, bpf.JmpSET, bpf.JmpNE, bpf.JmpSGT, bpf.JmpSGE, bpf.JmpLT, bpf.JmpLE, bpf.JmpSLT, bpf.JmpSLE}

// condition is a comparison, its offset still open.
func (g *generator) condition() bpf.Insn {
	i := bpf.Insn{Op: jumpOps[g.r.IntN(len(jumpOps))], Dst: g.reg()}
	i.Op |= []uint8{bpf.ClassJMP, bpf.ClassJMP32}[g.r.IntN(2)]
	if g.r.IntN(2) == 0 {
		i.Op |= bpf.SrcX
		i.Src = g.reg()
	} else {
		i.Imm = g.imm()
	}
	return i
}

// invoke calls the function, mostly with all of its arguments on the stack, and looks
// at what it left.
func (g *generator) invoke() {
	base := -8 * int32(8+g.r.IntN(3))
	for k := range int32(bpf.InvokeArgs) {
		if g.r.IntN(40) > 0 {
			g.emit(bpf.Insn{Op: bpf.ClassST | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R10, Off: int16(base + 8*k), Imm: g.imm()})
		}
	}
	fn := bpf.LoadImm64(bpf.R1, uint64(2-g.r.IntN(16)/15))
	fn[0].Src = bpf.PseudoSymbol
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R9, Src: bpf.R1})
	g.emit(fn[:]...)
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R2, Src: bpf.R10},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: bpf.R2, Imm: base},
		bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperInvoke)},
		bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R3, Src: bpf.R10, Off: int16(base + 8*int32(g.r.IntN(8)))},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R1, Src: bpf.R9})
}

// helper calls one with arguments in place; r1 is kept in r9.
func (g *generator) helper() {
	mov := func(dst, src uint8) bpf.Insn {
		return bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: dst, Src: src}
	}
	if g.r.IntN(8) == 0 {
		g.invoke()
		return
	}
	h := bpf.Helper(1 + g.r.IntN(10))
	g.emit(mov(bpf.R9, bpf.R1))
	for r := uint8(bpf.R1); int(r) < bpf.R1+h.Args(); r++ {
		switch g.r.IntN(4) {
		case 0:
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: r, Imm: int32(g.r.IntN(12))})
		case 1:
			rodata := bpf.LoadImm64(r, uint64(g.r.IntN(12)))
			rodata[0].Src = bpf.PseudoRodata
			g.emit(rodata[:]...)
		case 2:
			g.emit(mov(r, bpf.R10), bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: r, Imm: -8 * int32(1+g.r.IntN(4))})
		case 3:
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: r, Src: bpf.R9, Off: 8 * int16(g.r.IntN(9))})
		}
	}
	g.emit(bpf.Insn{Op: bpf.OpCALL, Imm: int32(h)}, mov(bpf.R1, bpf.R9))
	for r := uint8(bpf.R2); r <= bpf.R5; r++ {
		g.emit(mov(r, bpf.R0))
	}
}

// block writes some statements, which may hold branches and loops.
func (g *generator) block(depth int) {
	for range 1 + g.r.IntN(6) {
		switch k := g.r.IntN(20); {
		case k < 8 || depth == 0:
			g.alu()
		case k < 14:
			g.memory()
		case k < 16:
			g.branch(depth)
		case k < 18 && !g.plain: // the kernel would walk every round
			g.loop(depth)
		case k < 19 && !g.plain:
			g.helper()
		default:
			lddw := bpf.LoadImm64(g.reg(), interestingWord(g.r))
			if g.r.IntN(3) == 0 && !g.plain {
				lddw = bpf.LoadImm64(lddw[0].Dst, uint64(g.r.IntN(2)))
				lddw[0].Src = []uint8{bpf.PseudoSymbol, bpf.PseudoRodata}[g.r.IntN(2)]
			}
			g.emit(lddw[:]...)
		}
	}
}

// branch skips a block on a condition.
func (g *generator) branch(depth int) {
	at := len(g.insns)
	g.emit(g.condition())
	g.block(depth - 1)
	g.insns[at].Off = int16(len(g.insns) - at - 1)
}

// loop counts a register or stack word up or down, mostly, while a condition
// holds: at the head or at the end.
func (g *generator) loop(depth int) {
	c := bpf.R6 + uint8(g.r.IntN(3))
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: c, Imm: int32(g.r.IntN(4))})
	head := len(g.insns)
	leave := g.condition()
	leave.Dst = c
	if g.r.IntN(3) > 0 {
		leave.Op = leave.Op&^0xf0 | []uint8{bpf.JmpGE, bpf.JmpSGT, bpf.JmpEQ}[g.r.IntN(3)]
	}
	g.emit(leave)
	g.block(depth - 1)
	step := bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: c, Imm: 1 + int32(g.r.IntN(3))}
	if g.r.IntN(4) == 0 {
		step.Op = bpf.ClassALU | bpf.AluADD
	}
	if g.r.IntN(6) == 0 {
		step.Imm = -step.Imm
	}
	g.emit(step)
	if g.r.IntN(2) == 0 {
		again := g.condition()
		again.Off = int16(head - len(g.insns) - 1)
		g.emit(again)
	} else {
		g.emit(bpf.Insn{Op: bpf.OpJA, Off: int16(head - len(g.insns) - 1)})
	}
	g.insns[head].Off = int16(len(g.insns) - head - 1)
}

// randomUnit is a whole guard: a preamble that loads arguments, a body, and two
// ways to end. One in eight then has a field changed at random.
func randomUnit(r *rand.Rand) *bpf.Unit {
	g := &generator{r: r}
	return g.unit()
}

func (g *generator) unit() *bpf.Unit {
	r := g.r
	g.preamble()
	call := -1
	if r.IntN(4) == 0 {
		if r.IntN(2) == 0 { // the caller's stack as an argument
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R2, Src: bpf.R10},
				bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: bpf.R2, Imm: -8 * int32(r.IntN(4))})
		}
		call = len(g.insns)
		g.emit(bpf.Insn{Op: bpf.OpCALL, Src: bpf.CallLocal})
		for reg := uint8(bpf.R1); reg <= bpf.R5; reg++ {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: reg, Imm: g.imm()})
		}
	}
	g.block(3)
	if g.plain {
		g.hash()
	}
	u := &bpf.Unit{Fuel: 100, Symbols: []bpf.Symbol{{Name: "a"}, {Name: "b", Kind: bpf.SymbolGoError}, {Name: "f", Kind: bpf.SymbolFunc}}, Rodata: []byte("GET *\x00needle"), State: 128}
	if !g.plain && g.r.IntN(2) == 0 {
		u.Caps = bpf.CapWrite | bpf.CapCall
		u.State += bpf.InsideSize
	}
	if g.plain {
		u.State = 0
	}
	end := []bpf.Insn{{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: bpf.R0}, {Op: bpf.OpEXIT}}
	if !g.plain {
		g.emit(end...)
	}
	u.OnFault = len(g.insns)
	u.OnFuel = u.OnFault
	g.emit(end...)
	if call >= 0 {
		g.insns[call].Imm = int32(len(g.insns) - call - 1)
		for reg := uint8(bpf.R6); reg < bpf.R10; reg++ {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: reg, Src: bpf.R2})
		}
		g.block(2)
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: bpf.R0, Imm: 3}, bpf.Insn{Op: bpf.OpEXIT})
	}
	u.Insns = g.insns
	if r.IntN(8) == 0 {
		mutate(r, u)
	}
	return u
}

// preamble gives most registers and stack words a value.
func (g *generator) preamble() {
	if g.plain {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R10, Src: bpf.R1, Off: frameSlot})
	}
	for reg := uint8(0); reg < bpf.R10; reg++ {
		if reg != bpf.R1 && (g.plain || g.r.IntN(12) > 0) {
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: reg, Src: bpf.R1, Off: 8 * int16(g.r.IntN(9))})
		}
	}
	for off := int16(-8); off >= -40; off -= 8 {
		if g.r.IntN(4) > 0 {
			g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R10, Src: bpf.R2 + uint8(g.r.IntN(4)), Off: off})
		}
	}
}

// frameSlot keeps the frame's address where nothing else is written.
const frameSlot = -96

// hash stores a hash of all registers as result word 0.
func (g *generator) hash() {
	const x = bpf.ClassALU64 | bpf.SrcX
	for reg := uint8(bpf.R2); reg < bpf.R10; reg++ {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMUL, Dst: bpf.R0, Imm: 0x01000193}, bpf.Insn{Op: x | bpf.AluXOR, Dst: bpf.R0, Src: reg})
	}
	g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R1, Src: bpf.R10, Off: frameSlot},
		bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW, Dst: bpf.R1, Src: bpf.R0, Off: bpf.FrameResult})
}

func mutate(r *rand.Rand, u *bpf.Unit) {
	i := &u.Insns[r.IntN(len(u.Insns))]
	switch r.IntN(5) {
	case 0:
		i.Op ^= 1 << r.IntN(8)
	case 1:
		i.Dst = uint8(r.IntN(11))
	case 2:
		i.Src = uint8(r.IntN(11))
	case 3:
		i.Off += int16(r.IntN(17)) - 8
	case 4:
		i.Imm ^= 1 << r.IntN(32)
	}
}
