package scalar

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// interesting gives numbers at and near the ends of ranges more often than not.
func interesting(r *rand.Rand) uint64 {
	base := [...]uint64{0, 1, 16, 255, 4096, math.MaxInt32, 1 << 31, math.MaxUint32, 1 << 32, math.MaxInt64, 1 << 63, math.MaxUint64}
	switch r.IntN(4) {
	case 0:
		return r.Uint64() >> r.IntN(64)
	case 1:
		return uint64(int64(r.Uint64()) >> r.IntN(64))
	}
	return base[r.IntN(len(base))] + uint64(r.IntN(5)) - 2
}

// randomSet returns a set with some of its members.
func randomSet(r *rand.Rand) (Set, []uint64) {
	members := []uint64{interesting(r)}
	s := Const(members[0])
	for range r.IntN(3) {
		v := interesting(r)
		members = append(members, v)
		s = s.Join(Const(v))
	}
	switch lo, hi := interesting(r), interesting(r); r.IntN(4) {
	case 0:
		s = Between(min(lo, hi), max(lo, hi))
		members = []uint64{lo, hi, lo + (hi-lo)/2}
		if lo > hi {
			members[2] = hi + (lo-hi)/2
		}
	case 1:
		if s, ok := s.close(); ok {
			return s, members
		}
	}
	return s, members
}

// operations are all arithmetic instructions, sources as registers.
func operations() []bpf.Insn {
	var list []bpf.Insn
	for _, class := range []uint8{bpf.ClassALU, bpf.ClassALU64} {
		for op := uint8(bpf.AluADD); op <= bpf.AluARSH; op += 0x10 {
			list = append(list, bpf.Insn{Op: class | op | bpf.SrcX})
		}
		for _, op := range []uint8{bpf.AluDIV, bpf.AluMOD} {
			list = append(list, bpf.Insn{Op: class | op | bpf.SrcX, Off: 1})
		}
		for _, off := range []int16{8, 16, 32} {
			list = append(list, bpf.Insn{Op: class | bpf.AluMOV | bpf.SrcX, Off: off})
		}
		for _, width := range []int32{16, 32, 64} {
			list = append(list, bpf.Insn{Op: class | bpf.AluEND, Imm: width})
		}
	}
	for _, width := range []int32{16, 32, 64} {
		list = append(list, bpf.Insn{Op: bpf.ClassALU | bpf.AluEND | bpf.SrcX, Imm: width})
	}
	return list
}

func TestALUKeepsEveryMember(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ops := operations()
	for range 60_000 {
		i := ops[r.IntN(len(ops))]
		a, as := randomSet(r)
		b, bs := randomSet(r)
		got := ALU(i, a, b)
		for _, x := range as {
			for _, y := range bs {
				if v, ok := bpf.ALU(i, x, y); ok && !got.Contains(v) {
					t.Fatalf("%v: %#x of %+v and %#x of %+v give %#x, not in %+v", i, x, a, y, b, v, got)
				}
			}
		}
	}
}

func comparisons() []bpf.Insn {
	var list []bpf.Insn
	for _, class := range []uint8{bpf.ClassJMP, bpf.ClassJMP32} {
		for op := range opposites {
			list = append(list, bpf.Insn{Op: class | op | bpf.SrcX})
		}
	}
	return list
}

func TestRefineKeepsEveryMember(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ops := comparisons()
	for range 60_000 {
		i := ops[r.IntN(len(ops))]
		a, as := randomSet(r)
		b, bs := randomSet(r)
		var left [2][2]Set
		var ok [2]bool
		for k, taken := range []bool{false, true} {
			left[k][0], left[k][1], ok[k] = Refine(i, taken, a, b)
		}
		for _, x := range as {
			for _, y := range bs {
				k := 0
				if bpf.Compare(i, x, y) {
					k = 1
				}
				if !ok[k] || !left[k][0].Contains(x) || !left[k][1].Contains(y) {
					t.Fatalf("%v: %#x of %+v and %#x of %+v: taken %d, feasible %v, left %+v", i, x, a, y, b, k, ok[k], left[k])
				}
			}
		}
	}
}

func TestLatticeKeepsEveryMember(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var th Thresholds
	for _, v := range []uint64{16, 100, 1 << 20, math.MaxUint64 - 5} {
		th.Add(v)
	}
	for range 20_000 {
		a, as := randomSet(r)
		b, bs := randomSet(r)
		j, w := a.Join(b), Widen(a, b, &th)
		if !a.Leq(j) || !b.Leq(j) {
			t.Fatalf("join of %+v and %+v is %+v", a, b, j)
		}
		for _, v := range append(as, bs...) {
			if !j.Contains(v) || !w.Contains(v) {
				t.Fatalf("%#x is in %+v or %+v, not in join %+v or widening %+v", v, a, b, j, w)
			}
			m, ok := a.Meet(b)
			if a.Contains(v) && b.Contains(v) && (!ok || !m.Contains(v)) {
				t.Fatalf("%#x is in %+v and %+v, not in meet %+v", v, a, b, m)
			}
			for _, n := range []uint{8, 16, 32} {
				i := bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Off: int16(n)}
				x, _ := bpf.ALU(i, 0, v)
				if a.Contains(v) && !a.SignExtend(n).Contains(x) {
					t.Fatalf("%#x of %+v sign-extended from %d bits is %#x, not in %+v", v, a, n, x, a.SignExtend(n))
				}
				if a.Contains(v) && !a.Truncate(int(n/8)).Contains(v&(1<<n-1)) {
					t.Fatalf("%#x of %+v, low %d bits, is not in %+v", v, a, n, a.Truncate(int(n/8)))
				}
			}
		}
	}
}

// TestSmallNumbersExhaustively tries every pair of small ranges, with every
// member, so that an error at an edge cannot hide behind luck.
func TestSmallNumbersExhaustively(t *testing.T) {
	const n = 6 // −3 … 2
	var sets []Set
	for lo := int64(-n / 2); lo < n/2; lo++ {
		for hi := lo; hi < n/2; hi++ {
			sets = append(sets, SignedBetween(lo, hi))
		}
	}
	for _, i := range operations() {
		for _, a := range sets {
			for _, b := range sets {
				got := ALU(i, a, b)
				for x := a.R.SMin; x <= a.R.SMax; x++ {
					for y := b.R.SMin; y <= b.R.SMax; y++ {
						if v, ok := bpf.ALU(i, uint64(x), uint64(y)); ok && !got.Contains(v) {
							t.Fatalf("%v: %d of %v and %d of %v give %#x, not in %+v", i, x, a, y, b, v, got)
						}
					}
				}
			}
		}
	}
}

func TestPrecision(t *testing.T) {
	add := func(s Set, n uint64) Set {
		return ALU(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD}, s, Const(n))
	}
	below := func(s Set, n uint64) Set {
		d, _, _ := Refine(bpf.Insn{Op: bpf.ClassJMP | bpf.JmpLT}, true, s, Const(n))
		return d
	}
	i32 := Top().SignExtend(32)
	tests := []struct {
		name     string
		got      Set
		min, max int64
	}{
		{"a byte", Loaded(1, false), 0, 255},
		{"a signed half word", Loaded(2, true), -32768, 32767},
		{"a byte and 1", add(Loaded(1, false), 1), 1, 256},
		{"below 16", below(Top(), 16), 0, 15},
		{"below 16, and 1", add(below(Top(), 16), 1), 1, 16},
		{"an int32", i32, math.MinInt32, math.MaxInt32},
		{"an int32 less 5", add(i32, ^uint64(4)), math.MinInt32 - 5, math.MaxInt32 - 5},
		{"masked", ALU(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluAND}, Top(), Const(0x78)), 0, 0x78},
		{"remainder by 10", ALU(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOD}, Top(), Const(10)), 0, 9},
		{"shifted right 60", ALU(bpf.Insn{Op: bpf.ClassALU64 | bpf.AluRSH}, Top(), Const(60)), 0, 15},
	}
	for _, tt := range tests {
		if tt.got.R.SMin != tt.min || tt.got.R.SMax != tt.max {
			t.Errorf("%s: %v, want %d to %d", tt.name, tt.got, tt.min, tt.max)
		}
	}
}
