package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// lowered is a guard in SSA form before anything is made simpler, of which verification has said
// nothing. Its landings are its last instructions.
func lowered(t *testing.T, text string) *function {
	t.Helper()
	u := unit(t, text+"\nmov %r0, 0\nexit", 0, 0)
	u.OnFault, u.OnFuel = len(u.Insns)-2, len(u.Insns)-2
	f, err := lower(guess{u})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// branches counts the branches of f.
func (f *function) branches() (n int) {
	for _, b := range f.blocks {
		if b.term == termBranch {
			n++
		}
	}
	return n
}

// TestIfConvert: a branch over an addition of 1 becomes a number, and no other does.
func TestIfConvert(t *testing.T) {
	for _, c := range []struct {
		name, text string
		branches   int // that are left
	}{
		{"one more", "jne %r2, 42, +1\nadd %r3, 1", 0},
		{"one less", "jsgt %r2, %r4, +1\nsub %r3, 1", 0},
		{"compared in 32 bits", "jne32 %r2, 42, +1\nadd %r3, 1", 0},
		{"where a bit is set", "jset %r2, 4, +1\nja +1\nadd %r3, 1", 0},
		{"where a bit is not set", "jset %r2, 4, +1\nadd %r3, 1", 1},
		{"two numbers", "jne %r2, 42, +2\nadd %r3, 1\nadd %r4, 1", 0},
		{"three numbers", "jne %r2, 42, +3\nadd %r3, 1\nadd %r4, 1\nadd %r5, 1", 1},
		{"one number or its neighbour", "mov %r3, 7\njne %r2, 42, +1\nmov %r3, 8", 0},
		{"one number or another", "mov %r3, 7\njne %r2, 42, +1\nmov %r3, 9", 1},
		{"by 2", "jne %r2, 42, +1\nadd %r3, 2", 1},
		{"in 32 bits", "jne %r2, 42, +1\nadd32 %r3, 1", 1},
		{"multiplied", "jne %r2, 42, +1\nmul %r3, 3", 1},
		{"of another number", "jne %r2, 42, +2\nmov %r3, %r4\nadd %r3, 1", 1},
		{"one more and one less", "jne %r2, 42, +2\nadd %r3, 1\nja +1\nsub %r3, 1", 1},
		{"a read beside it", "jne %r2, 42, +2\nldxb %r5, [%r4+0]\nadd %r3, 1", 1},
		{"a store beside it", "jne %r2, 42, +2\nstxdw [%r10-8], %r2\nadd %r3, 1", 1},
		{"another way to it", "jeq %r4, 9, +1\njne %r2, 42, +1\nadd %r3, 1", 2},
		{"another way behind it", "jeq %r4, 9, +2\njne %r2, 42, +1\nadd %r3, 1", 2},
		{"fuel on the way", "add %r3, 1\njeq %r2, %r3, -2", 1},
		{"a way out", "jne %r2, 42, +3\nadd %r3, 1\nmov %r0, 0\nexit", 1},
	} {
		f := lowered(t, `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
			ldxdw %r4, [%r1+16]
			ldxdw %r5, [%r1+24]
			stdw [%r10-8], 0
		`+c.text+`
			add %r3, %r4
			add %r3, %r5
			ldxdw %r4, [%r10-8]
			add %r3, %r4
			stxdw [%r1+128], %r3
			mov %r0, 0x101
			exit`)
		simplify(f)
		ifConvert(f)
		if n := f.branches(); n != c.branches {
			t.Errorf("%s: %d branches, not %d", c.name, n, c.branches)
		}
	}
}

// evaluate computes v, which is of numbers that are known and of what ifConvert makes of them.
func evaluate(v *value, known map[*value]int64) int64 {
	if n, ok := known[v]; ok {
		return n
	}
	var args []int64
	for _, a := range v.args {
		args = append(args, evaluate(a, known))
	}
	switch v.op {
	case opConst:
		return v.imm
	case opNeg:
		return -args[0]
	case opHolds:
		if holds(uint8(v.imm), v.size, args[0], args[1]) {
			return 1
		}
		return 0
	}
	return compute(v.op, v.width, args[0], args[1])
}

// TestIfConvertNumbers: for every comparison, the number is what the two ways made of it.
func TestIfConvertNumbers(t *testing.T) {
	numbers := []int64{0, 1, 2, -1, 1 << 31, 1<<31 - 1, 1 << 32, 1<<63 - 1, -1 << 63}
	conds := []uint8{bpf.JmpEQ, bpf.JmpGT, bpf.JmpGE, bpf.JmpSET, bpf.JmpNE, bpf.JmpSGT, bpf.JmpSGE, bpf.JmpLT, bpf.JmpLE, bpf.JmpSLT, bpf.JmpSLE}
	constant := func(n int64) *value { return &value{op: opConst, width: 8, imm: n} }
	done := 0
	for _, cond := range conds {
		for form := range 2 * 2 * 2 * 2 * 4 {
			width, turned, step, first := uint8(4+form&1*4), form&2 != 0, int64(form&4/2-1), form&8 != 0
			x, y, n := &value{op: opArg, width: 8}, &value{op: opArg, imm: 1, width: 8}, &value{op: opArg, imm: 2, width: 8}
			if form>>4 > 0 { // a constant, 0 among them
				n = constant(int64(form>>4) - 2)
			}
			to := &value{op: opAdd, width: 8, args: []*value{n, constant(step)}}
			if n.isConst() {
				to = constant(n.imm + step)
			}
			b := &block{term: termBranch, cond: cond, width: width, args: []*value{x, y}}
			if first { // as it stands where a constant is compared with a number
				b.args[0] = constant(1 << 31)
			}
			yes, no, join := &block{preds: []*block{b}}, &block{preds: []*block{b}}, &block{}
			b.succs, yes.succs, no.succs, join.preds = []*block{yes, no}, []*block{join}, []*block{join}, []*block{no, yes}
			phi := &value{op: opPhi, width: 8, args: []*value{n, to}, block: join}
			if turned {
				phi.args = []*value{to, n}
			}
			join.values = []*value{phi}
			if !b.count() {
				if cond != bpf.JmpSET {
					t.Errorf("%#x, form %#x: left as it is", cond, form)
				}
				continue
			}
			done++
			for _, p := range numbers {
				for _, q := range numbers {
					known := map[*value]int64{x: p, y: q}
					if !n.isConst() {
						known[n] = 1<<63 - 1 // one more wraps
					}
					if first {
						p = 1 << 31
					}
					want := evaluate(phi.args[0], known)
					if holds(cond, width, p, q) {
						want = evaluate(phi.args[1], known)
					}
					if got := evaluate(phi.fwd, known); got != want {
						t.Errorf("%#x of %d bytes, %d and %d, form %#x: %d, not %d", cond, width, p, q, form, got, want)
					}
				}
			}
		}
	}
	if done < 10*64 {
		t.Errorf("%d converted", done)
	}
}
