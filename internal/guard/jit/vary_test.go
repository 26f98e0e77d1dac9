package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// vary changes an instruction or two of a verified guard into others that could stand
// there: what a change cannot break, so that verification accepts most of what comes of
// it. Once in eight times it changes any field of any instruction instead.
func (g *generator) vary(u *bpf.Unit) {
	if g.IntN(8) == 0 {
		change(g.Rand, u)
		return
	}
	for n := 1 + g.IntN(4)/2; n > 0; {
		pc := g.IntN(len(u.Insns))
		if g.varyOne(u, pc) {
			n--
		}
	}
}

// varyOne gives instruction pc another form, if it is of a kind that has some.
func (g *generator) varyOne(u *bpf.Unit, pc int) bool {
	i := &u.Insns[pc]
	number := func(r uint8) bool { return r != bpf.R1 && r < bpf.R9 }
	switch {
	case pc+1 < len(u.Insns) && u.Insns[pc+1].Op == bpf.OpEXIT: // the verdict
		return false
	case i.IsALU() && number(i.Dst) && (i.Op&bpf.SrcX == 0 || number(i.Src)):
		g.varyALU(i)
	case i.IsConditional() && number(i.Dst):
		g.varyJump(i)
	case i.IsLDDW() && i.Src == 0 && number(i.Dst):
		g.varyWide(i, &u.Insns[pc+1])
	case i.IsLoad() && number(i.Dst):
		g.varyLoad(i)
	case i.IsStore() && !i.IsAtomic():
		g.varyStore(i)
	case i.IsAtomic() && i.Dst == bpf.R10:
		i.Off = g.word()
	default:
		return false
	}
	return true
}

// varyALU makes any arithmetic of i that gives a value to the same register.
func (g *generator) varyALU(i *bpf.Insn) {
	dst, from := i.Dst, len(g.insns)
	switch g.IntN(4) {
	case 0: // a constant nearby
		if i.Op&bpf.SrcX == 0 && i.Operation() != bpf.AluEND && i.Operation() != bpf.AluNEG {
			i.Imm ^= 1 << g.IntN(5)
			return
		}
	case 1: // another operand
		if i.Op&bpf.SrcX != 0 && i.Operation() != bpf.AluEND {
			i.Src = g.reg()
			return
		}
	}
	define := i.Operation() == bpf.AluMOV // its register may hold nothing before
	g.alu()
	*i, g.insns = g.insns[from], g.insns[:from]
	if i.Dst = dst; define {
		*i = bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: dst, Imm: g.number()}
		if g.IntN(8) == 0 {
			i.Op, i.Imm, i.Src = i.Op|bpf.SrcX, 0, g.reg()
		}
	}
}

// varyJump makes a comparison another one, or leads it to an instruction nearby.
func (g *generator) varyJump(i *bpf.Insn) {
	if g.IntN(4) == 0 {
		i.Off += int16(g.IntN(9)) - 4
		return
	}
	dst, off := i.Dst, i.Off
	if *i = g.condition(); g.IntN(2) == 0 {
		i.Dst = dst
	}
	i.Off = off
}

// varyWide makes a 64-bit constant another one, or an address one nearby.
func (g *generator) varyWide(low, high *bpf.Insn) {
	switch g.IntN(3) {
	case 0:
		low.Imm += int32(g.IntN(129)) - 64
	case 1:
		low.Imm ^= 1 << g.IntN(14)
	default:
		high.Imm ^= 1 << g.IntN(32)
	}
}

// varyLoad makes a load another one from the same base.
func (g *generator) varyLoad(i *bpf.Insn) {
	switch args := len(conventionOf(g.abi).args); {
	case i.Src == bpf.R1 && i.Width() == 8: // an argument, or the state
		i.Off = int16(8 * g.IntN(args))
	case i.Src == bpf.R10:
		i.Off = g.word()
	case g.IntN(2) == 0:
		i.Off += int16(g.IntN(33)) - 16
	default:
		size := []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW, bpf.SizeDW}[g.IntN(4)]
		mode := uint8(bpf.ModeMEM)
		if size != bpf.SizeDW && g.IntN(2) == 0 {
			mode = bpf.ModeMEMSX
		}
		i.Op = bpf.ClassLDX | size | mode
	}
}

// varyStore makes a store store something else, or a word of the stack another one.
func (g *generator) varyStore(i *bpf.Insn) {
	switch {
	case i.Class() == bpf.ClassST:
		i.Imm = g.number()
	case i.Dst == bpf.R10 && g.IntN(3) == 0:
		i.Off = g.word()
	default:
		i.Src = g.reg()
	}
}
