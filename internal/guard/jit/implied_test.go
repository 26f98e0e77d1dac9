package jit

import (
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// TestImplied: for every two comparisons of the same numbers, one behind the other, the
// second is decided exactly as numbers decide it, or left alone.
func TestImplied(t *testing.T) {
	numbers := []int64{0, 1, 2, -1, -2, 1 << 31, 1<<31 - 1, -1 << 31, 1 << 32, 1<<63 - 1, -1 << 63}
	conds := []uint8{bpf.JmpEQ, bpf.JmpGT, bpf.JmpGE, bpf.JmpSET, bpf.JmpNE, bpf.JmpSGT, bpf.JmpSGE, bpf.JmpLT, bpf.JmpLE, bpf.JmpSLT, bpf.JmpSLE}
	decided := 0
	for _, first := range conds {
		for _, second := range conds {
			for form := range 8 {
				taken, swapped, width := form&1, form&2 != 0, uint8(4+form&4)
				x, y := &value{op: opArg, width: 8}, &value{op: opArg, imm: 1, width: 8}
				yes, no := &block{}, &block{}
				b := &block{term: termBranch, cond: second, width: width, args: []*value{x, y}, succs: []*block{yes, no}}
				f := &block{term: termBranch, cond: first, width: width, args: []*value{x, y}, succs: []*block{{}, {}}}
				if swapped {
					f.args = []*value{y, x}
				}
				f.succs[taken] = b
				b.preds, yes.preds, no.preds = []*block{f}, []*block{b}, []*block{b}
				foldImplied(b)
				what := fmt.Sprintf("%#x then %#x, way %d, swapped %t, width %d", first, second, taken, swapped, width)
				outcomes := map[bool]bool{}
				for _, p := range numbers {
					for _, q := range numbers {
						u, v := p, q
						if swapped {
							u, v = q, p
						}
						if holds(first, width, u, v) == (taken == 0) {
							outcomes[holds(second, width, p, q)] = true
						}
					}
				}
				if b.term == termBranch {
					continue
				}
				decided++
				if outcomes[b.succs[0] != yes] {
					t.Errorf("%s: decided, and the other way is possible", what)
				}
			}
		}
	}
	if decided < 200 {
		t.Errorf("%d of %d decided", decided, 8*len(conds)*len(conds))
	}
}

// TestPossible: of constants it is known what a comparison finds, and of 0 that nothing is
// below it where no number is negative.
func TestPossible(t *testing.T) {
	numbers := []int64{0, 1, -1, 1 << 31, 1<<31 - 1, 1 << 32, 1<<63 - 1, -1 << 63}
	for _, width := range []uint8{4, 8} {
		for _, as := range []reading{either, asUnsigned, asSigned} {
			below := uint8(bpf.JmpLT)
			if as == asSigned {
				below = bpf.JmpSLT
			}
			for _, p := range numbers {
				for _, n := range numbers {
					order := greater
					if holds(bpf.JmpEQ, width, p, n) {
						order = equal
					} else if holds(below, width, p, n) {
						order = less
					}
					x, y, other := &value{op: opConst, width: 8, imm: p}, &value{op: opConst, width: 8, imm: n}, &value{op: opArg, width: 8}
					for _, q := range []question{{x, y, width, as}, {x, other, width, as}, {other, y, width, as}} {
						if left := q.possible(); left&order == 0 || q.x != other && q.y != other && left != order {
							t.Errorf("%#x and %#x of %d bytes, reading %d: %03b, and it is %03b", p, n, width, as, left, order)
						}
					}
				}
			}
		}
	}
}

// A loop over a piece of memory asks once a round whether its end is reached: what At
// would ask again is known, whichever way it is written, and what it counts takes no branch.
func TestLoopAsksOnce(t *testing.T) {
	for _, loop := range []string{
		"for i := 0; i < m.Len(); i++ { sum += int(m.At(i)) }",
		"for i := range m.Len() { sum += int(m.At(i)) }",
		"for i := range m.Len() { if m.At(i) == '*' { sum++ } }",
		"for i := range m.Len() { if m.At(i) > 'z' { sum-- } }",
	} {
		f, err := lower(peerGuard(t, "m, sum := c.Bytes(a, int(n)), 0\n"+loop+"\nif sum > 1000 { return libpie.RejectVoid() }"))
		if err != nil {
			t.Fatal(err)
		}
		simplify(f)
		ifConvert(f)
		if n := f.branches(); n > 4 { // the length below 0 and above the most, the loop, the sum
			t.Errorf("%s: %d branches", loop, n)
		}
	}
}
