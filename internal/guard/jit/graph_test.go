package jit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// graph writes a guard whose blocks lead anywhere: loops with several ways in and out,
// blocks that many others lead to, nine values that live through all of them.
// Jumps back cost fuel, so every call ends.
func (g *generator) graph(blocks int) *bpf.Unit {
	for r := uint8(0); r < genRegs; r++ {
		if r != bpf.R1 {
			g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R1, Off: int16(8 * g.IntN(len(conventionOf(g.abi).args)))})
		}
	}
	for off := int16(-64); off < 0; off += 8 {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: g.reg(), Off: off})
	}
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R9, Src: bpf.R1})
	starts, jumps := []int{}, []int{}
	for range blocks {
		starts = append(starts, len(g.insns))
		for range g.IntN(5) {
			g.step()
		}
		for range 1 + g.IntN(2) {
			jumps = append(jumps, len(g.insns))
			g.emit(g.condition())
		}
		if g.IntN(4) == 0 {
			jumps = append(jumps, len(g.insns))
			g.emit(bpf.Insn{Op: bpf.OpJA})
		}
	}
	starts = append(starts, len(g.insns))
	g.leave()
	hubs := []int{g.IntN(len(starts)), g.IntN(len(starts)), len(starts) - 1}
	for _, at := range jumps {
		to := g.IntN(len(starts))
		if g.IntN(2) == 0 {
			to = hubs[g.IntN(len(hubs))]
		}
		if off := starts[to] - at - 1; off < 0 && g.IntN(3) > 0 { // most lead on
			g.insns[at].Off = int16(starts[len(starts)-1] - at - 1)
		} else {
			g.insns[at].Off = int16(off)
		}
	}
	return g.close()
}

// step is one of the things that mix widths, or any other that a body has.
func (g *generator) step() {
	a, b := g.reg(), g.reg()
	switch g.IntN(8) {
	case 0: // narrow, then widen with the sign
		g.emit(bpf.Insn{Op: bpf.ClassALU | bpf.AluADD | bpf.SrcX, Dst: a, Src: b},
			bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: b, Src: a, Off: 8 << g.IntN(3)})
	case 1: // the other byte order, of a part
		g.emit(bpf.Insn{Op: []uint8{bpf.ClassALU | bpf.AluEND | bpf.SrcX, bpf.ClassALU64 | bpf.AluEND, bpf.ClassALU | bpf.AluEND}[g.IntN(3)], Dst: a, Imm: 16 << g.IntN(3)},
			bpf.Insn{Op: bpf.ClassALU | bpf.AluARSH, Dst: a, Imm: int32(g.IntN(32))})
	case 2: // an atomic operation on what was just stored
		off := -8 * int16(1+g.IntN(8))
		size := []uint8{bpf.SizeW, bpf.SizeDW}[g.IntN(2)]
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: a, Off: off},
			bpf.Insn{Op: bpf.ClassSTX | size | bpf.ModeATOMIC, Dst: bpf.R10, Src: b, Off: off, Imm: []int32{bpf.AtomicADD | bpf.AtomicFetch, bpf.AtomicXCHG, bpf.AtomicCMPXCHG, bpf.AtomicXOR | bpf.AtomicFetch}[g.IntN(4)]})
	case 3: // a shift by another value
		g.emit(bpf.Insn{Op: []uint8{bpf.ClassALU, bpf.ClassALU64}[g.IntN(2)] | []uint8{bpf.AluLSH, bpf.AluRSH, bpf.AluARSH}[g.IntN(3)] | bpf.SrcX, Dst: a, Src: b})
	case 4:
		g.rotate()
	case 5:
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: a, Imm: g.number()})
	default:
		g.body(1, 3)
	}
}

// TestGraphs runs guards of blocks that lead anywhere, and changed forms of them.
func TestGraphs(t *testing.T) {
	seed := firstSeed(t)
	d := newDifferential(t, seed)
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && d.agree(); seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 4)), target: targets}
		g.abi = ABI(g.IntN(2))
		u := g.graph(2 + g.IntN(8))
		d.random++
		p, err := verify.Verify(u)
		if err != nil {
			d.calling(guess{u}, g, seed, 3)
			continue
		}
		d.verified++
		d.calling(p, g, seed, 3)
		for range perRound {
			changed := p.Unit()
			change(g.Rand, changed)
			d.tried++
			if p, err := verify.Verify(changed); err == nil {
				d.changed++
				d.calling(p, g, seed, 3)
			}
		}
	}
	d.finish(t)
}
