package verify

import (
	"encoding/binary"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// A span is the offsets that an access may begin at, from its region's base.
type span struct{ lo, hi int64 }

func (p span) exact() bool { return p.lo == p.hi }

// offsets says in words where an access may begin.
func offsets(v value, off int16) string {
	p, ok := spanOf(v, off)
	switch {
	case !ok:
		return "an offset without bounds"
	case p.exact():
		return fmt.Sprintf("offset %d", p.lo)
	}
	return fmt.Sprintf("offsets %d to %d", p.lo, p.hi)
}

// maxOffset is far beyond any region of the guard's own memory.
const maxOffset = 1 << 30

// spanOf adds the instruction's offset to an address; ok is false when it may
// be anywhere.
func spanOf(v value, off int16) (p span, ok bool) {
	if v.num.R.SMin < -maxOffset || v.num.R.SMax > maxOffset {
		return span{}, false
	}
	return span{v.num.R.SMin + int64(off), v.num.R.SMax + int64(off)}, true
}

// note records what an instruction accesses on this path.
func (a *analysis) note(pc int, r Region, p span) *Error {
	x := &a.seen[pc].access
	here := Access{Region: r, Offset: int(p.lo), Known: p.exact()}
	switch {
	case x.Region == RegionNone:
		*x = here
	case x.Region == r:
		x.Known = x.Known && here.Known && x.Offset == here.Offset
	case x.Region == RegionFrame || r == RegionFrame:
		return refuse(pc, ReasonFrameMixed, "accesses the frame on one path to here and memory on another")
	case x.Region == RegionTarget || r == RegionTarget:
		*x = Access{Region: RegionTarget}
	default:
		*x = Access{Region: RegionMixed}
	}
	if x.Region == RegionFrame && !x.Known {
		return refuse(pc, ReasonFrameVariable, "accesses the frame at an offset that is not the same on every path")
	}
	if !x.Known {
		x.Offset = 0
	}
	return nil
}

// load runs LDX; goesOn is false when it certainly faults.
func (a *analysis) load(ctx *context, pc int, s *state, i bpf.Insn) (goesOn bool, err *Error) {
	base, err := a.read(pc, s, i.Src)
	if err != nil {
		return false, err
	}
	var v value
	goesOn = true
	switch {
	case base.kind == kindFrame:
		v, err = a.loadFrame(pc, s, base, i)
	case base.kind == kindStack:
		v, err = a.loadStack(ctx, pc, s, base, i)
	case base.kind == kindRodata:
		v, err = a.loadRodata(pc, base, i)
	case base.kind == kindState:
		v, err = number(loaded(i)), a.stateWord(pc, base, i)
	case base.kind == kindSymbol && a.insideSymbol(base, i):
		p, _ := spanOf(base, i.Off)
		v, err = number(loaded(i)), a.note(pc, RegionSymbol, p)
	default:
		v = number(loaded(i))
		goesOn, err = a.loadTarget(ctx, pc, base, i)
	}
	if err != nil {
		return false, err
	}
	s.regs[i.Dst] = v
	return goesOn, nil
}

func loaded(i bpf.Insn) scalar.Set { return scalar.Loaded(i.Width(), i.Mode() == bpf.ModeMEMSX) }

// SymbolBytes is how many bytes at a symbol's address a guard may read without
// it counting as a read that can fault: the two words of a Go error, which locate
// found mapped and which the Go runtime never unmaps. Of other variables neither
// size nor alignment is known here, so that a word there may reach into a page
// that is not mapped.
func SymbolBytes(k bpf.SymbolKind) int {
	if k == bpf.SymbolGoError {
		return 16
	}
	return 0
}

func (a *analysis) insideSymbol(base value, i bpf.Insn) bool {
	p, ok := spanOf(base, i.Off)
	return ok && p.lo >= 0 && p.hi+int64(i.Width()) <= int64(SymbolBytes(a.unit.Symbols[base.base].Kind))
}

// loadTarget reads an address of the target: it may fault, and certainly does
// where nothing can be mapped.
func (a *analysis) loadTarget(ctx *context, pc int, base value, i bpf.Insn) (goesOn bool, err *Error) {
	if ctx.landing {
		return false, refuse(pc, ReasonLandingFaults, "reads the target in an onfault or onfuel action, where a fault has nowhere to go")
	}
	if err := a.note(pc, RegionTarget, span{0, 1}); err != nil {
		return false, err
	}
	a.seen[pc].faults = true
	at := scalar.ALU(addImm, base.asNumber().num, scalar.Const(uint64(int64(i.Off))))
	goesOn = at.R.UMax >= bpf.MinAddress && at.R.UMin < bpf.EndAddress
	a.seen[pc].passes = a.seen[pc].passes || goesOn
	return goesOn, nil
}

func (a *analysis) loadFrame(pc int, s *state, base value, i bpf.Insn) (value, *Error) {
	p, err := a.frameOffset(pc, base, i)
	if err != nil {
		return value{}, err
	}
	switch {
	case p < bpf.FrameArg+8*bpf.FrameArgs:
		return a.word(s, int(p-bpf.FrameArg)/8), nil
	case p == bpf.FrameSP:
		return a.word(s, bpf.FrameArgs), nil
	case p == bpf.FrameReturn:
		return a.word(s, bpf.FrameArgs+1), nil
	}
	return value{}, refuse(pc, ReasonFrameRead, "reads offset %d of the frame, which cannot be read", p)
}

// frameOffset is where the frame is accessed: in whole words at one place.
func (a *analysis) frameOffset(pc int, base value, i bpf.Insn) (int64, *Error) {
	p, ok := spanOf(base, i.Off)
	if !ok || !p.exact() {
		return 0, refuse(pc, ReasonFrameVariable, "accesses the frame at an offset that is not known")
	}
	if i.Width() != 8 || i.IsLoad() && i.Mode() != bpf.ModeMEM || p.lo%8 != 0 || p.lo < 0 || p.lo >= bpf.FrameSize {
		return 0, refuse(pc, ReasonFrameAccess, "accesses %d bytes at offset %d of the frame; only its aligned 8-byte words can be", i.Width(), p.lo)
	}
	return p.lo, a.note(pc, RegionFrame, p)
}

func (a *analysis) loadRodata(pc int, base value, i bpf.Insn) (value, *Error) {
	p, ok := spanOf(base, i.Off)
	n := int64(i.Width())
	if !ok || p.lo < 0 || p.hi+n > int64(len(a.unit.Rodata)) {
		return value{}, refuse(pc, ReasonRodataBounds, "may read %d bytes at %s of the constants, which have %d; check the index first", n, offsets(base, i.Off), len(a.unit.Rodata))
	}
	v := number(loaded(i))
	if p.exact() {
		var buf [8]byte
		copy(buf[:], a.unit.Rodata[p.lo:][:n])
		v = constant(binary.LittleEndian.Uint64(buf[:]))
		if i.Mode() == bpf.ModeMEMSX {
			v.num = v.num.SignExtend(uint(8 * n))
		}
	}
	return v, a.note(pc, RegionRodata, p)
}

// store runs ST, STX and atomics.
func (a *analysis) store(ctx *context, pc int, s *state, i bpf.Insn) *Error {
	base, err := a.read(pc, s, i.Dst)
	if err != nil {
		return err
	}
	v := constant(uint64(int64(i.Imm)))
	if i.Class() == bpf.ClassSTX {
		if v, err = a.read(pc, s, i.Src); err != nil {
			return err
		}
	}
	toTarget := base.kind == kindScalar || base.kind == kindSymbol
	if r := a.seen[pc].access.Region; r != RegionNone && (r == RegionTarget) != toTarget {
		return refuse(pc, ReasonStoreMixed, "writes to the target on one path to here and to the guard's own memory on another")
	}
	switch {
	case i.IsAtomic() && base.kind == kindState:
		return a.atomicState(pc, s, base, v, i)
	case i.IsAtomic():
		return a.atomic(ctx, pc, s, base, v, i)
	case base.kind == kindFrame:
		return a.storeFrame(pc, s, base, v, i)
	case base.kind == kindStack:
		if i.Class() == bpf.ClassSTX && i.Width() == 8 {
			v = a.copied(s, i.Src)
		}
		return a.storeStack(ctx, pc, s, base, v, i)
	case base.kind == kindState:
		return a.storeState(pc, base, v, i)
	case base.kind == kindRodata:
		return refuse(pc, ReasonStoreRodata, "writes to a constant")
	}
	return a.storeTarget(ctx, pc, base, v, i)
}

func (a *analysis) storeFrame(pc int, s *state, base, v value, i bpf.Insn) *Error {
	p, err := a.frameOffset(pc, base, i)
	if err != nil {
		return err
	}
	if v.pointer() {
		return refuse(pc, ReasonPointerLeak, "gives %v of the guard to the target as a result", v.kind)
	}
	switch {
	case p >= bpf.FrameResult && p < bpf.FrameResult+8*bpf.FrameResults:
		s.stored |= 1 << ((p - bpf.FrameResult) / 8)
	case p == bpf.FrameXMM0:
		s.stored |= storedXMM0
	case p == bpf.FrameErrno:
		s.stored |= storedErrno
	case p == bpf.FrameCode:
		s.stored |= storedCode
	default:
		return refuse(pc, ReasonFrameWrite, "writes offset %d of the frame, which cannot be written", p)
	}
	return nil
}
