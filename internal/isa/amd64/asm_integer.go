package amd64

import (
	"encoding/binary"
	"errors"
	"math"
)

// sized returns the form of an integer instruction whose byte variant is op and
// whose other sizes are op+1, the rule of the one-byte opcode map.
func sized(size Size, op byte) pattern {
	f := pattern{op: []byte{op + 1}}
	switch size {
	case 1:
		f.op[0], f.bytes = op, true
	case 2:
		f.prefix = 0x66
	case 8:
		f.wide = true
	}
	return f
}

// digit is sized for an instruction that ModRM.reg tells from others.
func digit(size Size, op byte) pattern {
	f := sized(size, op)
	f.digit = true
	return f
}

// Mov is mov dst, src. With size 4 the upper half of dst becomes 0.
func (a *Asm) Mov(size Size, dst, src Reg) { a.rr(sized(size, 0x88), uint8(src), uint8(dst)) }

// Load is mov dst, [m]; size 1 and 2 keep the rest of dst: see LoadZX.
func (a *Asm) Load(size Size, dst Reg, m Mem) { a.rm(sized(size, 0x8a), uint8(dst), m, 0) }

// Store is mov [m], src.
func (a *Asm) Store(size Size, m Mem, src Reg) { a.rm(sized(size, 0x88), uint8(src), m, 0) }

// StoreImm is mov [m], v; v is sign-extended from 32 bits for size 8.
func (a *Asm) StoreImm(size Size, m Mem, v int32) {
	a.rm(digit(size, 0xc6), 0, m, int(min(size, 4)))
	a.imm(min(size, 4), int64(v))
}

// MovImm loads a 64-bit constant in the shortest form that keeps the flags.
func (a *Asm) MovImm(dst Reg, v int64) {
	switch {
	case v >= 0 && v <= math.MaxUint32:
		if dst >= R8 {
			a.Raw(0x41)
		}
		a.Raw(0xb8 | byte(dst)&7)
		a.imm(4, v)
	case v >= math.MinInt32 && v < 0:
		a.rr(pattern{op: []byte{0xc7}, wide: true}, 0, uint8(dst))
		a.imm(4, v)
	default:
		b, _ := rex(true, 0, 0, uint8(dst))
		a.Raw(b, 0xb8|byte(dst)&7)
		a.buf = binary.LittleEndian.AppendUint64(a.buf, uint64(v))
	}
}

// extension returns the form of movzx (0f b6) or movsx (0f be) from a source of
// the given size; movsxd is 63.
func extension(op byte, from Size, wide bool) pattern {
	if from == 4 {
		return pattern{op: []byte{0x63}, wide: true}
	}
	f := pattern{op: []byte{0x0f, op}, wide: wide, bytes: from == 1}
	if from == 2 {
		f.op[1]++
	}
	return f
}

// MovZX zero-extends the low from bytes of src into all of dst.
func (a *Asm) MovZX(from Size, dst, src Reg) {
	if from == 4 {
		a.Mov(4, dst, src)
		return
	}
	a.rr(extension(0xb6, from, false), uint8(dst), uint8(src))
}

// MovSX sign-extends the low from bytes of src into dst; to is 4 (the upper
// half becomes 0) or 8.
func (a *Asm) MovSX(to, from Size, dst, src Reg) {
	if from >= to {
		a.Mov(to, dst, src)
		return
	}
	a.rr(extension(0xbe, from, to == 8), uint8(dst), uint8(src))
}

// LoadZX loads from bytes, zero-extended into all of dst.
func (a *Asm) LoadZX(from Size, dst Reg, m Mem) {
	if from >= 4 {
		a.Load(from, dst, m)
		return
	}
	f := extension(0xb6, from, false)
	f.bytes = false // the byte is in memory
	a.rm(f, uint8(dst), m, 0)
}

// LoadSX loads from bytes, sign-extended to 64 bits.
func (a *Asm) LoadSX(from Size, dst Reg, m Mem) {
	if from == 8 {
		a.Load(8, dst, m)
		return
	}
	f := extension(0xbe, from, true)
	f.bytes = false
	a.rm(f, uint8(dst), m, 0)
}

// Lea is lea dst, [m], 64-bit.
func (a *Asm) Lea(dst Reg, m Mem) { a.rm(pattern{op: []byte{0x8d}, wide: true}, uint8(dst), m, 0) }

// Arith is a two-operand arithmetic instruction by its number in the opcode map.
type Arith uint8

// The eight instructions of group 1.
const (
	Add Arith = iota
	Or
	Adc
	Sbb
	And
	Sub
	Xor
	Cmp
)

// Op is op dst, src.
func (a *Asm) Op(op Arith, size Size, dst, src Reg) {
	a.rr(sized(size, byte(op)<<3), uint8(src), uint8(dst))
}

// OpLoad is op dst, [m].
func (a *Asm) OpLoad(op Arith, size Size, dst Reg, m Mem) {
	a.rm(sized(size, byte(op)<<3|2), uint8(dst), m, 0)
}

// OpStore is op [m], src.
func (a *Asm) OpStore(op Arith, size Size, m Mem, src Reg) {
	a.rm(sized(size, byte(op)<<3), uint8(src), m, 0)
}

// group1 returns the form and immediate size of op with constant v.
func group1(size Size, v int32) (pattern, Size) {
	f := digit(size, 0x80)
	if size == 1 {
		return f, 1
	}
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		f.op[0] = 0x83
		return f, 1
	}
	return f, min(size, 4)
}

// OpImm is op dst, v; v is sign-extended for size 8.
func (a *Asm) OpImm(op Arith, size Size, dst Reg, v int32) {
	f, n := group1(size, v)
	a.rr(f, uint8(op), uint8(dst))
	a.imm(n, int64(v))
}

// OpStoreImm is op [m], v.
func (a *Asm) OpStoreImm(op Arith, size Size, m Mem, v int32) {
	f, n := group1(size, v)
	a.rm(f, uint8(op), m, int(n))
	a.imm(n, int64(v))
}

// Test is test x, y.
func (a *Asm) Test(size Size, x, y Reg) { a.rr(sized(size, 0x84), uint8(y), uint8(x)) }

// TestImm is test x, v.
func (a *Asm) TestImm(size Size, x Reg, v int32) {
	a.rr(digit(size, 0xf6), 0, uint8(x))
	a.imm(min(size, 4), int64(v))
}

// Unary is a one-operand instruction of group 3.
type Unary uint8

// Group 3 without test. Mul, IMul1, Div and IDiv work on rdx:rax.
const (
	Not   Unary = 2
	Neg   Unary = 3
	Mul   Unary = 4
	IMul1 Unary = 5
	Div   Unary = 6
	IDiv  Unary = 7
)

// Un is op r.
func (a *Asm) Un(op Unary, size Size, r Reg) { a.rr(digit(size, 0xf6), uint8(op), uint8(r)) }

// Inc is inc qword [m].
func (a *Asm) Inc(m Mem) { a.rm(digit(8, 0xfe), 0, m, 0) }

// LockInc is lock inc qword [m].
func (a *Asm) LockInc(m Mem) {
	a.Raw(0xf0)
	a.rm(digit(8, 0xfe), 0, m, 0)
}

// Shift is a shift or rotate of group 2.
type Shift uint8

// Group 2.
const (
	Rol Shift = 0
	Ror Shift = 1
	Shl Shift = 4
	Shr Shift = 5
	Sar Shift = 7
)

// ShiftImm is op r, n.
func (a *Asm) ShiftImm(op Shift, size Size, r Reg, n uint8) {
	if n == 1 {
		a.rr(digit(size, 0xd0), uint8(op), uint8(r))
		return
	}
	a.rr(digit(size, 0xc0), uint8(op), uint8(r))
	a.Raw(n)
}

// ShiftCL is op r, cl.
func (a *Asm) ShiftCL(op Shift, size Size, r Reg) {
	a.rr(digit(size, 0xd2), uint8(op), uint8(r))
}

// Shrd is shrd dst, src, n: dst becomes src:dst >> n.
func (a *Asm) Shrd(size Size, dst, src Reg, n uint8) {
	a.rr(pattern{op: []byte{0x0f, 0xac}, wide: size == 8}, uint8(src), uint8(dst))
	a.Raw(n)
}

// IMul is imul dst, src.
func (a *Asm) IMul(size Size, dst, src Reg) {
	a.rr(pattern{op: []byte{0x0f, 0xaf}, wide: size == 8}, uint8(dst), uint8(src))
}

// IMulImm is imul dst, src, v.
func (a *Asm) IMulImm(size Size, dst, src Reg, v int32) {
	f := pattern{op: []byte{0x69}, wide: size == 8}
	n := Size(4)
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		f.op[0], n = 0x6b, 1
	}
	a.rr(f, uint8(dst), uint8(src))
	a.imm(n, int64(v))
}

// SignExtendA is cdq (size 4) or cqo (size 8): rdx becomes the sign of rax.
func (a *Asm) SignExtendA(size Size) {
	if size == 8 {
		a.Raw(0x48)
	}
	a.Raw(0x99)
}

// Bswap reverses the bytes of r; size is 4 or 8.
func (a *Asm) Bswap(size Size, r Reg) {
	if b, need := rex(size == 8, 0, 0, uint8(r)); need {
		a.Raw(b)
	}
	a.Raw(0x0f, 0xc8|byte(r)&7)
}

// Bsf is bsf dst, src: the index of the lowest set bit. dst is undefined when
// src is 0.
func (a *Asm) Bsf(size Size, dst, src Reg) {
	a.rr(pattern{op: []byte{0x0f, 0xbc}, wide: size == 8}, uint8(dst), uint8(src))
}

// Bts is bts r, bit: sets bit (modulo the size) of r, and CF to what it was.
func (a *Asm) Bts(size Size, r, bit Reg) {
	a.rr(pattern{op: []byte{0x0f, 0xab}, wide: size == 8}, uint8(bit), uint8(r))
}

// Xchg is xchg x, y.
func (a *Asm) Xchg(size Size, x, y Reg) { a.rr(sized(size, 0x86), uint8(y), uint8(x)) }

// XchgMem is xchg [m], r: atomic without a lock prefix.
func (a *Asm) XchgMem(size Size, m Mem, r Reg) { a.rm(sized(size, 0x86), uint8(r), m, 0) }

// LockXadd is lock xadd [m], r: r becomes what m was.
func (a *Asm) LockXadd(size Size, m Mem, r Reg) {
	a.Raw(0xf0)
	a.rm(pattern{op: []byte{0x0f, 0xc1}, wide: size == 8}, uint8(r), m, 0)
}

// LockCmpxchg is lock cmpxchg [m], r: if rax equals m then m becomes r and ZF is
// set, else rax becomes m.
func (a *Asm) LockCmpxchg(size Size, m Mem, r Reg) {
	a.Raw(0xf0)
	a.rm(pattern{op: []byte{0x0f, 0xb1}, wide: size == 8}, uint8(r), m, 0)
}

// LockOp is lock op [m], src; op is not Cmp.
func (a *Asm) LockOp(op Arith, size Size, m Mem, src Reg) {
	if op == Cmp {
		a.fail(errors.New("cmp cannot be locked"))
	}
	a.Raw(0xf0)
	a.OpStore(op, size, m, src)
}

// Push is push r.
func (a *Asm) Push(r Reg) {
	if r >= R8 {
		a.Raw(0x41)
	}
	a.Raw(0x50 | byte(r)&7)
}

// Pop is pop r.
func (a *Asm) Pop(r Reg) {
	if r >= R8 {
		a.Raw(0x41)
	}
	a.Raw(0x58 | byte(r)&7)
}

// PushImm pushes v, sign-extended to 64 bits.
func (a *Asm) PushImm(v int32) {
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		a.Raw(0x6a, byte(v))
		return
	}
	a.Raw(0x68)
	a.imm(4, int64(v))
}

// PushMem is push qword [m]. An operand based on rsp is read before the push.
func (a *Asm) PushMem(m Mem) { a.rm(pattern{op: []byte{0xff}}, 6, m, 0) }

// PopMem is pop qword [m]. An operand based on rsp is addressed after the pop.
func (a *Asm) PopMem(m Mem) { a.rm(pattern{op: []byte{0x8f}}, 0, m, 0) }
