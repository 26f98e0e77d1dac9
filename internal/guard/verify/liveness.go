package verify

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

const argRegs = 1<<bpf.R1 | 1<<bpf.R2 | 1<<bpf.R3 | 1<<bpf.R4 | 1<<bpf.R5

// liveness returns for each instruction the registers whose value before it may
// still be read. A local call is taken to read all its arguments.
func (f *flow) liveness() []uint16 {
	live := make([]uint16, len(f.unit.Insns))
	preds := make([][]int32, len(live))
	var work []int
	for pc := range live {
		if f.owner[pc] == noOwner {
			continue
		}
		work = append(work, pc)
		for _, next := range f.successors(pc) {
			preds[next] = append(preds[next], int32(pc))
		}
	}
	for len(work) > 0 {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		var out uint16
		for _, next := range f.successors(pc) {
			out |= live[next]
		}
		uses, defs := effects(f.unit.Insns[pc])
		in := out&^defs | uses | 1<<bpf.R10
		if in == live[pc] {
			continue
		}
		live[pc] = in
		for _, p := range preds[pc] {
			work = append(work, int(p))
		}
	}
	return live
}

// effects returns which registers an instruction reads, and which it sets or
// leaves undefined.
func effects(i bpf.Insn) (uses, defs uint16) {
	dst, src := uint16(1)<<i.Dst, uint16(1)<<i.Src
	switch i.Class() {
	case bpf.ClassALU, bpf.ClassALU64:
		op := i.Operation()
		if op != bpf.AluMOV {
			uses |= dst
		}
		if i.Op&bpf.SrcX != 0 && op != bpf.AluEND {
			uses |= src
		}
		return uses, dst
	case bpf.ClassLD:
		return 0, dst
	case bpf.ClassLDX:
		return src, dst
	case bpf.ClassST:
		return dst, 0
	case bpf.ClassSTX:
		return atomicEffects(i, dst, src)
	}
	switch {
	case i.Op == bpf.OpEXIT:
		return 1 << bpf.R0, 0
	case i.IsLocalCall():
		return argRegs, argRegs | 1<<bpf.R0
	case i.IsHelperCall():
		return argRegs & (1<<(bpf.Helper(i.Imm).Args()+1) - 1), argRegs | 1<<bpf.R0
	case i.IsConditional():
		if i.Op&bpf.SrcX != 0 {
			return dst | src, 0
		}
		return dst, 0
	}
	return 0, 0
}

func atomicEffects(i bpf.Insn, dst, src uint16) (uses, defs uint16) {
	uses = dst | src
	switch {
	case !i.IsAtomic():
	case i.Imm == bpf.AtomicCMPXCHG:
		uses |= 1 << bpf.R0
		defs = 1 << bpf.R0
	case i.Imm&bpf.AtomicFetch != 0:
		defs = src
	}
	return uses, defs
}
