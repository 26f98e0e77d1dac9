package compile

import (
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Arguments arrive in r1–r5 whatever registers they come from, rings included.
func TestCallArguments(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		n := 1 + r.IntN(5)
		e := emitter{color: make([]int8, 16)}
		i := insn{op: opCall, dst: 15}
		e.color[15] = bpf.R0
		var regs [bpf.NumRegs]int64
		for k := range regs {
			regs[k] = int64(100 + k)
		}
		var want []int64
		for k := range n {
			if r.IntN(4) == 0 {
				i.args = append(i.args, operand{c: int64(k)})
				want = append(want, int64(k))
				continue
			}
			c := r.IntN(8) // r0–r7; several arguments may be in one
			e.color[k+1] = int8(c)
			i.args = append(i.args, operand{r: reg(k + 1)})
			want = append(want, regs[c])
		}
		e.call(&i, bpf.R0)
		for _, m := range e.insns[:len(e.insns)-1] {
			switch m.Op {
			case bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX:
				regs[m.Dst] = regs[m.Src]
			case bpf.ClassALU64 | bpf.AluMOV:
				regs[m.Dst] = int64(m.Imm)
			default:
				t.Fatalf("unexpected %+v", m)
			}
		}
		for k := range want {
			if regs[bpf.R1+k] != want[k] {
				t.Fatalf("colours %v, arguments %v: r%d is %d, want %d\n%s", e.color, i.args, k+1, regs[bpf.R1+k], want[k], bpf.Disassemble(e.insns))
			}
		}
		for k := bpf.R6; k < bpf.NumRegs; k++ {
			if regs[k] != int64(100+k) {
				t.Fatalf("r%d was overwritten", k)
			}
		}
	}
}

// A copy at a control-flow edge happens as if at once.
func TestCopyTo(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		l := newLowerer(&module{})
		n := 1 + r.IntN(6)
		l.regs = reg(n) + firstReg
		vals := map[reg]int64{}
		var dst []reg
		var src []operand
		var want []int64
		for k := range n {
			d := firstReg + reg(k)
			vals[d] = int64(100 + k)
			dst = append(dst, d)
		}
		for range n {
			if r.IntN(4) == 0 {
				src = append(src, operand{c: 7})
				want = append(want, 7)
				continue
			}
			s := firstReg + reg(r.IntN(n))
			src = append(src, operand{r: s})
			want = append(want, vals[s])
		}
		l.copyTo(dst, src)
		for _, i := range l.cur.insns {
			v := i.a.c
			if i.a.r != 0 {
				v = vals[i.a.r]
			}
			vals[i.dst] = v
		}
		for k, d := range dst {
			if vals[d] != want[k] {
				t.Fatalf("%v ← %v: %d is %d, want %d", dst, src, d, vals[d], want[k])
			}
		}
	}
}
