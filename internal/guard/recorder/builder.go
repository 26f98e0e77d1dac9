package recorder

import (
	"fmt"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// A builder writes the recorder. Labels below len(u.Insns) are the guard's own
// instructions, those above the builder's.
type builder struct {
	p     *verify.Program
	u     *bpf.Unit
	o     Options
	spill int // stack bytes the guard uses; below them are the recorder's
	at    bpf.Pos

	out    []emitted
	labels map[int]int // instruction by label
	next   int         // the next free label

	cut, panic, finish, publish, pass, onFault, onFuel, copy int // labels
}

// emitted is an instruction, and where it jumps or calls to.
type emitted struct {
	bpf.Insn
	to  int // label, or −1
	pos bpf.Pos
}

func (b *builder) names() {
	for _, l := range []*int{&b.cut, &b.panic, &b.finish, &b.publish, &b.pass, &b.onFault, &b.onFuel, &b.copy} {
		*l = b.label()
	}
}

func (b *builder) label() int {
	b.next++
	return b.next - 1
}

// used reports whether something jumps to a label so far.
func (b *builder) used(label int) bool {
	return slices.ContainsFunc(b.out, func(e emitted) bool { return e.to == label })
}

func (b *builder) here(label int) { b.labels[label] = len(b.out) }

func (b *builder) emit(i bpf.Insn) { b.out = append(b.out, emitted{Insn: i, to: -1, pos: b.at}) }

// alu64 writes dst op= imm.
func (b *builder) alu(op uint8, dst uint8, imm int32) {
	b.emit(bpf.Insn{Op: bpf.ClassALU64 | op, Dst: dst, Imm: imm})
}

// aluReg writes dst op= src.
func (b *builder) aluReg(op uint8, dst, src uint8) {
	b.emit(bpf.Insn{Op: bpf.ClassALU64 | op | bpf.SrcX, Dst: dst, Src: src})
}

func (b *builder) move(dst, src uint8) { b.aluReg(bpf.AluMOV, dst, src) }

func (b *builder) set(dst uint8, imm int32) { b.alu(bpf.AluMOV, dst, imm) }

const dword = bpf.SizeDW | bpf.ModeMEM

func (b *builder) load(dst, src uint8, off int) {
	b.emit(bpf.Insn{Op: bpf.ClassLDX | dword, Dst: dst, Src: src, Off: int16(off)})
}

func (b *builder) loadByte(dst, src uint8) {
	b.emit(bpf.Insn{Op: bpf.ClassLDX | bpf.SizeB | bpf.ModeMEM, Dst: dst, Src: src})
}

func (b *builder) store(dst uint8, off int, src uint8) {
	b.emit(bpf.Insn{Op: bpf.ClassSTX | dword, Dst: dst, Src: src, Off: int16(off)})
}

func (b *builder) storeImm(dst uint8, off int, imm int32) {
	b.emit(bpf.Insn{Op: bpf.ClassST | dword, Dst: dst, Off: int16(off), Imm: imm})
}

func (b *builder) atomic(op int32, dst uint8, off int, src uint8) {
	b.emit(bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeATOMIC, Dst: dst, Src: src, Off: int16(off), Imm: op})
}

// state loads the address of byte off of the state.
func (b *builder) state(dst uint8, off int) {
	b.emit(bpf.Insn{Op: bpf.OpLDDW, Dst: dst, Src: bpf.PseudoState, Imm: int32(off)})
	b.emit(bpf.Insn{})
}

func (b *builder) jump(label int) {
	b.out = append(b.out, emitted{Insn: bpf.Insn{Op: bpf.OpJA}, to: label, pos: b.at})
}

// branch jumps to label when dst op imm, unsigned.
func (b *builder) branch(op uint8, dst uint8, imm int32, label int) {
	b.out = append(b.out, emitted{Insn: bpf.Insn{Op: bpf.ClassJMP | op, Dst: dst, Imm: imm}, to: label, pos: b.at})
}

// branchReg jumps to label when dst op src, unsigned.
func (b *builder) branchReg(op uint8, dst, src uint8, label int) {
	b.out = append(b.out, emitted{Insn: bpf.Insn{Op: bpf.ClassJMP | op | bpf.SrcX, Dst: dst, Src: src}, to: label, pos: b.at})
}

func (b *builder) call(h bpf.Helper) { b.emit(bpf.Insn{Op: bpf.OpCALL, Imm: int32(h)}) }

func (b *builder) callLocal(label int) {
	b.out = append(b.out, emitted{Insn: bpf.Insn{Op: bpf.OpCALL, Src: bpf.CallLocal}, to: label, pos: b.at})
}

func (b *builder) exit() { b.emit(bpf.Insn{Op: bpf.OpEXIT}) }

// The recorder's words on the stack, below the guard's.
const (
	stackSlot  = 0 // address of the call's slot
	stackSpill = 1 // five words
)

// stackAt is the offset from r10 of the recorder's word k.
func (b *builder) stackAt(k int) int { return -b.spill - 8*(k+1) }

// slot loads the address of the call's slot.
func (b *builder) slot(dst uint8) { b.load(dst, bpf.R10, b.stackAt(stackSlot)) }

// assemble resolves the jumps.
func (b *builder) assemble() ([]bpf.Insn, []bpf.Pos, error) {
	insns, pos := make([]bpf.Insn, len(b.out)), make([]bpf.Pos, len(b.out))
	for pc, e := range b.out {
		insns[pc], pos[pc] = e.Insn, e.pos
		if e.to < 0 {
			continue
		}
		d := b.labels[e.to] - pc - 1
		switch {
		case e.IsLocalCall():
			insns[pc].Imm = int32(d)
		case d >= math.MinInt16 && d <= math.MaxInt16:
			insns[pc].Off = int16(d)
		default:
			return nil, nil, &UnsupportedError{fmt.Sprintf("it is too large: %d instructions", len(b.out))}
		}
	}
	return insns, pos, nil
}
