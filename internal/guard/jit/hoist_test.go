package jit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// edges are addresses from which a walk soon comes to memory that cannot be read.
var edges = []uint64{
	uint64(dataAt), uint64(dataAt) + 0x800, uint64(dataAt) + dataLen - 5, uint64(dataAt) - 3,
	0, 8, minAddress - 1, minAddress, 1<<47 - 1, 1<<47 + minAddress - 8, 1 << 47, 1 << 63, ^uint64(0) - 4,
}

// walk writes a guard that goes through memory in steps: by a pointer, by a base and an
// index, in one loop or in one within another, entered in one way or in two.
func (g *generator) walk() *bpf.Unit {
	g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: bpf.R9, Src: bpf.R1})
	for r := uint8(0); r < genRegs; r++ {
		if r != bpf.R1 {
			g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: r, Imm: int32(g.IntN(4))})
		}
	}
	for off := int16(-64); off < 0; off += 8 {
		g.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: bpf.R0, Off: off})
	}
	g.wide(6, edges[g.IntN(len(edges))]-uint64(g.IntN(3)*g.IntN(9)))
	if g.IntN(3) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: 6, Src: bpf.R1, Off: int16(8 * g.IntN(4))})
	}
	g.walking(g.IntN(3) / 2)
	g.leave()
	return g.close()
}

// walking writes a loop, around another where depth is above 0. r6 is the base, r7 the
// index, the stack counts the rounds.
func (g *generator) walking(depth int) {
	off := int16(-72 - 8*depth)
	if g.IntN(3) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 7, Imm: g.number() % 64})
	}
	g.emit(bpf.Insn{Op: bpf.ClassST | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Off: off, Imm: int32(1 + g.IntN(60))})
	if g.IntN(4) == 0 { // a second way in
		over := g.condition()
		over.Off = 1
		g.emit(over, bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: []uint8{6, 7}[g.IntN(2)], Imm: int32(g.IntN(9))})
	}
	top := len(g.insns)
	for range 1 + g.IntN(3) {
		g.walkRead()
	}
	if depth > 0 {
		g.walking(depth - 1)
	}
	g.walkStep()
	back := bpf.Insn{Op: bpf.ClassJMP | bpf.JmpNE, Dst: 5}
	g.emit(
		bpf.Insn{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: 5, Src: bpf.R10, Off: off},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluSUB, Dst: 5, Imm: 1},
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R10, Src: 5, Off: off},
	)
	back.Off = int16(top - len(g.insns) - 1)
	g.emit(back)
}

// walkRead reads where the walk is, sometimes only behind a condition.
func (g *generator) walkRead() {
	at, over := uint8(6), -1
	if g.IntN(4) == 0 {
		over = len(g.insns)
		g.emit(g.condition())
	}
	if g.IntN(4) > 0 {
		at = 4
		first, second := uint8(6), uint8(7)
		if g.IntN(3) == 0 {
			first, second = second, first
		}
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: at, Src: first}, bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: at, Src: second})
	}
	size := []uint8{bpf.SizeB, bpf.SizeH, bpf.SizeW, bpf.SizeDW}[g.IntN(4)]
	g.emit(
		bpf.Insn{Op: bpf.ClassLDX | size | bpf.ModeMEM, Dst: 3, Src: at, Off: []int16{0, 0, 1, -1, 16, 4000, -4100}[g.IntN(7)]},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: []uint8{0, 2, 8}[g.IntN(3)], Src: 3},
	)
	if over >= 0 {
		g.insns[over].Off = int16(len(g.insns) - over - 1)
	}
}

// walkStep moves the pointer or the index.
func (g *generator) walkStep() {
	r := []uint8{6, 7, 7, 7}[g.IntN(4)]
	class := []uint8{bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU64, bpf.ClassALU}[g.IntN(4)]
	g.emit(bpf.Insn{Op: class | bpf.AluADD, Dst: r, Imm: []int32{1, 1, 1, -1, 8, 64, 4096, -4096, 5000, 0x7fffffff}[g.IntN(10)]})
	if r == 7 && g.IntN(3) == 0 {
		g.emit(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Dst: 7, Src: 7, Off: 32})
	}
}

// TestWalks runs guards that go through memory, to its end and beyond: they fault at the
// same place whether each address was looked at or only the first.
func TestWalks(t *testing.T) {
	seed := firstSeed(t)
	d := newDifferential(t, seed)
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && d.agree(); seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 5)), target: targets}
		g.abi = ABI(g.IntN(2))
		u := g.walk()
		d.random++
		p, err := verify.Verify(u)
		if err != nil {
			d.calling(guess{u}, g, seed, 2)
			continue
		}
		d.verified++
		d.calling(p, g, seed, 2)
		for range perRound / 2 {
			changed := p.Unit()
			change(g.Rand, changed)
			d.tried++
			if p, err := verify.Verify(changed); err == nil && repeatable(changed) {
				d.changed++
				d.calling(p, g, seed, 2)
			}
		}
	}
	d.finish(t)
}

// TestLookedAtOnce: the loops that people write over bytes look at no address again.
func TestLookedAtOnce(t *testing.T) {
	for _, g := range peerGuards[11:] {
		f, err := lower(peerGuard(t, g.body))
		if err != nil {
			t.Fatal(err)
		}
		simplify(f)
		hoist(f)
		f.linkPreds()
		for _, b := range f.blocks {
			for _, v := range b.values {
				if v.op == opLoad && v.faults && f.inLoop(b) && !v.looked {
					t.Errorf("%s: instruction %d looks at its address in every round", g.name, v.insn)
				}
			}
		}
	}
}

// inLoop reports whether control can come from b back to it.
func (f *function) inLoop(b *block) bool {
	seen := map[*block]bool{}
	for work := append([]*block{}, b.succs...); len(work) > 0; {
		at := work[len(work)-1]
		work = work[:len(work)-1]
		if at == b {
			return true
		}
		if !seen[at] {
			seen[at] = true
			work = append(work, at.succs...)
		}
	}
	return false
}

// TestWalkOffTheEnd: a walk that begins where no memory can be, or comes to the end of it,
// ends as onfault says, and the process goes on.
func TestWalkOffTheEnd(t *testing.T) {
	m := newMachine(t)
	m.mapAt(dataAt+dataLen, 0x1000, 0, 0) // PROT_NONE
	p := peerGuard(t, "k := 0\nfor i := range n { if *libpie.At[uint8](a + libpie.Addr(i)) == '*' { k++ } }\nif k > 10 { return libpie.Reject(int32(-2)) }")
	l := m.layout()
	c := compileUnit(t, p, Site{}, l)
	m.place(c, l, ModeEnforce)
	m.installHandler(c.Faults, oldDefault, 0)
	for _, addr := range []uint64{0, 8, minAddress - 1, 1 << 47, 1<<63 + 1, uint64(dataAt) + dataLen - 10, 1<<47 - 10} {
		in := filled(8)
		in.GPR[amd64.RDI], in.GPR[amd64.RSI] = addr, 256
		m.poke64(stackAt+stackLen-0x1000+8, uint64(m.returned))
		if outcome, out := m.call(l.Code, in); outcome != hasReturned || uint32(out.GPR[amd64.RAX]) != 0xffffffff || out.GPR[amd64.RDI] != addr {
			t.Errorf("%#x: outcome %d, rax %#x; want a rejection with -1", addr, outcome, out.GPR[amd64.RAX])
		}
	}
}
