package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// What random guards do with memory: theirs, the target's, that of helpers and the state.

// chase reads at an address from the stack, plus a constant.
func (g *generator) chase() {
	r, lowest := g.reg(), int16(-8*g.words())
	g.address(r)
	g.emit(
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: r, Off: lowest},
		bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R10, Off: lowest},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: r, Imm: int32(g.IntN(100) - 50)},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: r, Imm: int32(g.IntN(100) - 50)},
		bpf.Insn{Op: bpf.ClassLDX | bpf.SizeH | bpf.ModeMEM, Dst: g.reg(), Src: r, Off: int16(g.IntN(50))},
	)
}

// stack stores, loads and updates atomically.
func (g *generator) stack() {
	size := []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW, bpf.SizeDW}[g.IntN(4)]
	off := g.word()
	switch g.IntN(4) {
	case 0:
		g.emit(bpf.Insn{Op: bpf.ClassSTX | size | bpf.ModeMEM, Dst: bpf.R10, Src: g.reg(), Off: off})
	case 1:
		g.emit(bpf.Insn{Op: bpf.ClassST | size | bpf.ModeMEM, Dst: bpf.R10, Off: off, Imm: g.number()})
	case 2:
		mode := uint8(bpf.ModeMEM)
		if size != bpf.SizeDW && g.IntN(2) == 0 {
			mode = bpf.ModeMEMSX
		}
		g.emit(bpf.Insn{Op: bpf.ClassLDX | size | mode, Dst: g.reg(), Src: bpf.R10, Off: off})
	default:
		if size != bpf.SizeDW {
			size = bpf.SizeW
		}
		ops := []int32{bpf.AtomicADD, bpf.AtomicOR, bpf.AtomicAND, bpf.AtomicXOR}
		op := ops[g.IntN(4)] | int32(g.IntN(2))
		switch g.IntN(4) {
		case 0:
			op = bpf.AtomicXCHG
		case 1:
			op = bpf.AtomicCMPXCHG
		}
		g.emit(bpf.Insn{Op: bpf.ClassSTX | size | bpf.ModeATOMIC, Dst: bpf.R10, Src: g.reg(), Off: off, Imm: op})
	}
}

// address leaves an address of the target in dst, readable or not.
func (g *generator) address(dst uint8) {
	a := g.target[g.IntN(len(g.target))]
	g.wide(dst, a+uint64(g.IntN(200))-100)
}

func (g *generator) read() {
	size := []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW, bpf.SizeDW}[g.IntN(4)]
	mode := uint8(bpf.ModeMEM)
	if size != bpf.SizeDW && g.IntN(2) == 0 {
		mode = bpf.ModeMEMSX
	}
	base := g.reg()
	g.address(base)
	span := []int{64, 64, 300, 4200}[g.IntN(4)]
	for range 1 + g.IntN(4) {
		g.emit(bpf.Insn{Op: bpf.ClassLDX | size | mode, Dst: g.reg(), Src: base, Off: int16(g.IntN(span) - span/2)})
		if g.insns[len(g.insns)-1].Dst == base {
			return
		}
	}
}

// write stores to the target and reads near there, or clears some of it. An
// aligned store lies in one page, so that all modes of faults write all of it or
// nothing.
func (g *generator) write() {
	if g.IntN(3) == 0 {
		g.address(1)
		g.length(2)
		g.emit(bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperZero)})
		g.renew()
		return
	}
	k := g.IntN(4)
	size := []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW, bpf.SizeDW}[k]
	base := g.reg()
	g.address(base)
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: base, Imm: -1 << k})
	for range 1 + g.IntN(3) {
		off := int16(g.IntN(20)-10) << k
		if g.IntN(2) == 0 {
			g.emit(bpf.Insn{Op: bpf.ClassST | size | bpf.ModeMEM, Dst: base, Off: off, Imm: g.number()})
		} else {
			g.emit(bpf.Insn{Op: bpf.ClassSTX | size | bpf.ModeMEM, Dst: base, Src: g.reg(), Off: off})
		}
		if dst := g.reg(); dst != base {
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: dst, Src: base, Off: off + int16(g.IntN(16)-8)})
		}
	}
}

// invoke calls the function with registers, from the stack, and reads what it left
// there later on.
func (g *generator) invoke() {
	if g.abi != SysV || g.few != nil {
		return
	}
	for k := range int16(bpf.InvokeArgs) {
		if g.IntN(2) == 0 {
			g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: g.reg(), Off: -bpf.InvokeSize + 8*k})
		}
	}
	fn := bpf.LoadImm64(bpf.R1, 0)
	fn[0].Src = bpf.PseudoSymbol
	g.emit(fn[:]...)
	g.emit(
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R2, Src: bpf.R10},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: bpf.R2, Imm: -bpf.InvokeSize},
		bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperInvoke)},
	)
	g.renew()
	if g.IntN(2) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: g.reg(), Src: bpf.R10, Off: -8 * int16(1+g.IntN(8))})
	}
}

// length leaves a length in dst.
func (g *generator) length(dst uint8) {
	n := int32(g.IntN(300))
	switch g.IntN(12) {
	case 0:
		n = -1
	case 1:
		n = bpf.MaxLength + int32(g.IntN(2))
	case 2:
		n = 0
	case 3:
		n = int32(g.IntN(6000))
	case 4, 5:
		n = int32(g.IntN(5))
	}
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: dst, Imm: n})
}

// helper calls one; r1 to r5 are numbers again after it.
func (g *generator) helper() {
	h := bpf.Helper(1 + g.IntN(5))
	g.address(1)
	g.length(2)
	switch h {
	case bpf.HelperCount, bpf.HelperIndex:
		if g.IntN(2) == 0 {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 3, Imm: int32(g.IntN(4))})
		} else {
			r := uint8(bpf.R6)
			if !g.uses(r) {
				r = bpf.R0
			}
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: r, Imm: 0x103},
				bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 3, Src: r})
		}
	case bpf.HelperFind, bpf.HelperEqual:
		g.address(3)
		g.length(4)
		if h == bpf.HelperEqual && g.IntN(3) > 0 {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 4, Src: 2})
		}
		if h == bpf.HelperFind && g.IntN(2) == 0 {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 4, Imm: int32(g.IntN(6))})
		}
	}
	g.emit(bpf.Insn{Op: bpf.OpCALL, Imm: int32(h)})
	g.renew()
}

// stateSize is how many bytes of state a random guard has.
const stateSize = 256

// state uses a word of the state; r1 points to it. guess knows it by its shape.
func (g *generator) state() {
	x := g.reg()
	base := bpf.LoadImm64(bpf.R1, uint64(8*g.IntN(16)))
	base[0].Src = bpf.PseudoState
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND, Dst: x, Imm: 7}, bpf.Insn{Op: bpf.ClassALU64 | bpf.AluLSH, Dst: x, Imm: 3})
	g.emit(base[:]...)
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: bpf.R1, Src: x})
	i := bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeDW, Dst: bpf.R1, Src: g.reg(), Off: 8 * int16(g.IntN(8))}
	switch g.IntN(8) {
	case 0:
		i.Op, i.Dst, i.Src = bpf.ClassLDX|bpf.ModeMEM|bpf.SizeDW, g.reg(), bpf.R1
	case 1:
		i.Op = bpf.ClassSTX | bpf.ModeMEM | bpf.SizeDW
	case 2:
		i.Op, i.Src, i.Imm = bpf.ClassST|bpf.ModeMEM|bpf.SizeDW, 0, g.number()
	default:
		i.Imm = []int32{bpf.AtomicADD, bpf.AtomicADD | bpf.AtomicFetch, bpf.AtomicXCHG, bpf.AtomicCMPXCHG, bpf.AtomicCMPXCHG}[g.IntN(5)]
	}
	if i.Imm == bpf.AtomicCMPXCHG && i.IsAtomic() && g.IntN(2) == 0 { // what is there, so that it takes place
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEM | bpf.SizeDW, Src: bpf.R1, Off: i.Off})
	}
	g.emit(i)
}

// ownMemory calls a helper on the guard's stack and rodata.
func (g *generator) ownMemory() {
	g.emit(
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 1, Src: bpf.R10},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: 1, Imm: int32(-8 * g.words())},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 2, Imm: int32(g.IntN(8*g.words() + 1))},
		bpf.Insn{Op: bpf.OpLDDW, Src: bpf.PseudoRodata, Dst: 3, Imm: int32(g.IntN(8))}, bpf.Insn{},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 4, Imm: int32(1 + g.IntN(9))},
	)
	switch g.IntN(3) {
	case 0:
		g.emit(bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperFind)})
	case 1:
		g.emit(
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 2, Src: 4},
			bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperEqual)},
		)
	default:
		g.emit(
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 3, Imm: g.number()},
			bpf.Insn{Op: bpf.OpCALL, Imm: int32(bpf.HelperCount)},
		)
	}
	g.renew()
}

// renew gives r2 to r5 numbers after a call.
func (g *generator) renew() {
	for r := uint8(2); r <= 5; r++ {
		if !g.uses(r) {
			continue
		}
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: r, Imm: g.number()})
	}
}
