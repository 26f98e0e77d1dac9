package amd64

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
)

// ErrOutOfReach says that a RIP-relative displacement does not fit 32 bits.
var ErrOutOfReach = errors.New("target is more than 2 GiB away")

// Asm assembles instructions for one fixed address, so that RIP-relative
// operands name absolute addresses. Errors stick: emit freely, ask at Bytes.
//
// Branches to labels that are already bound take the short form when they can;
// those forward take rel32, so that no byte moves once written; Reach and Shorten
// make a second round shorter.
type Asm struct {
	base   address.Addr
	buf    []byte
	labels []int // offset in buf, −1 while unbound
	fixups []fixup

	branches []int  // fixups of branches to labels, or settled
	short    []bool // which of those to labels ahead are short
	err      error
}

// Label names a place in the code being assembled.
type Label int

// fixup is a distance of size bytes, 4 or 1, at off that wants to be that from end
// to label.
type fixup struct {
	off, end int
	label    Label
	size     int
}

// Size is an operand size in bytes: 1, 2, 4 or 8.
type Size uint8

// Mem is a memory operand: base + index×scale + disp, or an absolute address or
// label reached RIP-relative. FS makes it relative to the fs segment.
type Mem struct {
	Base, Index Reg // NoReg when absent
	Scale       uint8
	Disp        int32
	FS          bool

	rip    bool
	addr   address.Addr
	label  Label
	labels bool
}

// At returns the operand [base + disp].
func At(base Reg, disp int32) Mem { return Mem{Base: base, Index: NoReg, Scale: 1, Disp: disp} }

// Indexed returns the operand [base + index×scale + disp]; scale is 1, 2, 4 or
// 8; base may be NoReg, index may not be RSP.
func Indexed(base, index Reg, scale uint8, disp int32) Mem {
	return Mem{Base: base, Index: index, Scale: scale, Disp: disp}
}

// Abs returns the operand at an absolute address, encoded RIP-relative.
func Abs(a address.Addr) Mem { return Mem{Base: NoReg, Index: NoReg, rip: true, addr: a} }

// LabelMem returns the operand at a label, encoded RIP-relative.
func LabelMem(l Label) Mem {
	return Mem{Base: NoReg, Index: NoReg, rip: true, label: l, labels: true}
}

// FSAt returns the operand fs:[disp], fs:[base + disp] when base is a register.
func FSAt(base Reg, disp int32) Mem {
	return Mem{Base: base, Index: NoReg, Scale: 1, Disp: disp, FS: true}
}

// NewAsm returns an assembler whose first byte goes to at.
func NewAsm(at address.Addr) *Asm { return &Asm{base: at} }

// Here returns the address of the next byte.
func (a *Asm) Here() address.Addr { return a.base.Add(int64(len(a.buf))) }

// Len returns how many bytes were emitted.
func (a *Asm) Len() int { return len(a.buf) }

// Label returns a new label, not yet bound.
func (a *Asm) Label() Label {
	a.labels = append(a.labels, -1)
	return Label(len(a.labels) - 1)
}

// Bind binds l to the next byte.
func (a *Asm) Bind(l Label) {
	if a.labels[l] >= 0 {
		a.fail(fmt.Errorf("label %d is bound twice", l))
		return
	}
	a.labels[l] = len(a.buf)
}

// Bound returns where l is; ok is false while it is unbound.
func (a *Asm) Bound(l Label) (at address.Addr, ok bool) {
	if a.labels[l] < 0 {
		return 0, false
	}
	return a.base.Add(int64(a.labels[l])), true
}

// Bytes returns the code with every label resolved, or the first error met.
func (a *Asm) Bytes() ([]byte, error) {
	for _, f := range a.fixups {
		at := a.labels[f.label]
		if at < 0 {
			a.fail(fmt.Errorf("label %d is used at %v and never bound", f.label, a.base.Add(int64(f.off))))
			break
		}
		d := at - f.end
		if f.size == 1 {
			if d != int(int8(d)) {
				a.fail(fmt.Errorf("a short branch at %v: %w", a.base.Add(int64(f.off)), ErrOutOfReach))
				break
			}
			a.buf[f.off] = byte(int8(d))
			continue
		}
		binary.LittleEndian.PutUint32(a.buf[f.off:], uint32(int32(d)))
	}
	if a.err != nil {
		return nil, fmt.Errorf("assembling at %v: %w", a.base, a.err)
	}
	return a.buf, nil
}

// Raw appends bytes as they are.
func (a *Asm) Raw(b ...byte) { a.buf = append(a.buf, b...) }

// Quad appends an 8-byte little-endian word.
func (a *Asm) Quad(v uint64) { a.buf = binary.LittleEndian.AppendUint64(a.buf, v) }

// Align appends int3 up to a multiple of n bytes from the base, which must be
// aligned so itself.
func (a *Asm) Align(n int) {
	for len(a.buf)%n != 0 {
		a.Raw(0xcc)
	}
}

func (a *Asm) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *Asm) imm(size Size, v int64) {
	switch size {
	case 1:
		a.Raw(byte(v))
	case 2:
		a.buf = binary.LittleEndian.AppendUint16(a.buf, uint16(v))
	default:
		a.buf = binary.LittleEndian.AppendUint32(a.buf, uint32(v))
	}
}

// pattern is what an instruction is made of before its operands.
type pattern struct {
	prefix byte   // 66, f2 or f3; 0 for none
	op     []byte // opcode with its 0f escapes
	wide   bool   // REX.W
	bytes  bool   // byte registers: spl, bpl, sil, dil need a REX
	digit  bool   // ModRM.reg is part of the opcode, not a register
}

// rex builds the REX prefix from reg (ModRM.reg), index and base, and reports
// whether one is needed.
func rex(wide bool, reg, index, base uint8) (byte, bool) {
	b := byte(0x40)
	if wide {
		b |= 8
	}
	b |= reg >> 3 & 1 << 2
	b |= index >> 3 & 1 << 1
	b |= base >> 3 & 1
	return b, b != 0x40
}

// rr emits an instruction with two register operands: reg in ModRM.reg, rm in
// ModRM.rm.
func (a *Asm) rr(f pattern, reg, rm uint8) {
	if f.prefix != 0 {
		a.Raw(f.prefix)
	}
	b, need := rex(f.wide, reg, 0, rm)
	if need || f.bytes && (reg >= 4 && !f.digit || rm >= 4) {
		a.Raw(b)
	}
	a.Raw(f.op...)
	a.Raw(0xc0 | reg&7<<3 | rm&7)
}

// rm emits an instruction with a register and a memory operand. tail is how
// many immediate bytes follow, which a RIP-relative displacement must count.
func (a *Asm) rm(f pattern, reg uint8, m Mem, tail int) {
	if m.FS {
		a.Raw(0x64)
	}
	if f.prefix != 0 {
		a.Raw(f.prefix)
	}
	index, base := uint8(0), uint8(0)
	if m.Index != NoReg {
		index = uint8(m.Index)
	}
	if m.Base != NoReg {
		base = uint8(m.Base)
	}
	b, need := rex(f.wide, reg, index, base)
	if need || f.bytes && reg >= 4 && !f.digit {
		a.Raw(b)
	}
	a.Raw(f.op...)
	if m.rip {
		a.Raw(reg&7<<3 | 5)
		a.relative(m, tail)
		return
	}
	a.modrm(reg, m)
}

// relative emits the displacement of a RIP-relative operand.
func (a *Asm) relative(m Mem, tail int) {
	off := len(a.buf)
	end := off + 4 + tail
	a.imm(4, 0)
	if m.labels {
		a.fixups = append(a.fixups, fixup{off, end, m.label, 4})
		return
	}
	d := int64(m.addr) + int64(m.Disp) - int64(a.base.Add(int64(end)))
	if d != int64(int32(d)) {
		a.fail(fmt.Errorf("operand at %v from %v: %w", m.addr, a.base.Add(int64(off)), ErrOutOfReach))
	}
	binary.LittleEndian.PutUint32(a.buf[off:], uint32(int32(d)))
}

// modrm emits ModRM, SIB and displacement (Intel SDM vol. 2, tables 2-2 and 2-3).
func (a *Asm) modrm(reg uint8, m Mem) {
	reg = reg & 7 << 3
	if m.Base == NoReg { // [index×scale + disp32] or [disp32]
		sib := byte(0x25)
		if m.Index != NoReg {
			sib = scaleBits(m.Scale) | byte(m.Index)&7<<3 | 5
		}
		a.Raw(reg|4, sib)
		a.imm(4, int64(m.Disp))
		return
	}
	mod, dispSize := byte(0x80), Size(4)
	switch {
	case m.Disp == 0 && m.Base&7 != RBP: // rbp and r13 have no form without a displacement
		mod, dispSize = 0, 0
	case m.Disp >= math.MinInt8 && m.Disp <= math.MaxInt8:
		mod, dispSize = 0x40, 1
	}
	switch {
	case m.Index == RSP:
		a.fail(errors.New("rsp cannot be an index"))
	case m.Index != NoReg:
		a.Raw(mod|reg|4, scaleBits(m.Scale)|byte(m.Index)&7<<3|byte(m.Base)&7)
	case m.Base&7 == RSP: // rsp and r12 need a SIB byte
		a.Raw(mod|reg|4, 0x20|byte(m.Base)&7)
	default:
		a.Raw(mod | reg | byte(m.Base)&7)
	}
	if dispSize != 0 {
		a.imm(dispSize, int64(m.Disp))
	}
}

func scaleBits(scale uint8) byte {
	switch scale {
	case 2:
		return 0x40
	case 4:
		return 0x80
	case 8:
		return 0xc0
	}
	return 0
}
