package amd64

import (
	"errors"
	"fmt"

	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/address"
)

// ErrUndecodable means that the bytes are no instruction this package knows,
// or one that processors of different vendors read differently.
var ErrUndecodable = errors.New("not a known instruction")

// ErrTruncated means that the code ends inside the instruction.
var ErrTruncated = errors.New("code ends inside an instruction")

// MaxInstLen is the longest instruction, in bytes (Intel SDM vol. 2, 2.3.11).
const MaxInstLen = 15

// Flow is where control goes after an instruction.
type Flow uint8

// Kinds of flow.
const (
	FlowNext         Flow = iota // the following instruction, and nothing else
	FlowJump                     // Target, always
	FlowCond                     // Target or the following instruction (jcc, loop, jrcxz, xbegin)
	FlowCall                     // Target, and back to the following instruction
	FlowIndirectJump             // where a register or memory says
	FlowIndirectCall             // where a register or memory says, and back
	FlowReturn                   // ret, iret, retf
	FlowTrap                     // never goes on here: ud0–ud2, hlt, int3, int1
	FlowSystem                   // syscall, sysenter, int n: the kernel, and back; the kernel may back the pc up to restart it
)

// Inst is one decoded instruction.
type Inst struct {
	Addr   address.Addr
	Len    int
	Flow   Flow
	Target address.Addr // of FlowJump, FlowCond and FlowCall
	// RIPRel says that a memory operand is addressed relative to the next
	// instruction; Mem is what it addresses.
	RIPRel bool
	Mem    address.Addr

	enc encoding
}

// Next returns the address of the following instruction.
func (i Inst) Next() address.Addr { return i.Addr.Add(int64(i.Len)) }

// Falls reports whether control can reach the following instruction without
// leaving the function first.
func (i Inst) Falls() bool {
	return i.Flow == FlowNext || i.Flow == FlowCond || i.Flow == FlowSystem
}

// Bytes returns the instruction's bytes.
func (i Inst) Bytes() []byte { return i.enc.code }

// IsEndbr reports whether the instruction is endbr64.
func (i Inst) IsEndbr() bool {
	return i.enc.rep == 0xf3 && i.enc.space == space0F && i.enc.opcode == 0x1e && i.enc.modrm == 0xfa
}

// String gives the instruction in GNU syntax.
func (i Inst) String() string {
	if i.IsEndbr() {
		return "endbr64"
	}
	if x, ok := i.Asm(); ok {
		return x86asm.GNUSyntax(x, uint64(i.Addr), nil)
	}
	return fmt.Sprintf("(%d bytes: % x)", i.Len, i.enc.code)
}

// Asm returns golang.org/x/arch's view of the instruction. It is false where
// that package does not know the instruction or gets its length wrong, so that
// nothing is concluded from a misreading.
func (i Inst) Asm() (x86asm.Inst, bool) {
	x, err := x86asm.Decode(i.enc.code, 64)
	if err != nil || x.Op == 0 || x.Len != i.Len {
		return x86asm.Inst{}, false
	}
	return x, true
}

// Decode reads the instruction at the start of code, which runs at address at.
// The result aliases code. Errors wrap ErrUndecodable or ErrTruncated.
//
// The length is computed from the opcode maps here, not by x86asm: that one
// takes endbr64 for one byte and vzeroupper for four, silently, and either
// would put a jump into the middle of an instruction.
func Decode(code []byte, at address.Addr) (Inst, error) {
	var i Inst
	if err := i.Decode(code, at); err != nil {
		return Inst{}, err
	}
	return i, nil
}

// Decode is the function Decode in place, for who reads a whole program. After an error
// the instruction is none.
func (i *Inst) Decode(code []byte, at address.Addr) error {
	*i = Inst{Addr: at}
	e := &i.enc
	if err := e.parse(code); err != nil {
		return fmt.Errorf("decode %v: %w", at, err)
	}
	i.Len = e.len
	i.Flow = e.flow()
	switch i.Flow {
	case FlowJump, FlowCond, FlowCall:
		i.Target = i.Next().Add(e.immediate())
	}
	if e.ripRelative() {
		i.RIPRel = true
		i.Mem = i.Next().Add(e.displacement())
	}
	return nil
}

// flow classifies the instruction by its opcode.
func (e *encoding) flow() Flow {
	switch e.space {
	case spaceOne:
		return e.flowOne()
	case space0F:
		switch {
		case e.opcode >= 0x80 && e.opcode <= 0x8f:
			return FlowCond
		case e.opcode == 0x05, e.opcode == 0x34:
			return FlowSystem
		case e.opcode == 0x07, e.opcode == 0x35:
			return FlowReturn
		case e.opcode == 0x0b, e.opcode == 0xb9, e.opcode == 0xff:
			return FlowTrap
		}
	}
	return FlowNext
}

func (e *encoding) flowOne() Flow {
	switch op := e.opcode; {
	case op >= 0x70 && op <= 0x7f, op >= 0xe0 && op <= 0xe3:
		return FlowCond
	case op == 0xe8:
		return FlowCall
	case op == 0xe9, op == 0xeb:
		return FlowJump
	case op == 0xc2, op == 0xc3, op == 0xca, op == 0xcb, op == 0xcf:
		return FlowReturn
	case op == 0xcc, op == 0xf1, op == 0xf4:
		return FlowTrap
	case op == 0xcd:
		return FlowSystem
	case op == 0xc7 && e.modrm == 0xf8:
		return FlowCond // xbegin: an abort continues at the target
	case op == 0xff:
		switch e.reg() & 7 {
		case 2, 3:
			return FlowIndirectCall
		case 4, 5:
			return FlowIndirectJump
		}
	}
	return FlowNext
}

// IsNop reports whether the instruction is one of the nops compilers pad with:
// 90, 66 90, 0f 1f.
func (i Inst) IsNop() bool {
	e := &i.enc
	switch {
	case e.space == spaceOne && e.opcode == 0x90:
		return e.rex&1 == 0 && e.rep == 0
	case e.space == space0F && e.opcode == 0x1f:
		return e.modrm>>3&7 == 0
	}
	return e.space == spaceOne && (e.opcode == 0x89 || e.opcode == 0x8d) && i.movesNothing()
}

// movesNothing reports `mov %rsi,%rsi` and `lea 0(%rsi),%rsi` with 64 bits.
func (i Inst) movesNothing() bool {
	e := &i.enc
	if !e.rexW() {
		return false
	}
	if e.opcode == 0x89 {
		return e.isReg() && e.rm() == e.reg()
	}
	return e.isMem() && e.base() == e.reg() && e.index() == NoReg && e.displacement() == 0
}

// Pushed returns the register that a 64-bit push of a register pushes.
func (i Inst) Pushed() (Reg, bool) {
	e := &i.enc
	if e.space != spaceOne || e.opcode < 0x50 || e.opcode > 0x57 || e.size16 {
		return NoReg, false
	}
	return e.opReg(), true
}
