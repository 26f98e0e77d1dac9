package jit

import (
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
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

// A loop over a piece of memory asks once a round whether its end is reached: what At
// would ask again is known.
func TestLoopAsksOnce(t *testing.T) {
	text := []byte(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id X-1

//pie:guard exe=x func=f onfault=pass onfuel=pass
func F(c *libpie.Call, a libpie.Addr, n int32) libpie.Verdict {
	m := c.Bytes(a, int(n))
	sum := 0
	for i := 0; i < m.Len(); i++ {
		sum += int(m.At(i))
	}
	if sum > 1000 {
		return libpie.RejectVoid()
	}
	return libpie.Pass()
}
`)
	files := map[string][]byte{"guard.go": text}
	src, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	f, err := lower(compiled(t, "guard.go", src, files)[0].p)
	if err != nil {
		t.Fatal(err)
	}
	simplify(f)
	branches := 0
	for _, b := range f.blocks {
		if b.term == termBranch {
			branches++
		}
	}
	if branches > 4 { // the length below 0 and above the most, the loop, the sum
		t.Errorf("%d branches", branches)
	}
}
