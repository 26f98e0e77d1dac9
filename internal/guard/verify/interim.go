package verify

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// Verify proves that u keeps the contract of package bpf, or says which
// instruction does not. Errors are *Error. Until the analysis of values is in,
// it checks structure only.
func Verify(u *bpf.Unit) (*Program, error) {
	u = cloneUnit(u)
	if err := checkStructure(u); err != nil {
		return nil, err.place(u)
	}
	f, err := newFlow(u)
	if err != nil {
		return nil, err.place(u)
	}
	p := &Program{unit: u, facts: make([]fact, len(u.Insns)), stack: bpf.StackSize}
	for pc := range u.Insns {
		if f.owner[pc] == noOwner {
			continue
		}
		i, x := u.Insns[pc], &p.facts[pc]
		x.reachable, x.live, x.stack, x.fuel = true, 1<<bpf.NumRegs-1, bpf.StackSize, i.IsBackEdge(pc)
		x.faults = i.IsHelperCall()
		base := i.Dst
		if i.IsLoad() {
			base = i.Src
		}
		if i.IsLoad() || i.IsStore() {
			x.access = Access{Region: RegionTarget}
			switch base {
			case bpf.R1:
				x.access = Access{Region: RegionFrame, Offset: int(i.Off), Known: true}
			case bpf.R10:
				x.access = Access{Region: RegionStack, Offset: int(i.Off), Known: true}
			default:
				x.faults = true
			}
		}
	}
	return p, nil
}
