package jit

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// ends are numbers at which a loop that counts begins or ends, and its counter wraps.
var ends = []uint64{
	0, 1, 2, 7, ^uint64(0), ^uint64(1), math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - 5, 1 << 63, 1<<63 + 3,
	math.MaxInt32, math.MaxInt32 - 2, 1 << 31, 1<<31 + 2, math.MaxUint32, math.MaxUint32 - 2, 1 << 32, 1<<32 + 5,
}

// counted writes a guard that counts in loops up to a bound and asks meanwhile how the two
// compare. r7 is the counter, r6 the bound, r0, r2 to r5 and r8 count the answers.
func (g *generator) counted() *bpf.Unit {
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R9, Src: bpf.R1})
	for _, r := range []uint8{0, 2, 3, 4, 5, 8} {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: r, Imm: int32(g.IntN(3))})
	}
	for off := int16(-64); off < 0; off += 8 {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: bpf.R0, Off: off})
	}
	for r := uint8(6); r <= 7; r++ {
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: r, Src: bpf.R1, Off: int16(8 * (r - 6))})
		switch g.IntN(6) {
		case 0, 1:
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: r, Src: r, Off: 32})
		case 2:
			g.emit(bpf.Insn{Op: bpf.ClassALU | bpf.AluMOV | bpf.SrcX, Dst: r, Src: r})
		}
	}
	for range 1 + g.IntN(2) {
		g.counting()
	}
	g.leave()
	u := g.close()
	if u.Fuel == 0 {
		u.Fuel = 60
	}
	return u
}

// counting writes a loop, mostly of the kind that compilers write: from 0 on in steps of 1,
// entered only below the bound.
func (g *generator) counting() {
	switch g.IntN(6) {
	case 0: // what the call brings
	case 1:
		g.wide(7, ends[g.IntN(len(ends))])
	default:
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 7, Imm: []int32{0, 0, 0, 1, -1, 5}[g.IntN(6)]})
	}
	over := -1
	if g.IntN(4) > 0 {
		over = len(g.insns)
		g.emit(g.asks())
	}
	top := len(g.insns)
	if g.IntN(5) == 0 { // the bound is another in each round
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | []uint8{bpf.AluADD, bpf.AluXOR}[g.IntN(2)], Dst: 6, Imm: []int32{1, -1, 3}[g.IntN(3)]})
	}
	for range 1 + g.IntN(3) {
		g.tally()
	}
	if g.IntN(8) == 0 { // mostly a fault, which ends it
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeB | bpf.ModeMEM, Dst: 8, Src: 6})
	}
	if g.IntN(6) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: 6, Imm: []int32{1, -1, 7}[g.IntN(3)]})
	}
	if g.IntN(5) == 0 { // a second way back
		again := g.asks()
		again.Off = int16(top - len(g.insns) - 1)
		g.emit(again)
	}
	class := []uint8{bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU}[g.IntN(4)]
	g.emit(bpf.Insn{Op: class | bpf.AluADD, Dst: 7, Imm: []int32{1, 1, 1, 1, 2, -1, math.MaxInt32}[g.IntN(7)]})
	if g.IntN(4) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 7, Src: 7, Off: 32})
	}
	back := g.asks()
	back.Off = int16(top - len(g.insns) - 1)
	g.emit(back)
	if over >= 0 {
		g.insns[over].Off = int16(len(g.insns) - over - 1)
	}
}

// asks is a comparison of the counter with the bound, or of one of them with a number.
func (g *generator) asks() bpf.Insn {
	in := g.condition()
	if g.IntN(3) > 0 { // mostly of all 64 bits
		in.Op = in.Op&^7 | bpf.ClassJMP
	}
	if g.IntN(2) == 0 { // mostly one that orders
		in.Op = in.Op&0x0f | []uint8{bpf.JmpLT, bpf.JmpGE, bpf.JmpSLT, bpf.JmpSGE}[g.IntN(4)]
	}
	in.Dst, in.Src = 7, 6
	if g.IntN(4) == 0 {
		in.Dst, in.Src = 6, 7
	}
	switch in.Op |= bpf.SrcX; {
	case g.IntN(6) == 0:
		in.Op, in.Src, in.Imm = in.Op&^bpf.SrcX, 0, int32(g.IntN(3)-1)
	default:
		in.Imm = 0
	}
	return in
}

// tally asks, and counts the answer: by 1 or more, on one way or on both, in 64 bits or 32.
func (g *generator) tally() {
	in, to := g.asks(), []uint8{0, 2, 3, 4, 5, 8}[g.IntN(6)]
	class := []uint8{bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU}[g.IntN(4)]
	change := func() bpf.Insn {
		switch g.IntN(6) {
		case 0:
			return bpf.Insn{Op: class | bpf.AluMOV, Dst: to, Imm: int32(g.IntN(4) - 1)}
		case 1:
			return bpf.Insn{Op: class | bpf.AluSUB, Dst: to, Imm: int32(g.IntN(2) + 1)}
		}
		return bpf.Insn{Op: class | bpf.AluADD, Dst: to, Imm: []int32{1, 1, 1, -1, 2}[g.IntN(5)]}
	}
	if g.IntN(4) == 0 { // one or the other
		in.Off = 2
		g.emit(in, change(), bpf.Insn{Op: bpf.OpJA, Off: 1}, change())
		return
	}
	some := []bpf.Insn{change()}
	if g.IntN(3) == 0 {
		to = []uint8{0, 2, 3, 4, 5, 8}[g.IntN(6)]
		some = append(some, change())
	}
	in.Off = int16(len(some))
	g.emit(append([]bpf.Insn{in}, some...)...)
}

// TestCounted runs guards that count in loops, with counters and bounds from where numbers
// wrap: what is asked of them is answered as the interpreter does, whether the compiler
// has left the question out, made a number of it, or neither.
func TestCounted(t *testing.T) {
	seed := firstSeed(t)
	d := newDifferential(t, seed)
	numbers, fewer := 0, 0
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && d.agree(); seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 6)), target: targets}
		g.abi = ABI(g.IntN(2))
		u := g.counted()
		d.random++
		p, err := verify.Verify(u)
		if err != nil {
			d.counting(guess{u}, g, seed)
			continue
		}
		d.verified++
		n, less := foldedIn(t, p)
		numbers, fewer = numbers+n, fewer+less
		d.counting(p, g, seed)
		for range perRound / 2 {
			changed := p.Unit()
			g.vary(changed)
			d.tried++
			if p, err := verify.Verify(changed); err == nil && repeatable(changed) {
				d.changed++
				d.counting(p, g, seed)
			}
		}
	}
	d.finish(t)
	if d.random > 100 && (numbers < d.random/10 || fewer < d.random/100) {
		t.Errorf("of %d guards, %d comparisons became numbers, and %d were known where several ways meet", d.random, numbers, fewer)
	}
}

// counting places a guard and calls it with numbers of ends.
func (d *differential) counting(p program, g *generator, seed uint64) {
	x := d.place(p, g, seed)
	for n := 0; x != nil && n < 4 && d.agree(); n++ {
		call := *x
		call.enter(g)
		for i := range 2 {
			if g.IntN(4) > 0 {
				call.in.GPR[conventionOf(g.abi).args[i]] = ends[g.IntN(len(ends))] + uint64(g.IntN(3))
			}
		}
		d.call(&call)
	}
}

// foldedIn says how many comparisons of p become numbers, and how many branches are
// decided because several ways that meet agree.
func foldedIn(t *testing.T, p program) (numbers, decided int) {
	t.Helper()
	f, err := lower(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range f.blocks {
		want := orderings[b.cond]
		if b.term != termBranch || want == 0 {
			continue
		}
		q := question{b.args[0], b.args[1], b.width, readingOf(b.cond)}
		left, way := q.answers(b)
		if left&want != 0 && left&^want != 0 {
			if left &= q.atHead(way); left&want == 0 || left&^want == 0 {
				decided++
			}
		}
	}
	simplify(f)
	ifConvert(f)
	for _, b := range f.blocks {
		for _, v := range b.values {
			if v.op == opHolds {
				numbers++
			}
		}
	}
	return numbers, decided
}
