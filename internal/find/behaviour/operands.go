package behaviour

import (
	"golang.org/x/arch/x86/x86asm"
)

// general tells number and bytes of a general register, and whether it is ah, ch, dh or bh;
// the number of another is -1.
func general(r x86asm.Reg) (n, size int, high bool) {
	switch {
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), 1, false
	case r >= x86asm.AH && r <= x86asm.BH:
		return int(r - x86asm.AH), 1, true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, 1, false
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), 2, false
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), 4, false
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), 8, false
	}
	return -1, 0, false
}

// vectorRegister tells the number of one of xmm0 to xmm15.
func vectorRegister(a x86asm.Arg) (int, bool) {
	r, ok := a.(x86asm.Reg)
	if !ok || r < x86asm.X0 || r > x86asm.X15 {
		return 0, false
	}
	return int(r - x86asm.X0), true
}

func (m *run) register(r x86asm.Reg) uint64 {
	n, size, high := general(r)
	if n < 0 {
		m.stop()
		return 0
	}
	v := m.regs[n]
	if high {
		v >>= 8
	}
	return v & mask(size)
}

func (m *run) setRegister(r x86asm.Reg, v uint64) {
	n, size, high := general(r)
	switch {
	case n < 0:
		m.stop()
		return
	case high:
		m.regs[n] = m.regs[n]&^0xff00 | v&0xff<<8
	case size == 4:
		m.regs[n] = v & mask(4)
	default:
		m.regs[n] = m.regs[n]&^mask(size) | v&mask(size)
	}
	m.wrote(n)
}

// wrote notes that a general register has another value.
func (m *run) wrote(n int) {
	m.origins[n] = origin{}
	for i, a := range argumentRegisters {
		if int(a) == n {
			m.written |= 1 << i
		}
	}
}

// address of an operand in memory, without a segment's base when bare.
func (m *run) address(mem x86asm.Mem, bare bool) uint64 {
	a := uint64(mem.Disp)
	switch mem.Base {
	case 0:
	case x86asm.RIP:
		a += m.rip
	default:
		a += m.register(mem.Base)
	}
	if mem.Index != 0 {
		a += m.register(mem.Index) * uint64(mem.Scale)
	}
	if !bare && (mem.Segment == x86asm.FS || mem.Segment == x86asm.GS) {
		a += threadAt
	}
	return a
}

// size is the bytes of an operand: of a general register or memory 1 to 8, or the run ends.
func (m *run) size(x *x86asm.Inst, i int) int {
	n := x.DataSize / 8
	switch a := x.Args[i].(type) {
	case x86asm.Reg:
		_, n, _ = general(a)
	case x86asm.Mem:
		n = x.MemBytes
	}
	if n < 1 || n > 8 {
		m.stop()
		return 8
	}
	return n
}

func (m *run) get(x *x86asm.Inst, i int) uint64 {
	switch a := x.Args[i].(type) {
	case x86asm.Reg:
		if n, ok := vectorRegister(a); ok {
			return m.xmm[n][0]
		}
		return m.register(a)
	case x86asm.Mem:
		return m.load(m.address(a, false), min(x.MemBytes, 8))
	case x86asm.Imm:
		return uint64(a)
	case x86asm.Rel:
		return m.rip + uint64(int64(a))
	}
	m.stop()
	return 0
}

func (m *run) set(x *x86asm.Inst, i int, v uint64) {
	switch a := x.Args[i].(type) {
	case x86asm.Reg:
		m.setRegister(a, v)
	case x86asm.Mem:
		m.store(m.address(a, false), min(x.MemBytes, 8), v)
	default:
		m.stop()
	}
}

// signExtended is a number of n bytes with its sign.
func signExtended(v uint64, n int) int64 {
	s := 64 - 8*uint(n)
	return int64(v<<s) >> s
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
