package amd64

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Cond is a condition code as encoded in jcc, setcc and cmovcc.
type Cond uint8

// Condition codes. L, GE, LE, G compare signed; B, AE, BE, A unsigned.
const (
	CondO Cond = iota
	CondNO
	CondB
	CondAE
	CondE
	CondNE
	CondBE
	CondA
	CondS
	CondNS
	CondP
	CondNP
	CondL
	CondGE
	CondLE
	CondG
)

// Not returns the opposite condition.
func (c Cond) Not() Cond { return c ^ 1 }

// Jmp jumps to a label.
func (a *Asm) Jmp(l Label) { a.branch(l, []byte{0xeb}, []byte{0xe9}) }

// Jcc jumps to a label when c holds.
func (a *Asm) Jcc(c Cond, l Label) {
	a.branch(l, []byte{0x70 | byte(c)}, []byte{0x0f, 0x80 | byte(c)})
}

func (a *Asm) branch(l Label, short, near []byte) {
	n := len(a.branches)
	at := a.labels[l]
	if at >= 0 && at-(len(a.buf)+2) >= math.MinInt8 {
		a.branches = append(a.branches, settled)
		a.Raw(short...)
		a.Raw(byte(int8(at - (len(a.buf) + 1))))
		return
	}
	a.branches = append(a.branches, len(a.fixups))
	if at < 0 && n < len(a.short) && a.short[n] {
		a.Raw(short...)
		a.fixups = append(a.fixups, fixup{len(a.buf), len(a.buf) + 1, l, 1})
		a.Raw(0)
		return
	}
	a.Raw(near...)
	a.relative(LabelMem(l), 0)
}

// settled stands for a branch back that was short at once: there is nothing to fix up.
const settled = -1

// Shorten makes the assembler, which has nothing written yet, use short branches to
// labels ahead where short says so, which is Reach of a round before: it counts every
// branch to a label, so that one back, which may be short in one round and not in
// the other, moves no other. Bytes fails when one does not reach.
func (a *Asm) Shorten(short []bool) { a.short = short }

// Reach returns, for each branch to a label in the order they were written, whether the
// label was ahead and a short one reaches there even if padding grows by slack bytes. All
// labels are bound.
func (a *Asm) Reach(slack int) []bool {
	out := make([]bool, len(a.branches))
	for i, n := range a.branches {
		if n == settled {
			continue
		}
		f := a.fixups[n]
		d := a.labels[f.label] - f.end
		out[i] = d >= 0 && d <= math.MaxInt8-slack
	}
	return out
}

// JmpTo is jmp rel32 to an address.
func (a *Asm) JmpTo(to address.Addr) {
	a.Raw(0xe9)
	a.relative(Abs(to), 0)
}

// JccTo is jcc rel32 to an address.
func (a *Asm) JccTo(c Cond, to address.Addr) {
	a.Raw(0x0f, 0x80|byte(c))
	a.relative(Abs(to), 0)
}

// JmpMem is jmp qword [m].
func (a *Asm) JmpMem(m Mem) { a.rm(pattern{op: []byte{0xff}}, 4, m, 0) }

// JmpReg is jmp r.
func (a *Asm) JmpReg(r Reg) { a.rr(pattern{op: []byte{0xff}}, 4, uint8(r)) }

// Call calls a label.
func (a *Asm) Call(l Label) {
	a.Raw(0xe8)
	a.relative(LabelMem(l), 0)
}

// CallTo is call rel32 to an address.
func (a *Asm) CallTo(to address.Addr) {
	a.Raw(0xe8)
	a.relative(Abs(to), 0)
}

// CallMem is call qword [m].
func (a *Asm) CallMem(m Mem) { a.rm(pattern{op: []byte{0xff}}, 2, m, 0) }

// Ret is ret.
func (a *Asm) Ret() { a.Raw(0xc3) }

// PushAddr pushes a 64-bit address without a register: push of the low half,
// then a store over the upper half. It is two instructions.
func (a *Asm) PushAddr(v address.Addr) {
	a.Raw(0x68) // sign-extends, so that the upper half may need no store
	a.imm(4, int64(v))
	if int64(v) != int64(int32(v)) {
		a.StoreImm(4, At(RSP, 4), int32(v>>32))
	}
}

// SetCC sets the low byte of r to c; the rest of r stays.
func (a *Asm) SetCC(c Cond, r Reg) {
	a.rr(pattern{op: []byte{0x0f, 0x90 | byte(c)}, bytes: true}, 0, uint8(r))
}

// CMov is cmovcc dst, src. With size 4 the upper half of dst becomes 0 either way.
func (a *Asm) CMov(c Cond, size Size, dst, src Reg) {
	a.rr(pattern{op: []byte{0x0f, 0x40 | byte(c)}, wide: size == 8}, uint8(dst), uint8(src))
}

// Syscall is syscall: it clobbers rcx and r11, and rax holds the result.
func (a *Asm) Syscall() { a.Raw(0x0f, 0x05) }

// Rdtsc reads the time-stamp counter into edx:eax.
func (a *Asm) Rdtsc() { a.Raw(0x0f, 0x31) }

// STC sets, CLC clears the carry flag.
func (a *Asm) STC() { a.Raw(0xf9) }

// CLC clears the carry flag.
func (a *Asm) CLC() { a.Raw(0xf8) }

// Pause is pause.
func (a *Asm) Pause() { a.Raw(0xf3, 0x90) }

// Int3 is int3.
func (a *Asm) Int3() { a.Raw(0xcc) }

// UD2 is ud2: it raises SIGILL.
func (a *Asm) UD2() { a.Raw(0x0f, 0x0b) }

// Endbr64 is endbr64.
func (a *Asm) Endbr64() { a.Raw(0xf3, 0x0f, 0x1e, 0xfa) }

// nops are the recommended multi-byte nops (Intel SDM vol. 2, NOP).
var nops = [...][]byte{
	1: {0x90},
	2: {0x66, 0x90},
	3: {0x0f, 0x1f, 0x00},
	4: {0x0f, 0x1f, 0x40, 0x00},
	5: {0x0f, 0x1f, 0x44, 0x00, 0x00},
	6: {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
	7: {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
	8: {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	9: {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
}

// Nop fills n bytes with as few nops as possible.
func (a *Asm) Nop(n int) {
	for n > 0 {
		k := min(n, len(nops)-1)
		a.Raw(nops[k]...)
		n -= k
	}
}
