package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// unusualResults returns a warning for each constant that a guard rejects with
// and the function never returns: its callers may rely on the range. It says
// nothing where the function's results are not a few constants.
func unusualResults(p *verify.Program, f Function) []string {
	if f.Go || f.Size == 0 {
		return nil
	}
	usual, ok := amd64.Returned(f.code(), f.Entry)
	if !ok {
		return nil
	}
	var warnings []string
	for _, v := range rejectedWith(p) {
		if !slices.Contains(usual, v) {
			warnings = append(warnings, fmt.Sprintf("a rejected call returns %d, which %s itself never does (it returns %s): callers may rely on that",
				v, f.Name, list(usual)))
		}
	}
	return warnings
}

// rejectedWith returns the constants that p stores as its first result word,
// their low 32 bits, ascending.
func rejectedWith(p *verify.Program) []int32 {
	var all []int32
	for i, insn := range p.Unit().Insns {
		a := p.Access(i)
		if a.Region != verify.RegionFrame || a.Offset != bpf.FrameResult {
			continue
		}
		switch insn.Class() {
		case bpf.ClassST:
			all = append(all, insn.Imm)
		case bpf.ClassSTX:
			if v, ok := p.Const(i, int(insn.Src)); ok {
				all = append(all, int32(v))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func list(values []int32) string {
	words := make([]string, len(values))
	for n, v := range values {
		words[n] = fmt.Sprint(v)
	}
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " or " + words[last]
	}
	return words[0]
}
