package arm64

import (
	"encoding/binary"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Size is the length of every instruction, in bytes.
const Size = 4

// Reg is a general register. Number 31 is the stack pointer or the zero register,
// as the operand's place in the instruction has it; here only SP has that number.
type Reg uint8

// Registers that have a part in calls (AAPCS64, 6.1).
const (
	FP    Reg = 29
	LR    Reg = 30
	SP    Reg = 31
	NoReg Reg = 0xff
)

// RegSet is a set of the registers 0 to 30: bit n is register n.
type RegSet uint32

// set makes a set of register fields; 31 and NoReg are in none.
func set(regs ...Reg) (s RegSet) {
	for _, r := range regs {
		if r < SP {
			s |= 1 << r
		}
	}
	return s
}

// Flow is where control goes.
type Flow uint8

// Flows.
const (
	FlowNext         Flow = iota
	FlowCond              // to Target or to the next instruction
	FlowJump              // to Target
	FlowCall              // to Target, and back
	FlowIndirectJump      // by a register
	FlowIndirectCall
	FlowReturn
	FlowStop // a breakpoint, an undefined instruction, an exception return
)

// Kind is what an instruction's numbers mean.
type Kind uint8

// Kinds.
const (
	Other   Kind = iota
	Hint         // nop, bti, pac…: what hardening adds and has no operand
	Address      // Target is computed into Dest (adr)
	Page         // the page Target is computed into Dest (adrp)
	Literal      // Dest is loaded from Target
	Add          // Dest = Base + Imm
	Number       // Imm is used with other registers
	Move         // Dest = Imm
	Insert       // Imm replaces 16 bits of Dest, from bit Shift on (movk)
	Memory       // memory at Base + Imm, or with Index, is accessed
)

// Inst is an instruction.
type Inst struct {
	Word uint32
	At   address.Addr
	Flow Flow
	Kind Kind
	// Target is the address that the instruction names relative to its own.
	Target address.Addr
	// Operation is what it does: the word without registers, numbers and distances.
	Operation  uint32
	Dest, Base Reg // NoReg for none
	Imm        int64
	Shift      uint8
	Index      bool // a second register is added to Base
	// Reads and Writes are the general registers; of a call, of those that the
	// instruction itself names.
	Reads, Writes RegSet
}

// Decode reads the instruction at the start of code, which lies at an address.
// It is false for less than a word, and for words that are no instruction.
func Decode(code []byte, at address.Addr) (Inst, bool) {
	if len(code) < Size {
		return Inst{}, false
	}
	i := Inst{Word: binary.LittleEndian.Uint32(code), At: at, Dest: NoReg, Base: NoReg}
	i.Operation = i.Word
	ok := true
	switch i.Word >> 25 & 15 {
	case 0: // UDF, or SME
		if i.Word>>16 == 0 {
			i.Operation, i.Flow = 0, FlowStop
		}
	case 1, 3:
		ok = false
	case 2: // SVE
		i.Operation &= 0xffe0e000
	case 8, 9:
		i.immediate()
	case 10, 11:
		i.branch()
	case 4, 6, 12, 14:
		i.loadStore()
	case 5, 13:
		i.register()
	case 7, 15:
		i.vector()
	}
	return i, ok
}

// field returns n bits of the word, from bit low on.
func (i *Inst) field(low, n uint) uint32 { return i.Word >> low & (1<<n - 1) }

// signed is field with a sign.
func (i *Inst) signed(low, n uint) int64 {
	return int64(int32(i.Word<<(32-low-n)) >> (32 - n))
}

func (i *Inst) bit(n uint) bool { return i.Word>>n&1 != 0 }

func (i *Inst) reg(low uint) Reg { return Reg(i.field(low, 5)) }

// Fields that most classes have at the same place.
func (i *Inst) rd() Reg { return i.reg(0) }
func (i *Inst) rn() Reg { return i.reg(5) }
func (i *Inst) ra() Reg { return i.reg(10) }
func (i *Inst) rm() Reg { return i.reg(16) }

func (i *Inst) relative(words int64) { i.Target = i.At.Add(words * Size) }
