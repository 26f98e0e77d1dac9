package compile

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// memory emits what changes memory other than the guard's stack.
func (e *emitter) memory(i *insn, dst uint8) {
	out := bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | sizes[8], Dst: e.colorOf(i.a.r), Off: int16(i.off)}
	switch i.op {
	case opStore:
		if out.Op = bpf.ClassSTX | bpf.ModeMEM | sizes[i.size]; i.b.isConst() {
			out.Op, out.Imm = bpf.ClassST|bpf.ModeMEM|sizes[i.size], int32(i.b.c)
		} else {
			out.Src = e.colorOf(i.b.r)
		}
		e.put(out)
	case opFetchAdd:
		e.set(dst, i.b)
		out.Src, out.Imm = dst, bpf.AtomicADD|bpf.AtomicFetch
		e.put(out)
	case opSwapWord:
		e.set(bpf.R0, i.args[0])
		out.Src, out.Imm = e.colorOf(i.b.r), bpf.AtomicCMPXCHG
		e.put(out)
		e.move(dst, bpf.R0)
	}
}
