package amd64

import (
	"math/bits"
	"strings"
)

// Reg is a general-purpose register by its hardware number (Intel SDM vol. 2,
// table 3-1). The operand size belongs to the instruction, not to the register.
type Reg uint8

// The sixteen general-purpose registers.
const (
	RAX Reg = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
	// NoReg stands for an absent base or index.
	NoReg Reg = 0xff
)

var regNames = [...]string{
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
}

func (r Reg) String() string {
	if int(r) < len(regNames) {
		return regNames[r]
	}
	return "none"
}

// XMM is a vector register, 0 to 15.
type XMM uint8

// RegSet is a set of general-purpose registers; bit n is Reg(n).
type RegSet uint16

// Set returns the set of the given registers; NoReg is left out.
func Set(regs ...Reg) RegSet {
	var s RegSet
	for _, r := range regs {
		s = s.With(r)
	}
	return s
}

// Has reports whether r is in the set.
func (s RegSet) Has(r Reg) bool { return r < 16 && s&(1<<r) != 0 }

// With returns the set with r added.
func (s RegSet) With(r Reg) RegSet {
	if r >= 16 {
		return s
	}
	return s | 1<<r
}

// Without returns the set with r taken out.
func (s RegSet) Without(r Reg) RegSet {
	if r >= 16 {
		return s
	}
	return s &^ (1 << r)
}

// Len returns how many registers are in the set.
func (s RegSet) Len() int { return bits.OnesCount16(uint16(s)) }

// Regs returns the registers of the set in ascending hardware number.
func (s RegSet) Regs() []Reg {
	regs := make([]Reg, 0, s.Len())
	for m := uint16(s); m != 0; m &= m - 1 {
		regs = append(regs, Reg(bits.TrailingZeros16(m)))
	}
	return regs
}

// String lists the set, e.g. "{rax r10}".
func (s RegSet) String() string {
	names := make([]string, 0, s.Len())
	for _, r := range s.Regs() {
		names = append(names, r.String())
	}
	return "{" + strings.Join(names, " ") + "}"
}
