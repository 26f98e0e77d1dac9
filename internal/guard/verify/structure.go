package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// MaxInsns is the longest guard in instruction slots. The code region of an
// arena is 64 KiB, and no slot becomes fewer than four bytes of machine code.
const MaxInsns = 16 << 10

// checkStructure is the first pass: what each instruction says by itself.
// After it every instruction is one of RFC 9669 (or a load of PIE's own), names
// registers, symbols, rodata and helpers that exist, and jumps to the start of
// another one.
func checkStructure(u *bpf.Unit) *Error {
	n := len(u.Insns)
	switch {
	case n == 0:
		return refuse(-1, ReasonEmpty, "the guard has no instructions")
	case n > MaxInsns:
		return refuse(-1, ReasonTooLong, "the guard has %d instructions, more than %d; split it", n, MaxInsns)
	case u.State > bpf.MaxState || u.State%8 != 0:
		return refuse(-1, ReasonStateRange, "the prepatch has %d bytes of state; at most %d, in words of 8, can be had", u.State, bpf.MaxState)
	}
	starts := make([]bool, n+1)
	for pc := 0; pc < n; pc = u.Insns[pc].Next(pc) {
		starts[pc] = true
		if err := checkInsn(u, pc); err != nil {
			return err
		}
	}
	for pc := range n {
		if !starts[pc] {
			continue
		}
		if t, ok := u.Insns[pc].Target(pc); ok {
			if err := checkTarget(pc, t, starts[:n]); err != nil {
				return err
			}
		}
	}
	return checkLandings(u, starts[:n])
}

func checkTarget(pc, t int, starts []bool) *Error {
	switch {
	case t < 0 || t >= len(starts):
		return refuse(pc, ReasonJumpRange, "jumps to instruction %d of %d", t, len(starts))
	case !starts[t]:
		return refuse(pc, ReasonJumpIntoLDDW, "jumps into the middle of a 64-bit load, at %d", t)
	}
	return nil
}

func checkLandings(u *bpf.Unit, starts []bool) *Error {
	for _, t := range []int{u.OnFault, u.OnFuel} {
		if t < 0 || t >= len(starts) || !starts[t] {
			return refuse(-1, ReasonLandingRange, "onfault or onfuel is said to begin at %d, where no instruction begins", t)
		}
	}
	return nil
}

// checkInsn checks the opcode, the fields it uses and those it must leave zero
// (RFC 9669, section 3: unused fields are reserved).
func checkInsn(u *bpf.Unit, pc int) *Error {
	i := u.Insns[pc]
	if i.Dst >= bpf.NumRegs || i.Src >= bpf.NumRegs && !i.IsLDDW() {
		return refuse(pc, ReasonRegister, "names register r%d; there are r0 to r10", max(i.Dst, i.Src))
	}
	switch i.Class() {
	case bpf.ClassALU, bpf.ClassALU64:
		return checkALU(pc, i)
	case bpf.ClassJMP, bpf.ClassJMP32:
		return checkJump(pc, i)
	case bpf.ClassLD:
		return checkWide(u, pc)
	case bpf.ClassLDX:
		return checkLoad(pc, i)
	}
	return checkStore(pc, i)
}

// A fields says which fields an instruction uses; the others must be zero.
type fields struct{ dst, src, off, imm bool }

func (f fields) check(pc int, i bpf.Insn) *Error {
	if !f.dst && i.Dst != 0 || !f.src && i.Src != 0 || !f.off && i.Off != 0 || !f.imm && i.Imm != 0 {
		return refuse(pc, ReasonReserved, "%v: a field that the instruction does not use is not zero", i)
	}
	return nil
}

func unknown(pc int, i bpf.Insn) *Error {
	return refuse(pc, ReasonOpcode, "opcode %#02x (offset %d, immediate %d) does not exist in RFC 9669's base, divmul and atomic groups", i.Op, i.Off, i.Imm)
}

// writable refuses r10 as destination.
func writable(pc int, reg uint8) *Error {
	if reg == bpf.R10 {
		return refuse(pc, ReasonWriteR10, "writes r10, the stack's end, which is read only")
	}
	return nil
}

func checkALU(pc int, i bpf.Insn) *Error {
	if err := writable(pc, i.Dst); err != nil {
		return err
	}
	reg := i.Op&bpf.SrcX != 0
	use := fields{dst: true, src: reg, imm: !reg}
	wide := i.Class() == bpf.ClassALU64
	switch i.Operation() {
	case bpf.AluEND:
		if i.Imm != 16 && i.Imm != 32 && i.Imm != 64 || wide && reg {
			return unknown(pc, i)
		}
		use = fields{dst: true, imm: true}
	case bpf.AluNEG:
		if reg {
			return unknown(pc, i)
		}
		use = fields{dst: true}
	case bpf.AluMOV:
		if _, ok := bpf.ALU(i, 0, 0); !ok || i.Off != 0 && !reg {
			return unknown(pc, i)
		}
		use.off = true
	case bpf.AluDIV, bpf.AluMOD:
		if i.Off != 0 && i.Off != 1 {
			return unknown(pc, i)
		}
		use.off = true
		if !reg && i.Imm == 0 {
			return refuse(pc, ReasonDivZero, "divides by the constant 0")
		}
	case bpf.AluLSH, bpf.AluRSH, bpf.AluARSH:
		if width := 32 << (i.Class() / bpf.ClassALU64); !reg && (i.Imm < 0 || int(i.Imm) >= width) {
			return refuse(pc, ReasonShift, "shifts %d bits by the constant %d", width, i.Imm)
		}
	case bpf.AluADD, bpf.AluSUB, bpf.AluMUL, bpf.AluOR, bpf.AluAND, bpf.AluXOR:
	default:
		return unknown(pc, i)
	}
	return use.check(pc, i)
}

func checkJump(pc int, i bpf.Insn) *Error {
	switch {
	case i.Op == bpf.OpJA:
		return fields{off: true}.check(pc, i)
	case i.Op == bpf.OpJA32:
		return fields{imm: true}.check(pc, i)
	case i.Op == bpf.OpEXIT:
		return fields{}.check(pc, i)
	case i.Op == bpf.OpCALLX:
		return refuse(pc, ReasonCallRegister, "calls through register r%d; only helpers and functions of the guard can be called", i.Dst)
	case i.Op == bpf.OpCALL:
		return checkCall(pc, i)
	case i.IsConditional():
		reg := i.Op&bpf.SrcX != 0
		return fields{dst: true, src: reg, off: true, imm: !reg}.check(pc, i)
	}
	return unknown(pc, i)
}

func checkCall(pc int, i bpf.Insn) *Error {
	if err := (fields{src: true, imm: true}).check(pc, i); err != nil {
		return err
	}
	switch {
	case i.Src > bpf.CallLocal:
		return refuse(pc, ReasonPseudo, "call with source %d; 0 is a helper, 1 a function of the guard", i.Src)
	case i.IsHelperCall() && !bpf.Helper(i.Imm).Known():
		return refuse(pc, ReasonHelper, "calls helper %d, which does not exist", i.Imm)
	}
	return nil
}

// checkWide checks a 64-bit immediate load and what it refers to.
func checkWide(u *bpf.Unit, pc int) *Error {
	i := u.Insns[pc]
	if !i.IsLDDW() {
		return unknown(pc, i)
	}
	if err := writable(pc, i.Dst); err != nil {
		return err
	}
	if pc+1 >= len(u.Insns) || u.Insns[pc+1].Op != 0 {
		return refuse(pc, ReasonLDDW, "64-bit load without its second slot")
	}
	if err := (fields{dst: true, src: true, imm: true}).check(pc, i); err != nil {
		return err
	}
	if err := (fields{imm: true}).check(pc+1, u.Insns[pc+1]); err != nil {
		return err
	}
	v := bpf.Imm64(i, u.Insns[pc+1])
	switch i.Src {
	case 0:
	case bpf.PseudoSymbol:
		if v >= uint64(len(u.Symbols)) {
			return refuse(pc, ReasonSymbolRange, "loads the address of symbol %d of %d", v, len(u.Symbols))
		}
	case bpf.PseudoRodata:
		if v >= uint64(len(u.Rodata)) {
			return refuse(pc, ReasonRodataRange, "loads the address of rodata byte %d of %d", v, len(u.Rodata))
		}
	case bpf.PseudoState:
		if v >= uint64(u.GuardState()) {
			return refuse(pc, ReasonStateRange, "loads the address of byte %d of the state, which has %d", v, u.GuardState())
		}
	default:
		return refuse(pc, ReasonPseudo, "64-bit load with source %d, which names nothing", i.Src)
	}
	return nil
}

func checkLoad(pc int, i bpf.Insn) *Error {
	if i.Mode() != bpf.ModeMEM && (i.Mode() != bpf.ModeMEMSX || i.Width() == 8) {
		return unknown(pc, i)
	}
	if err := writable(pc, i.Dst); err != nil {
		return err
	}
	return fields{dst: true, src: true, off: true}.check(pc, i)
}

func checkStore(pc int, i bpf.Insn) *Error {
	switch {
	case i.IsAtomic():
		return checkAtomic(pc, i)
	case i.Mode() != bpf.ModeMEM:
		return unknown(pc, i)
	case i.Class() == bpf.ClassST:
		return fields{dst: true, off: true, imm: true}.check(pc, i)
	}
	return fields{dst: true, src: true, off: true}.check(pc, i)
}

func checkAtomic(pc int, i bpf.Insn) *Error {
	if i.Width() < 4 {
		return unknown(pc, i)
	}
	if _, ok := bpf.Atomic(i.Imm, 0, 0); !ok && i.Imm != bpf.AtomicCMPXCHG {
		return refuse(pc, ReasonAtomic, "atomic operation %#x does not exist", i.Imm)
	}
	if i.Imm&bpf.AtomicFetch != 0 && i.Imm != bpf.AtomicCMPXCHG {
		return writable(pc, i.Src)
	}
	return nil
}
